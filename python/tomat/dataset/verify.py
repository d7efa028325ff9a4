"""Verification of datasets: files, rows, counts, and optionally the source densities."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tomat.clipping import ClippedTotals
from tomat.dataset.account import RowError, check_clipped, compare_clipped
from tomat.dataset.crystal_table import StoredCrystal
from tomat.dataset.crystals import crystals_of
from tomat.dataset.manifest import Dataset, Worker, open_dataset
from tomat.dataset.meta import BUDGET, CODEC, COVERAGE, CRYSTALS, META, REASONS, SEAL, changed, is_own, summed
from tomat.dataset.report import Report
from tomat.material import Material, read
from tomat.sampling import coverage_histogram, draw, load_sampler
from tomat.storage.files import read_json
from tomat.storage.remote import at_hand
from tomat.storage.transfer import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tomat.material import Entry
    from tomat.sampling import Sampler
    from tomat.storage.remote import Place, UrlPath
    from tomat.tokenizer import PatchTokenizer

#: Columns of a shard and their types.
COLUMNS = {
    "task_id": pa.string(),
    "offset_x": pa.int32(),
    "offset_y": pa.int32(),
    "offset_z": pa.int32(),
    "input_ids": pa.list_(pa.int32()),
}


@dataclass(frozen=True)
class _Shard:
    task_ids: list[str]
    offsets: NDArray[np.int32]
    ids: NDArray[np.int32]


@dataclass
class _Found:
    """What a worker's rows say about a material; the shapes are None if none of them decodes."""

    grid_shape: tuple[int, int, int] | None = None
    patch_shape: tuple[int, int, int] | None = None
    offsets: list[NDArray[np.int32]] = field(default_factory=list)
    error: RowError = field(default_factory=RowError)
    #: Digest of the source's crystal, where there is a source.
    crystal: str | None = None

    @property
    def rows(self) -> int:
        return sum(map(len, self.offsets))

    @property
    def corners(self) -> NDArray[np.int32]:
        return np.concatenate(self.offsets)


def verify_dataset(
    path: str | Path | UrlPath,
    *,
    source: Sequence[Entry] | None = None,
    allow_partial: bool = False,
    watch: Callable[[str], None] | None = None,
) -> Report:
    """Check a dataset against its own ``meta.json`` and, with ``source``, against its source densities.

    Args:
        path: the dataset directory or URL.
        source: the densities; each is read again, and must give the same rows, offsets and decoded voxels.
        allow_partial: check what is there if workers are missing.
        watch: called with the path of each shard before it is read.

    Raises:
        FileNotFoundError, ValueError: the dataset cannot be opened, see :func:`open_dataset`.
    """
    dataset = open_dataset(path, allow_partial=allow_partial)
    report = Report()
    sources = None if source is None else {entry.task_id: entry for entry in source}
    seen: Counter[str] = Counter()
    clipped = ClippedTotals()
    for worker in dataset.workers:
        rows_before = report.rows
        tokenizer = _tokenizer(dataset, worker, report)
        materials = _WorkerCheck(worker, tokenizer, sources, _sampler(worker, report), report).run(watch)
        seen.update(materials.keys())
        _check_totals(worker, report.rows - rows_before, materials, report)
        clipped.merge(check_clipped(worker, materials, report).stored)
    report.clipped = clipped.stored
    report.materials = len(seen)
    report.problems += [f"{path}: material {name} is in {n} workers" for name, n in seen.items() if n > 1]
    if sources is not None:
        report.problems += [
            f"{path}: material {name} is not among the sources" for name in seen if name not in sources
        ]
    return report


def _tokenizer(dataset: Dataset, worker: Worker, report: Report) -> PatchTokenizer | None:
    """The tokenizer by a worker's own codec and ``meta.json``; None, with a problem, if they do not fit."""
    try:
        return Dataset(dataset.path, (worker,)).tokenizer
    except (OSError, ValueError, KeyError) as error:
        message = error.args[0] if isinstance(error, KeyError) else error
        report.problems.append(f"{worker.path}: its rows cannot be decoded: {message}")
        return None


def _sampler(worker: Worker, report: Report) -> Sampler | None:
    """The sampler in ``meta.json``; None if the offsets cannot be checked. Other programs do not state one."""
    spec = worker.meta.get("sampler")
    try:
        return None if spec is None else load_sampler(str(spec)).sampler
    except (KeyError, ValueError) as error:
        message = error.args[0] if error.args else error
        report.notes.append(f"{worker.path}: the offsets are not checked: {message}")
        return None


