"""Densities computed by a program for electronic structure, many at once, in the ``rho_gga`` layout."""
