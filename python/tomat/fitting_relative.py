"""Fitting relative codecs: bins of the difference from a starting density.

An error in ``x = (rho - g) / s(g)`` is worth ``s(g) / sum|rho|`` of NMAE, so that is the weight of a voxel: the bins
with the least absolute error under these weights have the least mean NMAE over materials.

>>> sketch = relative_sketch(entries, guess, scale)  # doctest: +SKIP
>>> codec = fit_relative(sketch, 256, scale)  # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat import _core
from tomat._threads import in_order
from tomat.codec import RelativeCodec
from tomat.fitting import Sketch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tomat.material import Entry
    from tomat.starting import StartingDensity

#: Mantissa bits of ``x`` that a sketch keeps: 4,096 cells per octave, many to a bin.
_MANTISSA_BITS = 12
#: The float32 number one step above 1, as bits.
_ONE_STEP = 1 << (23 - _MANTISSA_BITS)


@dataclass(frozen=True)
class Scale:
    """``s(g) = offset + factor * sqrt(max(g, 0))``, densities in electrons per cubic angstrom.

    The defaults have, within two per cent, the lowest error of a search over offsets and factors (docs/codecs.md);
    errors depend on their ratio alone, and change little with it.
    """

    offset: float = 0.005
    factor: float = 0.03


def relative_sketch(
    entries: Sequence[Entry],
    guess: StartingDensity,
    scale: Scale,
    *,
    threads: int | None = None,
    watch: Callable[[str], None] | None = None,
) -> Sketch:
    """The sketch of ``(rho - g) / s(g)`` of all densities, with voxels weighted for their part of the NMAE.

    Args:
        entries: materials, as from :func:`tomat.dataset.inputs.resolve_inputs`.
        guess: the starting density.
        scale: ``s(g)``.
        threads: number of threads; one per processor by default.
        watch: called with the id of each material once it is added.

    Raises:
        OSError, ValueError: a density cannot be read or used.
    """
    sketch = Sketch("e_per_A3")
    unit = RelativeCodec(
        [-1.0, 0.0, 1.0], [-0.5, 0.5], [-2.0, 2.0], offset=scale.offset, scale_factor=scale.factor
    )

    def add(entry: Entry) -> None:
        material = entry.read().in_unit("e_per_A3")
        true = material.density.astype(np.float64)
        start = guess.density(material.crystal, material.grid_shape)
        total = np.abs(true).sum()
        weights = unit.scale(start) / total if total > 0.0 else np.zeros_like(true)
        sketch.add_weighted(entry.task_id, _rounded(unit.relative(true, start)).ravel(), weights.ravel())

    for entry, _ in in_order(add, entries, threads):
        if watch is not None:
            watch(entry.task_id)
    return sketch


def fit_relative(
    sketch: _core.Sketch, bins: int, scale: Scale, *, guess: str | None = None, name: str = "relative"
) -> RelativeCodec:
    """Fit a relative codec: the least mean NMAE on the sketch, then the level nearest to zero moved there.

    Args:
        sketch: of :func:`relative_sketch`.
        bins: number of levels, at least 3.
        scale: the one the sketch was made with.
        guess: name of the starting density it was made with; stored in the file, for measuring floors.
        name: of the codec.

    Raises:
        ValueError: an empty sketch, an impossible number of bins, or differences that all have one sign.
    """
    fitted = _core.fit(sketch, bins, method="l1", weighting="material", signed=True, mean_points=False)
    levels: NDArray[np.float32] = fitted["recon_points_median"]
    inner: NDArray[np.float32] = fitted["boundaries"]
    low, high = float(fitted["clip_min"]), float(fitted["clip_max"])
    if not low < 0.0 < high or fitted["bins_used"] < bins or bins < 3:
        raise ValueError(
            f"{bins} bins for differences from {low:g} to {high:g} s(g), of which {fitted['bins_used']} would hold "
            "any; give more densities with differences of both signs, or fewer bins, at least 3"
        )
    zero = int(np.argmin(np.abs(levels)))
    levels[zero] = 0.0
    for edge in range(max(zero - 1, 0), min(zero + 1, len(inner))):
        inner[edge] = np.float32((float(levels[edge]) + float(levels[edge + 1])) / 2)
    about: dict[str, Any] = {
        "sketch": sketch.hash,
        "n_materials": len(sketch.ids),
        "n_voxels": sketch.n_voxels,
        "tomat": _core.__version__,
    }
    if guess is not None:
        about["guess"] = guess
    codec = RelativeCodec(
        levels, inner, (low, high), offset=scale.offset, scale_factor=scale.factor, about=about
    )
    codec.name = name
    return codec


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Float32 with fewer mantissa bits, so that a sketch has few cells; the nearest such number."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + _ONE_STEP // 2) & ~np.uint64(_ONE_STEP - 1)).astype(np.uint32).view(np.float32)