@dataclass(frozen=True)
class _WorkerCheck:
    """The verification of one worker's shards; without a tokenizer, only of their files."""

    worker: Worker
    tokenizer: PatchTokenizer | None
    sources: dict[str, Entry] | None
    sampler: Sampler | None
    report: Report

    def run(self, watch: Callable[[str], None] | None) -> dict[str, _Found]:
        """Check all shards; the materials found in them."""
        worker, problems = self.worker, self.report.problems
        materials: dict[str, _Found] = {}
        listed = {shard["name"] for shard in worker.shards}
        listed |= {CRYSTALS} if "crystals_sha256" in worker.meta else set()
        stray = sorted(path.name for path in worker.path.glob("*.parquet") if path.name not in listed)
        problems += [f"{worker.path / name}: not listed in meta.json" for name in stray]
        for shard in worker.shards:
            path = worker.path / shard["name"]
            if watch is not None:
                watch(str(path))
            if not path.exists():
                problems.append(f"{path}: missing")
                continue
            with at_hand(path) as local:
                found = self._file(path, local, shard)
            if found is None:
                continue
            for name in found.keys() & materials.keys():
                problems.append(f"{path}: rows of {name} are split across shards")
                found[name].offsets = materials[name].offsets + found[name].offsets
            materials.update(found)
            self.report.shards += 1
        return materials

    def _file(self, path: Place, local: Path, shard: dict[str, Any]) -> dict[str, _Found] | None:
        """The materials of a shard with the local copy ``local``; None if it is damaged or cannot be read."""
        size, stated = local.stat().st_size, shard.get("sha256")
        if size != shard.get("bytes", size):
            self.report.problems.append(f"{path}: {size} bytes, but {shard['bytes']} were written")
            return None
        if stated is not None and (digest := sha256_of(local)) != stated:
            self.report.problems.append(changed(path, digest, stated))
            return None
        if self.tokenizer is None:
            return None
        try:
            return self._shard(self.tokenizer, path, local, shard)
        except (pa.ArrowException, OSError, ValueError) as error:
            self.report.problems.append(f"{path}: cannot be read: {error}")
            return None

    def _shard(
        self, tokenizer: PatchTokenizer, path: Place, local: Path, shard: dict[str, Any]
    ) -> dict[str, _Found]:
        report, sources = self.report, self.sources or {}
        materials: dict[str, _Found] = {}
        with pq.ParquetFile(local) as parquet:
            columns = {name: parquet.schema_arrow.field(name).type for name in parquet.schema_arrow.names}
            if columns != COLUMNS:
                raise ValueError(f"columns are {columns}, expected {COLUMNS}")
            for first, group in _groups(parquet, tokenizer.pad_to):
                wrong = dict(tokenizer.check_rows(group.ids, group.offsets))
                for row, problem in wrong.items():
                    report.problems.append(f"{path}: row {first + row} ({group.task_ids[row]}): {problem}")
                for name, rows in _runs(group.task_ids):
                    found = materials.setdefault(name, _Found())
                    sound = next((row for row in range(rows.start, rows.stop) if row not in wrong), None)
                    if sound is not None:
                        patch = tokenizer.decode(group.ids[sound])
                        found.grid_shape, found.patch_shape = patch.grid_shape, patch.patch_shape
                    if name in sources:
                        part = _Shard(group.task_ids[rows], group.offsets[rows], group.ids[rows])
                        self._compare(tokenizer, sources[name], part, found, f"{path}: {name}")
                    found.offsets.append(group.offsets[rows])
        for name, found in materials.items():
            density = None
            if self.sampler is not None and self.sampler.needs_density and name in sources:
                density = _density(sources[name], tokenizer.unit, found)
            self._check_offsets(name, found, density, path)
        total = sum(found.rows for found in materials.values())
        report.rows += total
        if total != shard.get("rows", total):
            report.problems.append(f"{path}: {total} rows, but meta.json lists {shard['rows']}")
        return materials

    def _check_offsets(
        self, name: str, found: _Found, density: NDArray[np.float32] | None, path: Place
    ) -> None:
        """Check that the offsets follow from seed, epoch, id, grid and, for some samplers, the density."""
        report = self.report
        if self.sampler is None or found.grid_shape is None or found.patch_shape is None:
            return
        if self.sampler.needs_density and density is None:
            note = "the offsets depend on the densities and are checked only with --source"
            if note not in report.notes:
                report.notes.append(note)
            return
        seed, epoch = self.worker.meta["seed"], self.worker.meta["epoch"]
        shapes = (found.grid_shape, found.patch_shape)
        try:
            drawn = draw(self.sampler, *shapes, density, found.rows, seed=seed, task_id=name, epoch=epoch)
        except ValueError as error:
            report.problems.append(f"{path}: {error}")
            return
        different = np.flatnonzero((drawn != found.corners).any(axis=1))
        if len(different):
            report.problems.append(
                f"{path}: {name}: the offsets are not those of seed {seed} and epoch {epoch}, "
                f"the first of {len(different)} is that of its row {different[0]}"
            )

    def _compare(
        self, tokenizer: PatchTokenizer, entry: Entry, part: _Shard, found: _Found, place: str
    ) -> None:
        """Check rows of a material, after ``found.rows`` others, against its density."""
        report = self.report
        try:
            material = read(entry.path).in_unit(tokenizer.unit)
        except (OSError, ValueError) as error:
            report.problems.append(f"{place}: the source cannot be read: {error}")
            return
        if found.rows == 0:
            report.materials_compared += 1
            found.crystal = StoredCrystal(material.crystal, material.grid_shape).sha256
            compare_clipped(self.worker, tokenizer.density_codec, entry.task_id, material, place, report)
        try:
            rows = tokenizer.encode_material(material, part.offsets)
        except ValueError as error:
            report.problems.append(f"{place}: the source does not give these rows: {error}")
            return
        different = np.flatnonzero((rows != part.ids).any(axis=1))
        if len(different):
            report.problems.append(
                f"{place}: {len(different)} rows differ from the source, the first is {different[0]}"
            )
            return
        scale = (1.0 if material.unit == "chgcar" else material.volume) / material.density.size
        for row, (ids, offset) in enumerate(zip(part.ids, part.offsets, strict=True)):
            patch = tokenizer.decode(ids)
            voxels, decoded = _patch(material, offset, patch.patch_shape), patch.density.ravel()
            found.error.add(tokenizer.density_codec, voxels, decoded, scale)
            outside = tokenizer.density_codec.outside_bin(voxels, decoded)
            report.voxels_compared += len(voxels)
            if outside:
                report.problems.append(f"{place}: row {row}: {outside} voxels decode outside their bin")
                return
        report.errors[entry.task_id] = found.error.stored


