"""The audit of a dataset: every row against its source, by a path that shares nothing with the one that wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tomat.dataset.audit.account import Account, MaterialAccount
from tomat.dataset.audit.rows import RowFormat, levels_of, voxels_of
from tomat.dataset.audit.source import LeftOut, Rules, Source, read_source
from tomat.dataset.crystals import crystals_of
from tomat.dataset.manifest import open_dataset
from tomat.dataset.meta import CODEC, COVERAGE, CRYSTALS, META, REASONS, changed, summed
from tomat.dataset.subset import draw_names
from tomat.storage.files import read_json
from tomat.storage.remote import at_hand
from tomat.storage.transfer import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tomat.dataset.crystal_table import StoredCrystal
    from tomat.dataset.manifest import Dataset, Worker
    from tomat.material import Entry
    from tomat.storage.remote import Place, UrlPath

#: Relative tolerance of sums computed in another order.
_SLACK = 1e-9
_OFFSETS = ("offset_x", "offset_y", "offset_z")


def audit_dataset(
    path: str | Path | UrlPath,
    source: Sequence[Entry],
    *,
    sample: int | None = None,
    seed: int = 0,
    watch: Callable[[str], None] | None = None,
) -> Account:
    """Account for every voxel and electron of a dataset, and compare it with its sources exactly.

    Args:
        path: the dataset directory or URL.
        source: the densities it was made from.
        sample: compare so many materials instead of all; counts are checked over all in any case.
        seed: of the sample.
        watch: called with the id of each material that was compared.

    Raises:
        FileNotFoundError, ValueError: the dataset cannot be opened, or its codec has no second path.
        ImportError: a source needs a package that is not installed.
    """
    dataset = open_dataset(path)
    audit = _Audit(dataset, {entry.task_id: entry for entry in source}, _rules(dataset), watch)
    names = audit.names()
    unknown = [name for name in names if name not in audit.sources]
    audit.account.problems += [f"{path}: {name} has rows, but is not among the sources" for name in unknown]
    known = [name for name in names if name in audit.sources]
    chosen = set(known if sample is None else draw_names(known, sample, seed))
    for worker in dataset.workers:
        audit.worker(worker, chosen)
    audit.left_out(set(names))
    return audit.account


def _rules(dataset: Dataset) -> Rules:
    """How the rows are written, by meta.json and the codec's file; the package's own reading must agree."""
    meta = dataset.meta
    tokenizer = dataset.tokenizer  # checks the digests of codec and vocabulary
    folder = dataset.workers[0].path
    if meta.get("lmq_path"):
        if not (folder / CODEC).exists():
            raise ValueError(
                f"{folder / META}: the codec {meta['lmq_path']} is not beside the shards as {CODEC}; copy it there"
            )
        with at_hand(folder / CODEC) as local:
            levels = levels_of(meta, local)
    else:
        levels = levels_of(meta, None)
    shapes = tuple((int(a), int(b), int(c)) for a, b, c in meta.get("fallback_shapes", [(18, 19, 19)]))
    rows = RowFormat(meta["tokenizer_version"], levels, meta["patch_size"], meta["pad_to"], shapes)
    stated = meta["vocab"]
    if rows.starts["end"] != stated["total_size"] or rows.specials != stated.get("specials", rows.specials):
        raise ValueError(
            f"{folder / META}: a vocabulary of {stated['total_size']} ids, where layout {rows.layout} and the codec "
            f"give {rows.starts['end']}"
        )
    return Rules.of(meta, rows, tokenizer.unit)


@dataclass
class _Part:
    """Rows of a material as they follow one another in a shard."""

    name: str
    first: int
    offsets: NDArray[np.int64]
    ids: NDArray[np.int32]


@dataclass
class _Audit:
    dataset: Dataset
    sources: dict[str, Entry]
    rules: Rules
    watch: Callable[[str], None] | None
    account: Account = field(default_factory=Account)
    #: The name of the material whose rows are being read, its source if that can be compared, and how often each of
    #: its voxels was in a row.
    name: str | None = None
    current: Source | None = None
    times: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        rows = self.rules.rows
        sizes = rows.levels.sizes
        self.account.sizes, self.account.pad_to, self.account.patch_size = sizes, rows.pad_to, rows.patch_size
        self.account.levels = [np.zeros(size, dtype=np.int64) for size in sizes]
        self.account.source_levels = [np.zeros(size, dtype=np.int64) for size in sizes]

    @property
    def problems(self) -> list[str]:
        return self.account.problems

    def names(self) -> list[str]:
        """Materials with rows, from the ids in the shards; counts of rows, bytes and files are compared on the way."""
        found: dict[str, int] = {}
        for worker in self.dataset.workers:
            of_worker: dict[str, int] = {}
            listed = {shard["name"] for shard in worker.shards}
            there: Iterable[Place] = worker.path.glob("shard-*.parquet")
            self.account.problems += [
                f"{path}: not listed in meta.json"
                for path in sorted(there, key=str)
                if path.name not in listed
            ]
            for shard in worker.shards:
                for name, rows in self._shard_names(worker.path / shard["name"], shard).items():
                    if name in of_worker:
                        self.problems.append(f"{worker.path}: rows of {name} are in two shards")
                    of_worker[name] = of_worker.get(name, 0) + rows
            self._check_counts(worker, of_worker)
            self.account.problems += [
                f"{self.dataset.path}: {name} is in two workers" for name in of_worker if name in found
            ]
            found |= of_worker
        self.account.n_materials = len(found)
        return list(found)

    def _shard_names(self, path: Place, shard: dict[str, Any]) -> dict[str, int]:
        names: dict[str, int] = {}
        try:
            with at_hand(path) as local:
                size, digest = local.stat().st_size, sha256_of(local)
                with pq.ParquetFile(local) as parquet:
                    ids = parquet.read(columns=["task_id"], use_threads=False)["task_id"]
                    column = parquet.schema_arrow.names.index("input_ids")
                    self.account.token_bytes += sum(
                        parquet.metadata.row_group(i).column(column).total_compressed_size
                        for i in range(parquet.num_row_groups)
                    )
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            self.problems.append(f"{path}: cannot be read: {error}")
            return names
        self.account.shard_bytes += size
        if digest != shard.get("sha256", digest):
            self.problems.append(changed(path, digest, shard["sha256"]))
        for counted in pc.value_counts(ids.combine_chunks()).to_pylist():
            names[counted["values"]] = counted["counts"]
        total = sum(names.values())
        self.account.n_rows += total
        for key, value in (("rows", total), ("bytes", size)):
            if shard.get(key, value) != value:
                self.problems.append(f"{path}: {value} {key}, but meta.json states {shard[key]}")
        return names

    def _check_counts(self, worker: Worker, rows: dict[str, int]) -> None:
        meta, place = worker.meta, worker.path / META
        each = meta.get("patches_per_material")
        stated = {"total_rows": sum(rows.values()), "n_materials": len(rows), "n_shards": len(worker.shards)}
        self.account.problems += [
            f"{place}: {key} = {meta[key]}, but the shards hold {value}"
            for key, value in stated.items()
            if meta.get(key, value) != value
        ]
        if meta.get("budget", "equal") == "equal" and each:
            self.account.problems += [
                f"{worker.path}: {name} has {n} rows, but meta.json states {each} a material"
                for name, n in rows.items()
                if n != each
            ]

    def worker(self, worker: Worker, chosen: set[str]) -> None:
        """Compare the rows of the chosen materials of a worker, then what meta.json and coverage say of them."""
        try:
            crystals = crystals_of(worker) if "crystals_sha256" in worker.meta else {}
        except (OSError, ValueError) as error:
            self.problems.append(str(error))
            crystals = {}
        first = len(self.account.materials)
        for shard in worker.shards:
            path = worker.path / shard["name"]
            try:
                with at_hand(path) as local:
                    for part in _parts(local, self.rules.rows.pad_to, chosen):
                        self._part(part, path, crystals)
                self._finish()
            except (OSError, ValueError, KeyError, pa.ArrowException) as error:
                self.current = self.name = None
                self.problems.append(f"{path}: {error}")
        self._check_meta(worker, first)
        if crystals:
            found = {m.task_id for m in self.account.materials[first:]}
            absent = sorted(found - crystals.keys())
            self.account.problems += [f"{worker.path / CRYSTALS}: no crystal of {name}" for name in absent]

    def _part(self, part: _Part, path: Place, crystals: dict[str, StoredCrystal]) -> None:
        """Compare consecutive rows of a material."""
        if self.name != part.name:
            self._finish()
            self.name = part.name
            place = f"{path}: {part.name}"
            try:
                found = read_source(self.sources[part.name], self.rules, crystals.get(part.name))
            except ValueError as error:
                self.problems.append(f"{path}: {error}")
                found = None
            if isinstance(found, LeftOut):
                self.problems.append(
                    f"{place} has rows, but its source {self.sources[part.name].path} would be left out: {found.reason}"
                )
                found = None
            self.current = found
            if found is not None:
                self.times = np.zeros(len(found.values), dtype=np.int64)
                if found.problem:
                    self.problems.append(f"{place}: {self.sources[part.name].path}: {found.problem}")
        if self.current is not None:
            self._rows(self.current, part, path)

    def _rows(self, source: Source, part: _Part, path: Place) -> None:
        rows, account, ids = self.rules.rows, source.account, part.ids
        place = f"{path}: {part.name}"
        grid = np.array(source.cell.grid)
        if ((part.offsets < 0) | (part.offsets >= grid)).any():
            self.problems.append(f"{place}: an offset outside the grid {source.cell.grid}")
            return
        voxels = voxels_of(source.cell.grid, part.offsets, source.shape)
        expected = rows.rows(source.cell, part.offsets, source.shape, source.words[voxels])
        length = rows.length(account.n_atoms, source.shape)
        start = length - 2 - rows.density_tokens(source.shape)
        found = rows.words(ids[:, start : length - 2])
        if not np.array_equal(ids, expected):
            self._differences(source, part, expected, voxels, place)
        self.times += np.bincount(voxels.ravel(), minlength=len(self.times))
        account.rows += len(ids)
        account.row_voxels += voxels.size
        self.account.sequence_tokens += length * len(ids)
        for j, size in enumerate(rows.levels.sizes):
            column = found[:, j]
            inside = column[(column >= 0) & (column < size)]
            self.account.levels[j] += np.bincount(inside, minlength=size)
        self._decode(source, part, place)

    def _decode(self, source: Source, part: _Part, place: str) -> None:
        """What the package itself decodes the rows to, in voxels and electrons."""
        for row, tokens in enumerate(part.ids):
            try:
                patch = self.dataset.tokenizer.decode(tokens)
            except ValueError as error:
                self.problems.append(f"{place}: row {part.first + row}: does not decode: {error}")
                continue
            if patch.grid_shape != source.cell.grid or patch.patch_shape != source.shape:
                self.problems.append(
                    f"{place}: row {part.first + row}: decodes to the grid {patch.grid_shape} and a patch of "
                    f"{patch.patch_shape}, where the source gives {source.cell.grid} and {source.shape}"
                )
                continue
            source.account.row_electrons_decoded += float(patch.density.sum()) * source.scale

    def _differences(
        self,
        source: Source,
        part: _Part,
        expected: NDArray[np.int32],
        voxels: NDArray[np.int64],
        place: str,
    ) -> None:
        """Report where rows differ from those of the source.

        Of a density that was converted, a voxel one float32 beside the edge of its level is counted, not reported.
        """
        rows, shape, ids = self.rules.rows, source.shape, part.ids
        length = rows.length(source.account.n_atoms, shape)
        start = length - 2 - rows.density_tokens(shape)
        differs = ids != expected
        k = len(rows.levels.sizes)
        in_density = differs[:, start : length - 2].reshape(len(ids), -1, k).any(axis=2)
        at = voxels[in_density]
        found = rows.words(ids[:, start : length - 2]).reshape(len(ids), -1, k)[in_density]
        is_edge = _on_edge(rows, source.values[at], found) & source.is_rounded
        source.account.edges += int(is_edge.sum())
        in_density[in_density] = ~is_edge
        differs[:, start : length - 2] = np.repeat(in_density, k, axis=1)
        wrong = np.flatnonzero(differs.any(axis=1))
        if not len(wrong):
            return
        row = int(wrong[0])
        position = int(np.flatnonzero(differs[row])[0])
        block = rows.where(source.account.n_atoms, shape, position)
        text = (
            f"{place}: {len(wrong)} of {len(ids)} rows differ from the source, the first is row {part.first + row} of "
            f"the shard: token {position} ({block}) is {ids[row, position]}, the source gives {expected[row, position]}"
        )
        n = int(in_density.sum())
        if n:
            text += f"; {n:,} voxels differ"
        self.problems.append(text + self._unit_hint(source, ids[row], voxels[row], start, length))

    def _unit_hint(
        self, source: Source, ids: NDArray[np.int32], voxels: NDArray[np.int64], start: int, length: int
    ) -> str:
        rows = self.rules.rows
        found = rows.words(ids[start : length - 2])
        exact = source.values[voxels].astype(np.float64)
        for words, factor in (("times", source.volume), ("divided by", 1.0 / source.volume)):
            other = rows.levels.encode((exact * factor).astype(np.float32).astype(np.float64))
            if np.mean(np.abs(other[:, 0] - found[:, 0]) <= 1) > 0.99:
                return (
                    f": its tokens are those of the density {words} the volume of the cell, so the unit of the source "
                    f"or that of the dataset ({self.rules.unit}) is wrong"
                )
        return ""

    def _finish(self) -> None:
        """The material whose rows ended."""
        source, self.current, self.name = self.current, None, None
        if source is None:
            return
        account = source.account
        account.coverage = np.bincount(self.times).tolist()
        account.row_electrons = float((source.values.astype(np.float64) * self.times).sum()) * source.scale
        quantised = float((source.decoded * self.times).sum()) * source.scale
        for j, size in enumerate(self.rules.rows.levels.sizes):
            counts = np.bincount(source.words[:, j], weights=self.times, minlength=size)
            self.account.source_levels[j] += np.rint(counts).astype(np.int64)
        tolerance = _SLACK * max(float((np.abs(source.decoded) * self.times).sum()) * source.scale, 1e-12)
        if abs(quantised - account.row_electrons_decoded) > tolerance and not account.edges:
            self.problems.append(
                f"{account.task_id}: its rows decode to {account.row_electrons_decoded:.9g} electrons, the levels of "
                f"the source are {quantised:.9g}"
            )
        self.account.materials.append(account)
        if self.watch is not None:
            self.watch(account.task_id)

    def _check_meta(self, worker: Worker, first: int) -> None:
        """What is stated beside the shards, against what was counted in the materials from ``first`` on."""
        materials = self.account.materials[first:]
        place, meta = worker.path / META, worker.meta
        self._check_clipping(meta, materials, place)
        if len(materials) == meta.get("n_materials"):
            counted = {
                "n_materials_fallback": sum(m.is_fallback for m in materials),
                "clipped_voxels": sum(m.clipped_voxels for m in materials),
            }
            self.account.problems += [
                f"{place}: {key} = {meta[key]}, the sources give {value}"
                for key, value in counted.items()
                if meta.get(key, value) != value
            ]
        coverage = worker.path / COVERAGE
        if not coverage.exists():
            self.account.notes.append(f"{coverage}: missing; coverage is that counted here")
            return
        try:
            stored = read_json(coverage)
            self._check_coverage(stored, stored["per_material"], materials, coverage)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.problems.append(f"{coverage}: damaged: {error!r}")

    def _check_clipping(
        self, meta: dict[str, Any], materials: Sequence[MaterialAccount], place: Place
    ) -> None:
        clipped: Any = meta.get("clipped_materials")
        if not isinstance(clipped, dict):
            return
        for m in materials:
            stated = clipped.get(m.task_id) or {}
            voxels, electrons = stated.get("voxels", 0), stated.get("electrons", 0.0)
            if voxels != m.clipped_voxels or not np.isclose(
                electrons, m.clipped_electrons, rtol=_SLACK, atol=1e-12
            ):
                self.problems.append(
                    f"{place}: {m.task_id}: states {voxels} clipped voxels and {electrons:.9g} electrons, the source "
                    f"gives {m.clipped_voxels} and {m.clipped_electrons:.9g}"
                )

    def _check_coverage(
        self, stored: dict[str, Any], per_material: Any, materials: Sequence[MaterialAccount], place: Place
    ) -> None:
        for m in materials:
            counts, grid = per_material[m.task_id], stored.get("grids", {}).get(m.task_id, m.grid)
            if tuple(grid[:3]) != m.grid or sum(counts) != m.voxels:
                self.problems.append(
                    f"{place}: {m.task_id}: {sum(counts):,} voxels on the grid {list(grid[:3])}, the source has "
                    f"{m.voxels:,} on {list(m.grid)}"
                )
            elif counts != m.coverage:
                self.problems.append(f"{place}: {m.task_id}: voxels are not covered as often as it says")
        if stored.get("histogram") != summed(per_material.values()):
            self.problems.append(f"{place}: the histogram is not the sum of its materials")

    def left_out(self, with_rows: set[str]) -> None:
        """Account for sources without rows: each must have a reason, and meta.json as many of each."""
        problems, dataset = self.problems, self.dataset
        listed = dataset.count("n_materials_listed")
        if listed and listed != len(self.sources):
            problems.append(
                f"{dataset.path}: {listed:,} materials were listed when it was written, {len(self.sources):,} are "
                "given; give the same ones (--split, --split-file, --limit)"
            )
        named = {
            name for worker in dataset.workers for name in worker.meta.get("first_materials_unreadable", [])
        }
        strict = any(worker.meta.get("identity", {}).get("strict") for worker in dataset.workers)
        for name, entry in self.sources.items():
            if name in with_rows:
                continue
            try:
                found = read_source(entry, self.rules, None)
            except ValueError as error:
                problems.append(f"{dataset.path}: {name}: {error}")
                continue
            if isinstance(found, LeftOut):
                self.account.left_out[found.reason] += 1
            elif strict and name in named:
                self.account.left_out["unreadable"] += 1
            else:
                problems.append(
                    f"{dataset.path}: {name} has no rows, and nothing says why: {entry.path} can be written"
                )
        for reason in REASONS:
            stated, counted = dataset.count(f"n_materials_{reason}"), self.account.left_out[reason]
            if stated != counted:
                problems.append(
                    f"{dataset.path}: n_materials_{reason} = {stated}, the sources give {counted}"
                )


def _on_edge(rows: RowFormat, values: NDArray[np.float32], found: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the next float32 above or below a value has the level that was found."""
    near = np.zeros(len(values), dtype=bool)
    for direction in (np.float32(-np.inf), np.float32(np.inf)):
        words = rows.levels.encode(np.nextafter(values, direction).astype(np.float64))
        near |= (words == found).all(axis=1)
    return near


