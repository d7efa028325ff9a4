"""Datasets of rows of crystals: a folder with shards, the crystals exactly, and what the rows mean.

::

    meta.json            kind "tomat crystals", language, conditions, counts, shards with their SHA-256; written last
    shard-00000.parquet  task_id, frame_x frame_y frame_z (steps of the resolution), input_ids
    crystals.parquet     id, lattice (nine numbers: rows a, b, c), atomic_numbers, frac_coords, a column a named value

The folder appears when it is whole: it is written under another name beside its place.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tomat import _core
from tomat._seal import check_seal, sealed
from tomat.dataset.meta import CRYSTALS_KIND as KIND
from tomat.dataset.meta import check_keys, check_shard
from tomat.language.conditions import Column, Conditions, Slot
from tomat.language.rows import CrystalLanguage, WrittenCrystal
from tomat.language.sources import Found, named_problem, read_crystals
from tomat.storage.files import atomic_folder, read_json, write_json
from tomat.storage.transfer import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["CrystalConfig", "CrystalDataset", "Summary", "is_crystals", "open_crystals", "write_crystals"]

type Order = Literal["sorted", "given", "shuffled"]

#: Orders of the atoms in a row.
ORDERS: tuple[Order, ...] = get_args(Order.__value__)
VERSION = 1
META, TABLE = "meta.json", "crystals.parquet"
SEAL = "meta_sha256"
#: Rows of a shard.
ROWS = 8192
#: Keys of ``meta.json`` and their types.
_KEYS = {
    "positions": int,
    "order": str,
    "frames": int,
    "seed": int,
    "conditions": dict,
    "pad_to": int,
    "longest": int,
    "n_listed": int,
    "n_crystals": int,
    "n_left_out": int,
    "first_left_out": dict,
    "total_rows": int,
    "vocabulary": dict,
    "crystals_sha256": str,
    "shards": list,
}
#: Ids that ``meta.json`` lists of what was left out.
_FIRST_IDS = 20


@dataclass(frozen=True)
class CrystalConfig:
    """How crystals become rows.

    Attributes:
        positions: values that a coordinate can take, 1024 or 4096.
        order: of the atoms: by atomic number (``sorted``; as given within an element), as given, or shuffled.
        frames: rows of each crystal. The first is in the crystal's own frame, the others in random ones.
        seed: of frames and orders, which depend on it, the id and the number of the row alone.
        formula, n_atoms, space_group: conditions before each crystal.
        columns: named values to put before each crystal, in bins.
        bins: of each column.
        pad_to: length of a row; None takes that of the longest.
    """

    positions: int = 1024
    order: Order = "sorted"
    frames: int = 1
    seed: int = 0
    formula: bool = False
    n_atoms: bool = False
    space_group: bool = False
    columns: tuple[str, ...] = ()
    bins: int = 32
    pad_to: int | None = None

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"order = {self.order}; choose one of {', '.join(ORDERS)}")
        if self.frames < 1:
            raise ValueError(f"frames = {self.frames}; give 1 or more")
        if not 2 <= self.bins <= 1024:
            raise ValueError(f"bins = {self.bins}; give 2 to 1024")
        if len(set(self.columns)) != len(self.columns):
            raise ValueError(f"columns {', '.join(self.columns)}: one of them twice")


@dataclass(frozen=True)
class Summary:
    """What was written.

    Attributes:
        directory: the dataset.
        n_listed: crystals that were found.
        n_crystals: crystals with rows.
        rows, pad_to: rows and their length.
        longest: tokens of the longest sequence.
        left_out: problems by crystal: ``source: problem``.
    """

    directory: Path
    n_listed: int
    n_crystals: int
    rows: int
    pad_to: int
    longest: int
    left_out: dict[str, str] = field(default_factory=dict)


def write_crystals(
    inputs: Sequence[str | Path],
    out: str | Path,
    config: CrystalConfig | None = None,
    *,
    overwrite: bool = False,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Write a dataset. Crystals that cannot be read or written are left out and named.

    Args:
        inputs: as :func:`tomat.language.sources.read_crystals` takes them.
        out: folder to make.
        config: how.
        overwrite: replace a dataset of crystals in ``out``; nothing else is ever replaced.
        watch: called with the crystals that are done and those that there are.

    Raises:
        FileExistsError: ``out`` holds a dataset and ``overwrite`` is not given, or something else.
        FileNotFoundError: an input does not exist.
        ValueError: no crystals, none that can be written, or a column that no crystal has.
    """
    config = config or CrystalConfig()
    target = Path(out)
    _check_place(target, overwrite=overwrite)
    found = list(read_crystals(inputs))
    if not found:
        raise ValueError("no crystals found; give files, folders, globs or tables of crystals")
    whole = [one for one in found if one.crystal is not None]
    left_out = {one.name: named_problem(one.source, str(one.problem)) for one in found if one.crystal is None}
    language = CrystalLanguage(config.positions)
    conditions = _conditions(config, whole)
    rows: list[_Row] = []
    kept: list[Found] = []
    for done, one in enumerate(whole, 1):
        try:
            made = list(_rows(one, config, language, conditions))
        except ValueError as error:
            left_out[one.name] = named_problem(one.source, str(error))
        else:
            if config.pad_to is not None and len(made[0].ids) > config.pad_to:
                left_out[one.name] = (
                    f"{one.source}: {len(made[0].ids)} tokens, more than pad_to = {config.pad_to}"
                )
            else:
                rows += made
                kept.append(one)
        watch(done, len(whole))
    if not rows:
        named = next(iter(left_out.values()))
        raise ValueError(f"none of {len(found)} crystals can be written; the first: {named}")
    longest = max(len(row.ids) for row in rows)
    summary = Summary(target, len(found), len(kept), len(rows), config.pad_to or longest, longest, left_out)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(target) as folder:
        _write(folder, rows, kept, summary, config, language, conditions)
    return summary


