"""The field model: densities at points in space, from the atoms around them; equal in every cell and orientation."""
