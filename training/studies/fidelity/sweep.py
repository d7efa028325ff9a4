"""Run the study over materials and representations, resumably, with one part file per material."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tomat import _core, metrics
from tomat.categories import category, reduced_formula
from tomat.codec import ALIASES, LOG_CODECS, bundled_codecs, load_codec
from tomat.material import UNITS, read
from tomat.tokenizer import LAYOUTS
from tomat.workplace import Workplace
from training.studies.fidelity.representations import (
    Field,
    Quantiser,
    Representation,
    Written,
    direct,
    downsampled,
    fourier,
    voxel_cutoff,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tomat.crystal import Crystal
    from tomat.material import Entry, Material

#: Prefix of representations that write down the difference from the promolecule.
PROMOLECULE = "promolecule"

#: Columns of the result, with their Arrow types.
COLUMNS = {
    "task_id": "string",
    "formula": "string",
    "category": "string",
    "representation": "string",
    "family": "string",
    "codec": "string",
    "minus_promolecule": "bool",
    "parameter_name": "string",
    "parameter": "double",
    "voxels": "int64",
    "numbers": "int64",
    "tokens": "int64",
    "tokens_per_voxel": "double",
    **dict.fromkeys(metrics.Metrics._fields, "double"),
    "seconds": "double",
}


class Promolecule(Protocol):
    """A density computed from the crystal alone."""

    def evaluate(
        self,
        crystal: Crystal,
        grid_shape: tuple[int, int, int],
        unit: str,
    ) -> NDArray[np.floating[Any]]:
        """The density (nx, ny, nz) in ``unit`` on a grid of ``grid_shape``."""
        ...


#: An object with ``evaluate``, or any function from a material to a density on its grid, in its unit.
type Reference = Promolecule | Callable[[Material], NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class SweepConfig:
    r"""The configuration of a sweep: what is measured on every material.

    Attributes:
        codecs: names or paths of codecs for the voxels; default all in the package and the log codecs.
        transform_codecs: codecs for Fourier coefficients and for the coarse grid.
        unit: convention that log codecs encode.
        fractions: shares kept of voxels and of Fourier coefficients: equal sparsity for both.
        thresholds: cutoffs in e/A^3.
        masses: shares of the sum of \|density\| kept by the mass cap.
        g_max: cutoffs of \|G\| in 1/A.
        factors: of down-sampling, for each axis.
    """

    codecs: tuple[str, ...] = ()
    transform_codecs: tuple[str, ...] = (LAYOUTS["v3"].default_codec, "fp16_1token", "two_token_9_12")
    unit: str = "chgcar"
    fractions: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
    thresholds: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    masses: tuple[float, ...] = (0.5, 0.9, 0.99, 0.999, 0.9999)
    g_max: tuple[float, ...] = (4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0, 25.0, 30.0)
    factors: tuple[float, ...] = (1.25, 1.5, 2.0, 2.5, 3.0, 4.0)

    def __post_init__(self) -> None:
        """Check ranges, and fill in the codecs of the package."""
        if not self.codecs:
            bundled = [name for name in bundled_codecs() if name not in ALIASES]
            object.__setattr__(self, "codecs", (*bundled, *LOG_CODECS))
        if self.unit not in UNITS:
            raise ValueError(f"unit {self.unit!r} is not one of {', '.join(UNITS)}")
        limits = {
            "fractions": (0.0, 1.0),
            "thresholds": (0.0, np.inf),
            "masses": (0.0, 1.0),
            "g_max": (0.0, np.inf),
        }
        for name, (low, high) in limits.items():
            for value in getattr(self, name):
                if not low < value <= high:
                    raise ValueError(f"{name}: {value} is not above {low:g} and at most {high:g}")
        for value in self.factors:
            if not 1.0 <= value < np.inf:
                raise ValueError(f"factors: {value} is not a finite number of at least 1")

    def representations(self) -> list[Representation]:
        """All of them, in the order of the tables.

        Raises:
            KeyError: an unknown codec.
            OSError, ValueError: a codec file that cannot be read.
        """
        codecs = [Quantiser.of(load_codec(name), self.unit) for name in self.codecs]
        transform: list[Quantiser | None] = [None]
        transform += [Quantiser.of(load_codec(name), self.unit) for name in self.transform_codecs]
        found = [
            direct(),
            *(direct(codec) for codec in codecs),
            voxel_cutoff("fraction", self.fractions),
            voxel_cutoff("threshold", self.thresholds),
            voxel_cutoff("mass", self.masses),
            fourier("fraction", self.fractions),
            *(fourier("g_max", self.g_max, codec) for codec in transform),
            *(downsampled(self.factors, codec) for codec in transform),
        ]
        names = [representation.name for representation in found]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two codecs have the name {name!r}; use files with different names")
        return found

    def identity(self, promolecule: str | None) -> dict[str, Any]:
        """What the results depend on: parameters, content hashes of codecs, the promolecule's name, the version."""
        names = dict.fromkeys((*self.codecs, *self.transform_codecs))
        return {
            "tomat": _core.__version__,
            "columns": list(COLUMNS),
            **{
                key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
            },
            "codec_hashes": {name: load_codec(name).hash for name in names},
            "promolecule": promolecule,
        }