@dataclass(frozen=True, eq=False)
class _Row:
    task_id: str
    frame: tuple[int, int, int]
    ids: NDArray[np.int32]


def _check_place(target: Path, *, overwrite: bool) -> None:
    if not target.exists():
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    if not is_crystals(target):
        raise FileExistsError(f"{target}: is there, and no dataset of crystals; choose another --out")
    if not overwrite:
        raise FileExistsError(f"{target}: holds a dataset; give --overwrite to replace it")


def _conditions(config: CrystalConfig, found: Sequence[Found]) -> Conditions:
    columns = []
    for name in config.columns:
        values = [one.values[name] for one in found if name in one.values]
        if not values:
            known = sorted({key for one in found for key in one.values})
            raise ValueError(f"no crystal has a number {name!r}; there are: {', '.join(known) or 'none'}")
        columns.append(Column.fit(name, values, config.bins))
    return Conditions(config.formula, config.n_atoms, config.space_group, tuple(columns))


def _rows(
    one: Found, config: CrystalConfig, language: CrystalLanguage, conditions: Conditions
) -> Iterator[_Row]:
    crystal = one.crystal
    if crystal is None:
        raise ValueError(one.problem)
    written = language.write(crystal).under(conditions.of(crystal, one.values))
    for number in range(config.frames):
        key = hashlib.sha256(f"{config.seed}\0{one.name}\0{number}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(key[:16]))
        x, y, z = rng.integers(config.positions, size=3).tolist() if number else (0, 0, 0)
        order = _order(written, config.order, rng)
        yield _Row(one.name, (x, y, z), language.encode(written.ordered(order), (x, y, z)))


def _order(written: WrittenCrystal, order: Order, rng: np.random.Generator) -> NDArray[np.intp]:
    if order == "given":
        return np.arange(written.n_atoms)
    if order == "shuffled":
        return rng.permutation(written.n_atoms)
    return np.argsort(written.elements, kind="stable")


def _write(
    folder: Path,
    rows: Sequence[_Row],
    kept: Sequence[Found],
    summary: Summary,
    config: CrystalConfig,
    language: CrystalLanguage,
    conditions: Conditions,
) -> None:
    shards = []
    for number, some in enumerate(batched(rows, ROWS)):
        name = f"shard-{number:05}.parquet"
        ids = np.zeros((len(some), summary.pad_to), np.int32)
        for at, row in enumerate(some):
            ids[at, : len(row.ids)] = row.ids
        offsets = np.arange(len(some) + 1, dtype=np.int32) * summary.pad_to
        columns: dict[str, Any] = {"task_id": pa.array([row.task_id for row in some], pa.string())}
        for axis, letter in enumerate("xyz"):
            columns[f"frame_{letter}"] = pa.array([row.frame[axis] for row in some], pa.int32())
        columns["input_ids"] = pa.ListArray.from_arrays(offsets, ids.ravel())
        pq.write_table(pa.table(columns), folder / name, compression="zstd", row_group_size=1024)
        size = (folder / name).stat().st_size
        shards.append({"name": name, "rows": len(some), "bytes": size, "sha256": sha256_of(folder / name)})
    _write_table(folder / TABLE, kept, config.columns)
    meta = {
        "kind": KIND,
        "format_version": VERSION,
        "tomat": _core.__version__,
        "positions": config.positions,
        "order": config.order,
        "frames": config.frames,
        "seed": config.seed,
        "conditions": conditions.to_json(),
        "pad_to": summary.pad_to,
        "longest": summary.longest,
        "n_listed": summary.n_listed,
        "n_crystals": summary.n_crystals,
        "n_left_out": len(summary.left_out),
        "first_left_out": dict(list(summary.left_out.items())[:_FIRST_IDS]),
        "total_rows": summary.rows,
        "vocabulary": {
            "total_size": language.total_size,
            "specials": language.specials,
            "hash": language.hash,
        },
        "crystals_sha256": sha256_of(folder / TABLE),
        "shards": shards,
    }
    write_json(folder / META, sealed(meta, SEAL))


def _write_table(path: Path, kept: Sequence[Found], columns: Sequence[str]) -> None:
    crystals = [one.crystal for one in kept if one.crystal is not None]
    table: dict[str, Any] = {
        "id": pa.array([one.name for one in kept], pa.string()),
        "lattice": pa.array([crystal.lattice.ravel() for crystal in crystals], pa.list_(pa.float64())),
        "atomic_numbers": pa.array([crystal.atomic_numbers for crystal in crystals], pa.list_(pa.int32())),
        "frac_coords": pa.array(
            [crystal.frac_coords.ravel() for crystal in crystals], pa.list_(pa.float64())
        ),
    }
    for name in columns:
        table[name] = pa.array([one.values.get(name) for one in kept], pa.float64())
    pq.write_table(pa.table(table), path, compression="zstd")


def is_crystals(folder: str | Path) -> bool:
    """Whether a folder holds a dataset of crystals."""
    meta = Path(folder) / META
    if not meta.is_file():
        return False
    try:
        return read_json(meta).get("kind") == KIND
    except ValueError:
        return False


@dataclass(frozen=True, eq=False)
class CrystalDataset:
    """A finished dataset.

    Attributes:
        path: its folder.
        meta: what ``meta.json`` says.
        language: of its rows.
        conditions: that stand before its crystals.
    """

    path: Path
    meta: dict[str, Any]
    language: CrystalLanguage
    conditions: Conditions

    def crystals(self) -> Iterator[Found]:
        """The crystals exactly, with their named values.

        Raises:
            ValueError: the table is not what was written.
        """
        path = self.path / TABLE
        digest = sha256_of(path)
        if digest != self.meta["crystals_sha256"]:
            raise ValueError(f"{path}: not what was written (SHA-256 {digest}); fetch it again")
        yield from read_crystals([path])

    def rows(self) -> Iterator[tuple[str, tuple[int, int, int], NDArray[np.int32]]]:
        """The id of each row's crystal, its frame, and its token ids with padding.

        Raises:
            ValueError: a shard is not what was written.
        """
        for shard in self.meta["shards"]:
            yield from self._shard(shard)

    def _shard(self, shard: dict[str, Any]) -> Iterator[tuple[str, tuple[int, int, int], NDArray[np.int32]]]:
        path = self.path / shard["name"]
        if not path.exists():
            raise FileNotFoundError(f"{path}: missing; write the dataset again")
        digest = sha256_of(path)
        if digest != shard["sha256"]:
            raise ValueError(f"{path}: not what was written (SHA-256 {digest}); fetch it again")
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(1024):
                ids = batch["input_ids"].flatten().to_numpy().reshape(len(batch), -1)
                frames = np.stack([batch[f"frame_{axis}"].to_numpy() for axis in "xyz"], axis=1).tolist()
                yield from zip(batch["task_id"].to_pylist(), map(_triple, frames), ids, strict=True)

    def verify(self) -> list[str]:
        """Read all of it back; what is wrong, in words.

        Every row must decode, must give its own tokens when written again, must be the crystal of its id in its frame,
        behind the conditions that the crystal meets, and as many rows of each crystal must be there as ``frames`` says.
        """
        problems: list[str] = []
        try:
            exact = {one.name: one for one in self.crystals()}
            counts: Counter[str] = Counter()
            for number, (name, frame, ids) in enumerate(self.rows()):
                counts[name] += 1
                problem = self._problem(exact.get(name), frame, ids)
                if problem:
                    problems.append(f"row {number}, {name}: {problem}")
        except (OSError, ValueError) as error:
            return [*problems, str(error)]
        frames = self.meta["frames"]
        missing = [name for name in exact if counts[name] != frames]
        return [*problems, *(f"{name}: {counts[name]} rows, expected {frames}" for name in missing)]

    def _problem(self, one: Found | None, frame: tuple[int, int, int], ids: NDArray[np.int32]) -> str | None:
        """What is wrong with a row."""
        if one is None or one.crystal is None:
            return "its crystal is not in crystals.parquet"
        try:
            read = self.language.decode(ids)
        except ValueError as error:
            return str(error)
        again = self.language.encode(read)
        if not np.array_equal(again, ids[: len(again)]):
            return "written again, it has other tokens"
        expected = self.language.write(one.crystal)
        if read.cell != expected.cell:
            return f"cell {read.cell}, expected {expected.cell}"
        moved = (expected.positions + np.array(frame)) % self.language.positions
        if _sites(read.elements, read.positions) != _sites(expected.elements, moved):
            return "its atoms are not those of the crystal in this frame"
        slots = _plain(self.conditions.of(one.crystal, one.values))
        return None if _plain(read.conditions) == slots else f"conditions {read.conditions}, expected {slots}"


def _triple(frame: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = frame
    return x, y, z


def _sites(elements: NDArray[np.int32], positions: NDArray[np.int32]) -> list[tuple[int, ...]]:
    return sorted((int(z), *map(int, place)) for z, place in zip(elements, positions, strict=True))


def _plain(slots: Sequence[Slot]) -> tuple[Slot, ...]:
    return tuple((int(slot), tuple(map(int, values))) for slot, values in slots)


def open_crystals(folder: str | Path) -> CrystalDataset:
    """Open a dataset of crystals.

    Raises:
        FileNotFoundError: there is none.
        ValueError: another kind of dataset, damaged, or of another version.
    """
    path = Path(folder)
    place = path / META
    meta = read_json(place)
    if meta.get("kind") != KIND:
        raise ValueError(f"{place}: not a dataset of crystals")
    check_seal(meta, SEAL, place)
    if meta.get("format_version") != VERSION:
        raise ValueError(
            f"{place}: of version {meta.get('format_version')!r}; this tomat reads version {VERSION}"
        )
    check_keys(meta, _KEYS, place, "every dataset of crystals has it; write it again")
    for shard in meta["shards"]:
        check_shard(shard, path)
    try:
        language = CrystalLanguage(meta["positions"])
        conditions = Conditions.from_json(meta["conditions"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}; write it again") from error
    if language.hash != meta["vocabulary"].get("hash"):
        raise ValueError(f"{place}: its ids have other meanings than this tomat's; write it again")
    return CrystalDataset(path, meta, language, conditions)
