"""Figures and self-contained pages from results."""
