"""The fidelity study: tokens and accuracy of different representations of a density."""
