"""Densities by ``pw.x`` of Quantum ESPRESSO: pseudopotentials, inputs, runs."""
