"""The brick model: a transformer over bricks of voxels and atoms in space, with the field model's eyes."""