def measure_material(
    material: Material, representations: Sequence[Representation], promolecule: Reference | None = None
) -> Iterator[dict[str, Any]]:
    """Rows (see :data:`COLUMNS`) of one material.

    Raises:
        ValueError: a promolecule that gives the wrong shape, or does not know an element of the material.
    """
    facts = {
        "task_id": material.task_id,
        "formula": reduced_formula(material.atomic_numbers),
        "category": category(material.atomic_numbers),
    }
    true = material.density.astype(np.float64)

    def row(labels: dict[str, Any], written: Written, seconds: float) -> dict[str, Any]:
        measured = metrics.measure(written.values, true, unit=material.unit, lattice=material.lattice)
        return {
            **facts,
            **labels,
            "voxels": true.size,
            "numbers": written.numbers,
            "tokens": written.tokens,
            "tokens_per_voxel": written.tokens / true.size,
            **measured._asdict(),
            "seconds": seconds,
        }

    for way in representations:
        for parameter, written, seconds in _timed(way, Field.of(material)):
            yield row(_labels(way, parameter, promolecule=False), written, seconds)
    if promolecule is None:
        return
    started = time.perf_counter()
    reference = _evaluate(promolecule, material)
    labels = dict.fromkeys(_LABELS) | {
        "representation": PROMOLECULE,
        "family": PROMOLECULE,
        "minus_promolecule": True,
    }
    yield row(labels, Written(reference, 0, 0), time.perf_counter() - started)
    for way in representations:
        for parameter, written, seconds in _timed(way, Field.of(material, reference)):
            whole = Written(written.values + reference, written.numbers, written.tokens)
            yield row(_labels(way, parameter, promolecule=True), whole, seconds)


_LABELS = ("representation", "family", "codec", "minus_promolecule", "parameter_name", "parameter")


def _labels(way: Representation, parameter: float, *, promolecule: bool) -> dict[str, Any]:
    values = (
        f"{PROMOLECULE} + {way.name}" if promolecule else way.name,
        way.family,
        way.codec,
        promolecule,
        way.parameter or None,
        None if np.isnan(parameter) else parameter,
    )
    return dict(zip(_LABELS, values, strict=True))


def _timed(way: Representation, field: Field) -> Iterator[tuple[float, Written, float]]:
    """Each parameter with what is read back and its seconds, those of the preparation they share included."""
    started = time.perf_counter()
    write = way.prepare(field)
    preparation = time.perf_counter() - started
    for parameter in way.parameters:
        started = time.perf_counter()
        written = write(parameter)
        yield parameter, written, preparation + time.perf_counter() - started


