"""What the field model is trained on: a row of crystals with their atoms and some of their voxels; needs JAX."""

from __future__ import annotations

import equinox as eqx
import haliax as hax


class FieldExample(eqx.Module):
    """One row: up to C crystals with N atoms in all, T atoms each at most, and V voxels of each crystal.

    Attributes:
        features: (N, features) of the atoms' elements.
        crystal: (N,) int32, the crystal of each atom; C for padding.
        place: (N,) int32, index of each atom among those of its crystal.
        atoms: for each l (N, T * (2 l + 1), functions), sums of each atom around the atoms of its crystal.
        voxels: for each l (N, V * (2 l + 1), functions), sums of each atom around the voxels of its crystal.
        guess: (C, V) the promolecule in e/A^3.
        value: (C, V) the density in e/A^3.
        weight: (C, V) float32; the sum of ``weight * |error|`` is the mean NMAE of the crystals. 0 for padding.
    """

    features: hax.NamedArray
    crystal: hax.NamedArray
    place: hax.NamedArray
    atoms: tuple[hax.NamedArray, ...]
    voxels: tuple[hax.NamedArray, ...]
    guess: hax.NamedArray
    value: hax.NamedArray
    weight: hax.NamedArray
