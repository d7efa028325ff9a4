"""Deliberate changes to crystals and patch requests, to test what a model's predictions depend on.

A variant changes either the requests of the patches while the true density stays (``alter``), or the whole material
with its density (``material``); ``back`` then maps the prediction to the original grid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tomat.crystal import Crystal
from tomat.material import Material
from tomat.prediction.assemble import Alteration
from tomat.prediction.predictor import PatchRequest

type Density = NDArray[np.float64]
#: Makes a variant from a material and other ones; None where the probe does not apply.
type Make = Callable[[Material, Generator, Sequence[Material]], Variant | None]


def _same(density: Density) -> Density:
    return density


@dataclass(frozen=True, eq=False)
class Variant:
    """A material changed by a probe.

    Attributes:
        material: the material to predict; its density is the reference.
        what: description of the change.
        alter: changes each patch request; None leaves them.
        back: maps a density on the grid of ``material`` to the grid of the original.
    """

    material: Material
    what: str
    alter: Alteration | None = None
    back: Callable[[Density], Density] = _same


@dataclass(frozen=True)
class Probe:
    """A test of what predictions depend on.

    Attributes:
        name: name of the probe.
        says: what it measures, and which values are good.
        make: makes the variant from a material, a random generator and other materials; returns None where the probe
            does not apply.
        needs: ``guess`` or ``truth`` if it changes that part of a request.
    """

    name: str
    says: str
    make: Make
    needs: str | None = None


def generator(seed: int, task_id: str, probe: str) -> Generator:
    """A random generator that depends only on these arguments, not on the order of materials or probes."""
    digest = hashlib.sha256(f"{seed} {probe} {task_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _other_preamble(material: Material, rng: Generator, others: Sequence[Material]) -> Variant | None:
    own = set(material.atomic_numbers.tolist())
    foreign = [x for x in others if x.task_id != material.task_id and set(x.atomic_numbers.tolist()) != own]
    if not foreign:
        return None
    other = foreign[int(rng.integers(len(foreign)))]
    crystal = other.crystal
    grid = other.grid_shape

    def alter(request: PatchRequest) -> PatchRequest:
        scaled = [o * n // m for o, n, m in zip(request.offset, grid, request.grid_shape, strict=True)]
        return replace(request, crystal=crystal, grid_shape=grid, offset=_triple(scaled))

    return Variant(material, f"the preamble of {other.task_id}", alter)


def _random_preamble(material: Material, rng: Generator, others: Sequence[Material]) -> Variant | None:
    n = len(material.atomic_numbers)
    elements = sorted({int(z) for x in (material, *others) for z in x.atomic_numbers})
    edges = material.volume ** (1.0 / 3.0) * rng.uniform(0.8, 1.25, size=3)
    skew = np.eye(3) + rng.uniform(-0.15, 0.15, size=(3, 3))
    crystal = Crystal.of(
        edges[:, None] * skew,
        rng.choice(elements, size=n).astype(np.int32),
        rng.uniform(size=(n, 3)),
        material.task_id,
    )
    what = "a random cell, random elements, random positions"
    return Variant(material, what, lambda request: replace(request, crystal=crystal))


def _permuted_positions(material: Material, rng: Generator, _others: Sequence[Material]) -> Variant | None:
    if len(set(material.atomic_numbers.tolist())) < 2:
        return None
    # At least one site changes its element; with two elements such a permutation exists.
    order = _permutation(rng, material.atomic_numbers)
    return _shown(material, "elements permuted among the sites", frac_coords=material.frac_coords[order])


def _random_positions(material: Material, rng: Generator, _others: Sequence[Material]) -> Variant | None:
    places = rng.uniform(size=material.frac_coords.shape)
    return _shown(material, "the same atoms at random positions", frac_coords=places)


def _shifted_atoms(material: Material, rng: Generator, _others: Sequence[Material]) -> Variant | None:
    shift = rng.uniform(0.2, 0.8, size=3)
    what = f"all atoms shifted by {_text(shift)} of the cell, the density not"
    return _shown(material, what, frac_coords=material.frac_coords + shift)


def _false_truth(material: Material, rng: Generator, _others: Sequence[Material]) -> Variant | None:
    factor = np.float32(rng.uniform(1.5, 2.5))

    def alter(request: PatchRequest) -> PatchRequest:
        if request.truth is None:
            return request
        return replace(request, truth=np.ascontiguousarray(request.truth[::-1, ::-1, ::-1] * factor))

    return Variant(material, f"a wrong true density: mirrored and scaled by {factor:.2f}", alter)


def _flat_guess(material: Material, _rng: Generator, _others: Sequence[Material]) -> Variant | None:
    def alter(request: PatchRequest) -> PatchRequest:
        if request.guess is None:
            return request
        return replace(request, guess=np.full_like(request.guess, request.guess.mean()))

    return Variant(material, "the starting density replaced by its mean over each patch", alter)


def _permuted_atoms(material: Material, rng: Generator, _others: Sequence[Material]) -> Variant | None:
    if len(material.atomic_numbers) < 2:
        return None
    order = _permutation(rng, np.arange(len(material.atomic_numbers)))
    changed = {"atomic_numbers": material.atomic_numbers[order], "frac_coords": material.frac_coords[order]}
    return _shown(material, "the same atoms, listed in another order", **changed)


def _translated(material: Material, rng: Generator, _others: Sequence[Material]) -> Variant | None:
    """Translate crystal and patches together: every patch keeps its content and gets another offset."""
    grid = np.array(material.grid_shape)
    steps = _steps(rng, grid)
    crystal = replace(material.crystal, frac_coords=material.frac_coords + steps / grid)

    def alter(request: PatchRequest) -> PatchRequest:
        return replace(request, crystal=crystal, offset=_triple((np.array(request.offset) + steps) % grid))

    return Variant(material, f"crystal and patches translated by {_text(steps)} grid points", alter)


def _translated_crystal(material: Material, rng: Generator, _others: Sequence[Material]) -> Variant | None:
    """Translate the crystal and keep the patches: they cut the same density elsewhere."""
    grid = np.array(material.grid_shape)
    steps = _steps(rng, grid)
    rolled = np.roll(material.density, steps, axis=(0, 1, 2))
    return Variant(
        _moved(material, rolled, frac_coords=material.frac_coords + steps / grid),
        f"crystal translated by {_text(steps)} grid points, patches fixed",
        back=lambda density: np.roll(density, -steps, axis=(0, 1, 2)),
    )


def _fractional(material: Material, rng: Generator, _others: Sequence[Material]) -> Variant | None:
    grid = np.array(material.grid_shape)
    steps = rng.uniform(0.2, 0.5, size=3) * rng.choice([-1.0, 1.0], size=3)
    shifted = fourier_shift(material.density.astype(np.float64), steps)
    return Variant(
        _moved(material, shifted, frac_coords=material.frac_coords + steps / grid),
        f"crystal translated by {_text(steps)} grid points (fractional)",
        back=lambda density: fourier_shift(density, -steps),
    )


def fourier_shift(density: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Translate a periodic density (nx, ny, nz) by fractional grid points, by trigonometric interpolation."""
    out = density
    for axis, step in enumerate(steps):
        n = out.shape[axis]
        phases = np.exp(-2j * np.pi * np.fft.rfftfreq(n) * step)
        if n % 2 == 0:
            # The Nyquist frequency of an even grid has no sine part.
            phases[-1] = np.cos(np.pi * step)
        shape = tuple(-1 if i == axis else 1 for i in range(3))
        out = np.fft.irfft(np.fft.rfft(out, axis=axis) * phases.reshape(shape), n=n, axis=axis)
    return np.asarray(out, dtype=np.float64)