def _density(entry: Entry, unit: str, found: _Found) -> NDArray[np.float32] | None:
    """The density for a sampler; None if it cannot be read or does not fit, which is reported elsewhere."""
    try:
        density = read(entry.path).in_unit(unit).density
    except (OSError, ValueError):
        return None
    return density if density.shape == found.grid_shape else None


def _groups(parquet: pq.ParquetFile, pad_to: int) -> Iterator[tuple[int, _Shard]]:
    """Row groups with the index of their first row."""
    first = 0
    for index in range(parquet.num_row_groups):
        table = parquet.read_row_group(index).combine_chunks()
        for name in COLUMNS:
            if table[name].null_count:
                raise ValueError(f"column {name} holds nulls")
        lengths = table["input_ids"].combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
        if (lengths != pad_to).any():
            row = int(np.flatnonzero(lengths != pad_to)[0])
            raise ValueError(f"row {first + row} has {lengths[row]} tokens, expected pad_to = {pad_to}")
        flat = table["input_ids"].combine_chunks().flatten()
        if flat.null_count:
            raise ValueError("input_ids holds nulls")
        offsets = [table[f"offset_{axis}"].to_numpy() for axis in "xyz"]
        yield (
            first,
            _Shard(
                table["task_id"].to_pylist(),
                np.ascontiguousarray(np.stack(offsets, axis=1).astype(np.int32)),
                np.ascontiguousarray(flat.to_numpy().reshape(-1, pad_to)),
            ),
        )
        first += table.num_rows


def _runs(task_ids: list[str]) -> Iterator[tuple[str, slice]]:
    start = 0
    for end in range(1, len(task_ids) + 1):
        if end == len(task_ids) or task_ids[end] != task_ids[start]:
            yield task_ids[start], slice(start, end)
            start = end


