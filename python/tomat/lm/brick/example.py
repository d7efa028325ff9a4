"""What the brick model is trained on: a row of crystals with their atoms and a patch of each; needs JAX."""

from __future__ import annotations

import equinox as eqx
import haliax as hax


class BrickExample(eqx.Module):
    """One row: up to C crystals with N atoms in all, T atoms each at most, and a patch of each crystal.

    A patch has B bricks of 64 voxels and P points; the loss is taken at V of its voxels.

    Attributes:
        features: (N, features) of the atoms' elements.
        crystal: (N,) int32, the crystal of each atom; C for padding.
        place: (N,) int32, index of each atom among those of its crystal.
        atoms: for each l (N, T * (2 l + 1), functions), sums of each atom around the atoms of its crystal; empty for a
            model without the field's eyes.
        points: for each l (N, P * (2 l + 1), functions), sums of each atom around the points of its crystal's patch, or
            empty.
        images: (C, A, 3) atom images in angstrom from the middle of the patch.
        sites: (C, A) int32, the atom of each image among the N.
        present: (C, A) float32, 1 for an image, 0 for padding.
        step: (C, 3, 3) angstrom, vectors from a grid point to the next along the three axes.
        patch: (C, B * 64) the starting density in e/A^3, brick by brick.
        voxel: (C, V) int32, places in the patch, brick by brick.
        guess: (C, V) the starting density there in e/A^3.
        value: (C, V) the density in e/A^3.
        weight: (C, V) float32; the sum of ``weight * |error|`` is the mean NMAE of the crystals. 0 for padding.
    """

    features: hax.NamedArray
    crystal: hax.NamedArray
    place: hax.NamedArray
    atoms: tuple[hax.NamedArray, ...]
    points: tuple[hax.NamedArray, ...]
    images: hax.NamedArray
    sites: hax.NamedArray
    present: hax.NamedArray
    step: hax.NamedArray
    patch: hax.NamedArray
    voxel: hax.NamedArray
    guess: hax.NamedArray
    value: hax.NamedArray
    weight: hax.NamedArray
