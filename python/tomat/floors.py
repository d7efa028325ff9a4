"""Error floors: what a codec alone loses, a lower bound for any model that uses it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat import metrics as of_density
from tomat._threads import in_order
from tomat.codec import Codec, LloydMaxCodec
from tomat.fitting import METHODS, Method, Sketch, Weighting, fit_codec
from tomat.hirshfeld import Hirshfeld
from tomat.material import Entry, Material
from tomat.promolecule import UnscaledPromolecule
from tomat.starting import StartingDensity

#: Numbers of bins that are compared by default.
BINS = (1024, 2048, 4096, 16384, 65536)


@dataclass(frozen=True)
class Floor:
    """The floor of one codec on some materials.

    Attributes:
        codec: name of the codec.
        codec_hash: its content hash.
        unit: unit of the errors.
        tokens: tokens per voxel.
        bins: number of values of each component.
        task_ids: the materials, in order.
        metrics: of each material, in the same order.
        clipped: for each material, the share of its NMAE from values outside the codec's range.
    """

    codec: str
    codec_hash: str
    unit: str
    tokens: int
    bins: list[int]
    task_ids: list[str]
    metrics: list[of_density.Metrics]
    clipped: list[float]

    def summary(self) -> dict[str, of_density.Statistics]:
        """Statistics of the absolute value of each metric over materials."""
        found = {}
        for name in of_density.Metrics._fields:
            values = [getattr(of, name) for of in self.metrics]
            if None not in values:
                found[name] = of_density.statistics(map(abs, values))
        return found

    def as_json(self) -> dict[str, Any]:
        """Everything, for JSON."""
        summary = {name: values._asdict() for name, values in self.summary().items()}
        materials = {
            task_id: {**of._asdict(), "clipped": clipped}
            for task_id, of, clipped in zip(self.task_ids, self.metrics, self.clipped, strict=True)
        }
        facts = {key: getattr(self, key) for key in ("codec", "codec_hash", "unit", "tokens", "bins")}
        return {**facts, "n_materials": len(self.task_ids), "summary": summary, "materials": materials}


def floor(
    codec: Codec,
    entries: Sequence[Entry],
    *,
    unit: str | None = None,
    supercell: int = 1,
    guess: StartingDensity | None = None,
    threads: int | None = None,
    watch: Callable[[str], None] | None = None,
) -> Floor:
    """Encode and decode every voxel of every material, and measure the error.

    Args:
        codec: any density codec.
        entries: materials the codec was not fitted to.
        unit: the unit log codecs encode, ``chgcar`` if None; a fitted codec has its own.
        supercell: number of times each crystal is first repeated along a, b and c.
        guess: starting density for codecs that need one; the promolecule named in the codec if None.
        threads: number of threads; one per processor if None.
        watch: called with the id of each material when it is done.

    Raises:
        OSError, ValueError: a density cannot be read, ``unit`` is not the codec's, or the codec needs a starting
            density and names none.
    """
    start = _starting_density(codec, guess)
    of_codec = codec.unit_for(unit)

    def work(entry: Entry) -> tuple[of_density.Metrics, float]:
        material = entry.read()
        if supercell > 1:
            material = material.supercell((supercell, supercell, supercell))
        return material_floor(codec, material, of_codec, start)

    result = Floor(codec.name, codec.hash, of_codec, len(codec.sizes), list(codec.sizes), [], [], [])
    for entry, (of, clipped) in in_order(work, entries, threads):
        result.task_ids.append(entry.task_id)
        result.metrics.append(of)
        result.clipped.append(clipped)
        if watch is not None:
            watch(entry.task_id)
    return result


def material_floor(
    codec: Codec, material: Material, unit: str, start: StartingDensity | None = None
) -> tuple[of_density.Metrics, float]:
    """All metrics of one material, and the share of its absolute error from values outside the codec's range."""
    true = material.in_unit(unit).density.astype(np.float64)
    guess = None if start is None else start.density(material.crystal, material.grid_shape, unit)
    back = codec.roundtrip(true, guess)
    atoms = Hirshfeld.of(material.crystal, material.grid_shape)
    measured = of_density.measure(back, true, unit=unit, lattice=material.lattice, atoms=atoms)
    return measured, _clipped_share(codec, back, true, guess)


def _starting_density(codec: Codec, given: StartingDensity | None) -> StartingDensity | None:
    if given is not None or not codec.needs_guess:
        return given
    if codec.guess is None:
        raise ValueError(f"codec {codec.name} names no starting density; give the one it was fitted with")
    return UnscaledPromolecule.load(codec.guess)


