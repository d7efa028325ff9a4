"""From the probabilities of a model to densities."""
