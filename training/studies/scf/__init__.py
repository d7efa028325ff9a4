"""What a density is worth to a DFT code: band energies without SCF, and SCF iterations, by Quantum ESPRESSO."""