def _parts(local: Path, pad_to: int, chosen: set[str]) -> Iterator[_Part]:
    """Consecutive rows of the chosen materials; row groups without any are not read."""
    first = 0
    with pq.ParquetFile(local) as parquet:
        for index in range(parquet.num_row_groups):
            head = parquet.read_row_group(index, columns=["task_id", *_OFFSETS], use_threads=False)
            names = head["task_id"].to_pylist()
            if chosen.isdisjoint(names):
                first += len(names)
                continue
            column = parquet.read_row_group(index, columns=["input_ids"], use_threads=False)["input_ids"]
            lists = column.combine_chunks()
            lengths = np.diff(lists.offsets.to_numpy())
            if (lengths != pad_to).any() or lists.null_count:
                row = int(np.flatnonzero(lengths != pad_to)[0]) if (lengths != pad_to).any() else 0
                raise ValueError(
                    f"row {first + row} ({names[row]}) has {lengths[row]} tokens, not pad_to = {pad_to}"
                )
            ids = lists.flatten().to_numpy().reshape(-1, pad_to)
            offsets = np.stack([head[name].to_numpy() for name in _OFFSETS], axis=1).astype(np.int64)
            start = 0
            for end in range(1, len(names) + 1):
                if end == len(names) or names[end] != names[start]:
                    if names[start] in chosen:
                        rows = slice(start, end)
                        yield _Part(names[start], first + start, offsets[rows], ids[rows])
                    start = end
            first += len(names)
