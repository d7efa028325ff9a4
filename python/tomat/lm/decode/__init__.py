"""Decoding: from token probabilities to densities."""