def _axes(order: tuple[int, int, int]) -> Make:

    def make(material: Material, _rng: Generator, _others: Sequence[Material]) -> Variant | None:
        turn = list(order)
        changed = {"lattice": material.lattice[turn], "frac_coords": material.frac_coords[:, turn]}
        turned = _moved(material, material.density.transpose(order), **changed)
        what = "cell vectors " + ", ".join("abc"[i] for i in order)
        return Variant(turned, what, back=lambda density: density.transpose(np.argsort(order)))

    return make


def _inverted(material: Material, _rng: Generator, _others: Sequence[Material]) -> Variant | None:
    turned = _moved(material, _flip(material.density), frac_coords=-material.frac_coords)
    return Variant(turned, "inverted through the origin of the cell", back=_flip)


def _flip[T: np.generic](density: NDArray[T]) -> NDArray[T]:
    """rho(-r): point i goes to -i mod n."""
    return np.roll(density[::-1, ::-1, ::-1], 1, axis=(0, 1, 2))


def _shown(material: Material, what: str, **changed: Any) -> Variant:
    """The material with requests that show a changed crystal."""
    crystal = replace(material.crystal, **changed)
    return Variant(material, what, lambda request: replace(request, crystal=crystal))


def _moved(material: Material, density: NDArray[np.floating], **changed: Any) -> Material:
    """The material with a changed crystal and the density that belongs to it."""
    crystal = replace(material.crystal, **changed)
    return replace(material, density=np.ascontiguousarray(density, dtype=np.float32), crystal=crystal)


def _permutation(rng: Generator, values: NDArray[np.integer]) -> NDArray[np.int64]:
    """A random order that changes ``values``, which are not all equal."""
    order = rng.permutation(len(values))
    while (values[order] == values).all():
        order = rng.permutation(len(values))
    return order


def _steps(rng: Generator, grid: NDArray[np.int64]) -> NDArray[np.int64]:
    """A random shift in grid points along each axis, not 0 unless the axis has one point."""
    return np.array([int(rng.integers(1, n)) if n > 1 else 0 for n in grid])


def _triple(values: Sequence[int] | NDArray[np.int64]) -> tuple[int, int, int]:
    x, y, z = (int(value) for value in values)
    return x, y, z


def _text(values: NDArray[np.generic]) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values.tolist()) + ")"


#: All probes by name, in the order tables show them.
PROBES: Mapping[str, Probe] = {
    probe.name: probe
    for probe in (
        Probe("other_preamble", "use of the crystal: large is good", _other_preamble),
        Probe("random_preamble", "use of the crystal: large is good", _random_preamble),
        Probe("permuted_positions", "use of the elements at the sites: large is good", _permuted_positions),
        Probe("random_positions", "use of the atomic positions: large is good", _random_positions),
        Probe("shifted_atoms", "use of the atomic positions: large is good", _shifted_atoms),
        Probe("flat_guess", "use of the starting density: large if it relies on it", _flat_guess, "guess"),
        Probe("false_truth", "leak of the truth: must be 0 unless teacher-forced", _false_truth, "truth"),
        Probe("translated", "translation: 0 by construction for layout v3, to codec precision", _translated),
        Probe("translated_crystal", "dependence on patch boundaries: small is good", _translated_crystal),
        Probe("fractional_shift", "dependence on the grid origin: small is good", _fractional),
        Probe("cyclic_axes", "dependence on the order of the cell vectors: small is good", _axes((1, 2, 0))),
        Probe("swapped_axes", "dependence on the order of the cell vectors: small is good", _axes((1, 0, 2))),
        Probe("inverted", "dependence on inversion: small is good", _inverted),
        Probe("permuted_atoms", "dependence on the order of the atoms: small is good", _permuted_atoms),
    )
}