def _check_totals(worker: Worker, rows: int, materials: dict[str, _Found], report: Report) -> None:
    meta, place = worker.meta, worker.path / META
    if rows != meta["total_rows"]:
        report.problems.append(f"{place}: total_rows = {meta['total_rows']}, but the shards hold {rows}")
    expected = _budget(worker, report)
    report.problems += [
        f"{worker.path}: {name} has {found.rows} rows, expected {expected(name)}"
        for name, found in materials.items()
        if expected(name) not in (None, found.rows)
    ]
    if "shards" not in meta:  # written by another program
        return
    if len(materials) != meta["n_materials"]:
        report.problems.append(
            f"{place}: n_materials = {meta['n_materials']}, but {len(materials)} have rows"
        )
    if len(meta["shards"]) != meta["n_shards"]:
        report.problems.append(
            f"{place}: n_shards = {meta['n_shards']}, but {len(meta['shards'])} are listed"
        )
    accounted = meta["n_materials"] + sum(meta.get(f"n_materials_{reason}", 0) for reason in REASONS)
    if accounted != meta["n_materials_listed"]:
        report.problems.append(
            f"{place}: {meta['n_materials_listed']} materials listed, but {accounted} are in or left out"
        )
    _check_beside(worker, report)
    _check_crystals(worker, materials, report)
    coverage = worker.path / COVERAGE
    if not coverage.exists():
        report.problems.append(f"{coverage}: missing")
        return
    try:
        _check_coverage(read_json(coverage), coverage, materials, report)
    except ValueError as error:
        report.problems.append(str(error))


def _check_beside(worker: Worker, report: Report) -> None:
    if SEAL not in worker.meta and is_own(worker.meta):
        report.notes.append(
            f"{worker.path / META}: of an earlier version, without digests: not all damage to it can be detected"
        )
    for name, key in ((COVERAGE, "coverage_sha256"), (CODEC, "codec_sha256")):
        path, stated = worker.path / name, worker.meta.get(key)
        if stated is not None and path.exists() and sha256_of(path) != stated:
            report.problems.append(f"{path}: the content is not what {META} states (SHA-256); fetch it again")


def _check_crystals(worker: Worker, materials: dict[str, _Found], report: Report) -> None:
    """Check the table of crystals; datasets of earlier versions have none."""
    path = worker.path / CRYSTALS
    if "crystals_sha256" not in worker.meta:
        return
    try:
        stored = crystals_of(worker)
    except (OSError, ValueError) as error:
        report.problems.append(str(error))
        return
    if stored.keys() != materials.keys():
        report.problems.append(f"{path}: holds {len(stored)} crystals, the shards {len(materials)} materials")
    for name in stored.keys() & materials.keys():
        grid, in_rows = stored[name].grid_shape, materials[name].grid_shape
        if in_rows not in (None, grid):
            report.problems.append(f"{path}: {name} has the grid {grid}, its rows {in_rows}")
        if materials[name].crystal not in (None, stored[name].sha256):
            report.problems.append(f"{path}: {name} is not the crystal of the source")


def _budget(worker: Worker, report: Report) -> Callable[[str], int | None]:
    """The number of rows that each material should have; None if unknown."""
    each = worker.meta.get("patches_per_material")
    if worker.meta.get("budget", "equal") == "equal":
        return lambda _name: each or None
    path = worker.path / BUDGET
    try:
        digest = sha256_of(path)
        patches = read_json(path)["patches"]
    except (OSError, ValueError, KeyError) as error:
        report.problems.append(f"{path}: cannot be read: {error}")
        return lambda _name: None
    if digest != worker.meta.get("budget_sha256"):
        report.problems.append(f"{path}: not the budget the rows were written with")
    return lambda name: patches.get(name, 0)


def _check_coverage(
    stored: dict[str, Any], place: Place, materials: dict[str, _Found], report: Report
) -> None:
    per_material = stored.get("per_material")
    if not isinstance(per_material, dict) or per_material.keys() != materials.keys():
        n = len(per_material) if isinstance(per_material, dict) else "no"
        report.problems.append(f"{place}: lists {n} materials, the shards hold {len(materials)}")
        return
    expected: list[int] = []
    for name, found in materials.items():
        if found.grid_shape is None or found.patch_shape is None:
            return  # reported already: its rows do not decode
        counts = coverage_histogram(found.grid_shape, found.patch_shape, found.corners).tolist()
        expected = summed([expected, counts])
        if per_material[name] != counts:
            report.problems.append(f"{place}: {name}: {per_material[name]}, but its rows give {counts}")
    if stored.get("histogram") != expected:
        report.problems.append(
            f"{place}: the histogram is {stored.get('histogram')}, the rows give {expected}"
        )


def _patch(material: Material, offset: NDArray[np.int32], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """The voxels of a patch, cut with NumPy, independently of the core."""
    cut = material.density
    for axis in range(3):
        cut = np.take(cut, np.arange(offset[axis], offset[axis] + shape[axis]), axis=axis, mode="wrap")
    return cut.astype(np.float64).ravel()
