"""Models in one small file: quantised weights, how they are packed, and the file; NumPy only."""