def _clipped_share(
    codec: Codec,
    back: NDArray[np.float64],
    true: NDArray[np.float64],
    guess: NDArray[np.float64] | None = None,
) -> float:
    """The share of the absolute error from values outside the codec's range."""
    error = np.abs(back - true)
    total = float(error.sum())
    return float(error[codec.clips(true, guess)].sum()) / total if total > 0.0 else 0.0


@dataclass(frozen=True)
class Curve:
    """The floors of one method by number of bins: mean, median and largest NMAE over materials, as fractions."""

    method: str
    bins: list[int] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    median: list[float] = field(default_factory=list)
    largest: list[float] = field(default_factory=list)
    clipped: list[float] = field(default_factory=list)
    on_sketch: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class FloorCurves:
    """Floors of several methods by number of bins, fitted to one sketch and measured on the same materials."""

    unit: str
    weight: str
    signed: bool
    sketch_hash: str
    n_fit: int
    n_test: int
    held_out: bool
    curves: list[Curve]

    def to_csv(self) -> str:
        """One row a method and number of bins."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = ("mean", "median", "largest", "clipped", "on_sketch")
        names = [f"{name}_nmae" if name != "clipped" else name for name in columns]
        writer.writerow(["unit", "weight", "signed", "method", "bins", *names])
        for curve in self.curves:
            for i, bins in enumerate(curve.bins):
                values = [getattr(curve, name)[i] for name in columns]
                writer.writerow([self.unit, self.weight, self.signed, curve.method, bins, *values])
        return text.getvalue()


def floor_curves(
    sketch: Sketch,
    entries: Sequence[Entry],
    *,
    bins: Sequence[int] = BINS,
    methods: Sequence[Method] = METHODS,
    weight: Weighting = "material",
    signed: bool = False,
    threads: int | None = None,
    watch: Callable[[str], None] | None = None,
) -> FloorCurves:
    """Fit every method at every number of bins to ``sketch`` and measure the mean NMAE floor on ``entries``.

    Args:
        sketch: the densities the codecs are fitted to.
        entries: the materials to measure on.
        bins: numbers of bins.
        methods: ways of placing them.
        weight: what a voxel counts for in the fits.
        signed: spend bins below zero.
        threads: fits, and then materials, at work at a time.
        watch: called with a word on each codec and material when it is done.

    Raises:
        OSError, ValueError: a density that cannot be read, or a fit that cannot be.
    """
    wanted = [(method, n) for method in methods for n in bins]

    def fitted(way: tuple[Method, int]) -> LloydMaxCodec:
        return fit_codec(sketch, way[1], method=way[0], weight=weight, signed=signed)

    codecs = [codec for _, codec in in_order(fitted, wanted, threads)]
    if watch is not None:
        watch(f"{len(codecs)} codecs fitted")

    def work(entry: Entry) -> list[tuple[float, float]]:
        true = entry.read().in_unit(sketch.unit).density
        return [_nmae(codec, true) for codec in codecs]

    rows = []
    for entry, row in in_order(work, entries, threads):
        rows.append(row)
        if watch is not None:
            watch(entry.task_id)
    floors = np.array(rows, dtype=np.float64)
    curves = []
    for i, method in enumerate(methods):
        curve = Curve(method)
        for j, n in enumerate(bins):
            at = i * len(bins) + j
            over = of_density.statistics(floors[:, at, 0])
            curve.bins.append(n)
            curve.mean.append(over.mean)
            curve.median.append(over.median)
            curve.largest.append(over.max)
            curve.clipped.append(float(floors[:, at, 1].sum() / max(floors[:, at, 0].sum(), 1e-300)))
            curve.on_sketch.append(float(codecs[at].about["nmae_on_sketch"]))
        curves.append(curve)
    seen = set(sketch.ids)
    held_out = not any(entry.task_id in seen for entry in entries)
    return FloorCurves(sketch.unit, weight, signed, sketch.hash, len(seen), len(entries), held_out, curves)


def _nmae(codec: LloydMaxCodec, true: Any) -> tuple[float, float]:
    """NMAE, and the part of it from values outside the codec's range."""
    values = true.astype(np.float64)
    back = codec.roundtrip(true)
    nmae = of_density.nmae(back, values)
    return nmae, nmae * _clipped_share(codec, back, values)