def _evaluate(promolecule: Reference, material: Material) -> NDArray[np.float64]:
    shape = material.grid_shape
    try:
        if hasattr(promolecule, "evaluate"):
            values = promolecule.evaluate(material.crystal, shape, material.unit)
        else:
            values = promolecule(material)
    except ValueError as error:
        raise ValueError(f"{material.task_id}: {error}") from error
    reference = np.asarray(values, dtype=np.float64)
    if reference.shape != shape:
        raise ValueError(f"{material.task_id}: the promolecule has shape {reference.shape}, not {shape}")
    return reference


def run_sweep(
    config: SweepConfig,
    entries: Sequence[Entry],
    directory: Path,
    *,
    promolecule: Reference | None = None,
    promolecule_name: str | None = None,
    jobs: int = 1,
    overwrite: bool = False,
    watch: Callable[[str], object] | None = None,
) -> list[dict[str, Any]]:
    """Measure every entry, or take its part file where there is one, and give all rows in the order of ``entries``.

    ``directory`` gets ``sweep.json`` (the configuration, with hashes) and ``parts/``, a JSON file a
    material, each there completely or not at all: a run that was stopped goes on where it was. Nothing else
    is written.

    Args:
        config: what to try.
        entries: materials and where they are.
        directory: made if need be.
        promolecule: adds every representation of the difference from it; picklable where ``jobs`` is above 1.
        promolecule_name: what tells it from others (a file's hash, say); required with ``promolecule``.
        jobs: processes.
        overwrite: drop parts of another configuration instead of stopping.
        watch: called with each material that is done, or was.

    Raises:
        ValueError: the directory holds a study of another configuration; the message says what differs.
        OSError: a density cannot be read.
    """
    if (promolecule is None) != (promolecule_name is None):
        raise ValueError("promolecule and promolecule_name belong together; give both or neither")
    if jobs < 1:
        raise ValueError(f"{jobs} jobs; give at least 1")
    config.representations()
    identity = config.identity(promolecule_name)
    place = Workplace(
        directory, identity, overwrite=overwrite, record="sweep.json", what="configuration", results=()
    )
    waiting = [entry for entry in entries if place.read(entry.task_id, entry.path) is None]
    missing = {entry.task_id for entry in waiting}
    there = (entry.task_id for entry in entries if entry.task_id not in missing)
    for task_id in chain(there, _work(config, waiting, place, promolecule, min(jobs, len(waiting)))):
        if watch:
            watch(task_id)
    parts = (place.read(entry.task_id, entry.path) for entry in entries)
    return [row for part in parts if part for row in part["rows"]]


def _work(
    config: SweepConfig,
    waiting: Sequence[Entry],
    place: Workplace,
    promolecule: Reference | None,
    jobs: int,
) -> Iterator[str]:
    """Yield task ids as they finish."""
    if jobs <= 1:
        for entry in waiting:
            yield _do_one(config, entry, place, promolecule)
        return
    import multiprocessing

    # Not fork: NumPy and Arrow hold threads.
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        futures = [pool.submit(_do_one, config, entry, place, promolecule) for entry in waiting]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise OSError(
            "a worker process was killed (not enough memory?); run the same command again with fewer --jobs, "
            "it goes on where it was"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _do_one(config: SweepConfig, entry: Entry, place: Workplace, promolecule: Reference | None) -> str:
    material = read(entry.path)
    rows = list(measure_material(material, config.representations(), promolecule))
    place.write(entry.task_id, {"task_id": entry.task_id, "path": entry.path, "rows": rows})
    return entry.task_id


def as_table(rows: Sequence[dict[str, Any]]) -> Any:
    """``rows`` as a ``pyarrow.Table`` with the columns of :data:`COLUMNS`."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.type_for_alias(alias)) for name, alias in COLUMNS.items()])
    return pa.Table.from_pylist(list(rows), schema=schema)
