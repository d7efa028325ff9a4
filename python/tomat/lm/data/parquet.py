"""The sequences of a dataset directory, unpacked once for random access."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from tomat import _core
from tomat._threads import in_order
from tomat.clipping import ClippedTotals
from tomat.codec import load_codec
from tomat.crystal import Crystal
from tomat.dataset.manifest import Dataset, Worker, open_dataset
from tomat.dataset.meta import REASONS
from tomat.dataset.run_directory import clipped_totals
from tomat.lm.data.cache import Arrays, FlatFile, built
from tomat.lm.data.guess_check import MATERIALS, PATCHES, check_patches, in_drawn_order
from tomat.promolecule import Promolecule
from tomat.storage.transfer import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tomat.lm.data.config import DataConfig
    from tomat.lm.data.guess_check import GuessCheck
    from tomat.lm.data.rows import Ints, RowArrays
    from tomat.starting import StartingDensity
    from tomat.tokenizer import Patch, PatchTokenizer

_COLUMNS = ("task_id", "offset_x", "offset_y", "offset_z", "input_ids")


class ParquetSource:
    """The sequences of a dataset directory.

    Args:
        config: the configuration; ``config.path`` is the directory or its URL.
        guess: a starting density, evaluated for each row from its preamble.

    Raises:
        FileNotFoundError: the directory is not found.
        KeyError: an unknown codec or promolecule.
        ValueError: the dataset is unfinished, shards contradict ``meta.json``, rows do not decode, a setting is not as
            expected, or the promolecule is of another kind than the data.
    """

    def __init__(self, config: DataConfig, guess: StartingDensity | None = None) -> None:
        path = str(config.path)
        codec_hash = load_codec(config.codec).hash if config.codec else None
        valence = _valence(config.valence)
        self._dataset = open_dataset(path, allow_partial=config.allow_partial)
        self.tokenizer = self._dataset.tokenizer
        _check_expected(self._dataset, config, codec_hash)
        self._shards = [(worker, shard) for worker in self._dataset.workers for shard in worker.shards]
        self._threads, self._cache = config.threads, config.cache
        #: Name and SHA-256 of each shard, as stated in ``meta.json`` or computed.
        self._content = [
            [worker.path.name, shard["name"], digest]
            for (worker, shard), digest in in_order(self._hash, self._shards, self._threads)
        ]
        identity = {"format": 1, "shards": self._content, "vocabulary": self.tokenizer.vocabulary.hash}
        self._arrays = built(config.cache, "rows", identity, self._build)
        if len(self._arrays["starts"]) - 1 != self._dataset.total_rows:
            raise ValueError(
                f"{path}: meta.json says {self._dataset.total_rows} rows, the shards hold "
                f"{len(self._arrays['starts']) - 1}"
            )
        self._starts = self._arrays["starts"]
        self._tokens = self._arrays["tokens"]
        self._density = self._arrays["density"]
        self.lengths = np.diff(self._starts).astype(np.int32)
        self.materials = self._arrays["material"]
        self.task_ids: Sequence[str] = [str(name) for name in self._arrays.notes["task_ids"]]
        self.elements = np.unique(self._arrays["numbers"]).tolist()
        self.weight, self.electrons = self._per_material(valence)
        self.left_out = _left_out(self._dataset)
        self.clipped = ClippedTotals()
        for worker in self._dataset.workers:
            self.clipped.merge(clipped_totals(worker.meta).stored)
        self.starting, self.guess_check = guess, None
        if guess is not None and guess.elements is not None:
            self.guess_check = self._check(guess)
            self.guess_check.enforce(config.max_guess_nmae, guess.identity)
        self._guess = self._guess_tokens(guess) if guess else None

    def _hash(self, part: tuple[Worker, dict[str, Any]]) -> str:
        worker, shard = part
        where = worker.path / shard["name"]
        try:
            if "sha256" not in shard:
                return sha256_of(where)
            size = where.stat().st_size
        except FileNotFoundError as error:
            raise ValueError(f"{where}: missing, but listed in meta.json") from error
        if shard.get("bytes", size) != size:
            raise ValueError(f"{where}: {size} bytes, but meta.json says {shard['bytes']}")
        return str(shard["sha256"])

    def _build(self, folder: Path, limit: int | None) -> dict[str, Any]:
        """Unpack all shards; a few are in memory at a time."""
        small = self.tokenizer.vocabulary.total_size <= 1 << 16
        names: dict[str, int] = {}
        columns: dict[str, list[NDArray[Any]]] = {
            name: [] for name in ("material", "offset", "density", "length", "grid", "cell")
        }
        atoms: list[bytes] = []
        with FlatFile(folder, "tokens", np.uint16 if small else np.int32, limit) as file:
            for _, shard in in_order(partial(_read_shard, self.tokenizer), self._shards, self._threads):
                for row, name in enumerate(shard.task_ids):
                    if name not in names:
                        names[name] = len(names)
                        patch = self.tokenizer.decode(shard.ids[row])
                        columns["grid"].append(np.array(patch.grid_shape))
                        cell = np.full(6, np.nan) if patch.lattice is None else patch.lattice
                        columns["cell"].append(cell)
                        atoms.append(patch.atomic_numbers.astype(np.uint8).tobytes())
                columns["material"].append(np.array([names[name] for name in shard.task_ids]))
                columns["offset"].append(shard.offsets)
                columns["density"].append(shard.density)
                columns["length"].append(shard.lengths)
                keep = np.arange(shard.ids.shape[1]) < shard.lengths[:, None]
                file.append(shard.ids[keep])
        lengths = np.concatenate(columns.pop("length")) if atoms else np.zeros(0, dtype=np.int64)
        columns["starts"] = [np.concatenate([[0], np.cumsum(lengths)])]
        columns["atoms"] = [np.array([len(numbers) for numbers in atoms])]
        columns["numbers"] = [np.frombuffer(b"".join(atoms), dtype=np.uint8)]
        for name, dtype in _TYPES.items():
            with FlatFile(folder, name, dtype) as file:
                file.append(np.concatenate([part.ravel() for part in columns[name]] or [np.zeros(0)]))
        return {"task_ids": list(names)}

    def _per_material(self, valence: dict[int, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weight, and electrons per voxel and unit of density, of each material from its atoms and cell.

        The weight is NaN where the valence electrons of an atom are not known, the electrons where the unit needs the
        cell and the layout has none.
        """
        points = self._arrays["grid"].reshape(-1, 3).astype(np.int64).prod(axis=1)
        atoms = np.concatenate([[0], np.cumsum(self._arrays["atoms"])])
        table = np.array([valence.get(z, float("nan")) for z in range(119)])
        counts = table[self._arrays["numbers"]]
        electrons = np.array([counts[a:b].sum() for a, b in pairwise(atoms.tolist())])
        if self.tokenizer.unit == "chgcar":
            return 1.0 / electrons, 1.0 / points
        volume = np.array([_volume(cell) for cell in self._arrays["cell"].reshape(-1, 6)])
        return volume / electrons, volume / points

    @cached_property
    def _decoded(self) -> NDArray[np.float32] | None:
        """The density value of each token, for codecs with one token per voxel."""
        codec = self.tokenizer.density_codec
        if len(codec.sizes) > 1:
            return None
        return codec.decode(np.arange(codec.sizes[0])[:, None]).astype(np.float32)

    def fill(self, epoch: int, sequences: Ints, rows: Ints, columns: Ints, batch: RowArrays) -> Ints:
        """As :meth:`tomat.lm.data.rows.Source.fill`."""
        starts, ends = self._starts[sequences], self._starts[sequences + 1]
        first = self._density[sequences].astype(np.int64)
        lengths = ends - starts
        spans = np.stack([lengths, first, lengths - 2], axis=1)
        table, low = self._decoded, self.tokenizer.vocabulary.density_range[0]
        k = len(self.tokenizer.density_codec.sizes)
        places = zip(
            sequences.tolist(), rows.tolist(), columns.tolist(), starts.tolist(), spans.tolist(), strict=True
        )
        for sequence, row, column, start, (length, head, end) in places:
            batch.tokens[row, column : column + length] = self._tokens[start : start + length]
            ids = batch.tokens[row, column + head : column + end]
            values = batch.values[row, column + head : column + end]
            if table is not None:
                np.take(table, ids - low, out=values)
            else:  # several tokens per voxel: the value stands at the last
                values.fill(0)
                values[k - 1 :: k] = self.tokenizer.density_values(ids)
            if self._guess is not None and batch.guess is not None:
                at = self._guess["starts"][sequence]
                batch.guess[row, column + head : column + end] = self._guess["tokens"][at : at + end - head]
        return spans

    def _check(self, guess: StartingDensity) -> GuessCheck:
        present = set(np.unique(self.materials).tolist())
        chosen = [index for index in in_drawn_order(self.task_ids) if index in present][:MATERIALS]
        sampled = {index: np.flatnonzero(self.materials == index)[:PATCHES].tolist() for index in chosen}
        parts = [
            (self.task_ids[index], [self._guessed(guess, i) for i in sequences])
            for index, sequences in sampled.items()
        ]
        return check_patches(parts, guess, len(self.task_ids))

    def _guessed(self, guess: StartingDensity, sequence: int) -> tuple[NDArray[np.float64], Patch]:
        """The starting density of a sequence, and its patch."""
        start, end = self._starts[sequence : sequence + 2].tolist()
        patch = self.tokenizer.decode(self._tokens[start:end].astype(np.int32))
        return _guess_patch(guess, patch, self.tokenizer.unit), patch

    def _guess_tokens(self, guess: StartingDensity) -> Arrays:
        """Tokens of the starting density of every row, computed once since rows are fixed."""

        def one(sequence: int) -> NDArray[np.int32]:
            return self.tokenizer.density_ids(self._guessed(guess, sequence)[0])

        def build(folder: Path, limit: int | None) -> dict[str, Any]:
            counts = self.lengths - 2 - self._density
            with FlatFile(folder, "tokens", self._tokens.dtype, limit) as file:
                for _, tokens in in_order(one, range(len(self.lengths)), self._threads):
                    file.append(tokens)
            with FlatFile(folder, "starts", np.int64) as file:
                file.append(np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]))
            return {}

        identity = {
            "format": 1,
            "shards": self._content,
            "codec": self.tokenizer.density_codec.hash,
            "guess": guess.identity,
        }
        return built(self._cache, "guess", identity, build)

    def name(self, epoch: int, sequence: int) -> str:
        """``ID@x,y,z``: material and low corner of a sequence."""
        x, y, z = self._arrays["offset"].reshape(-1, 3)[sequence].tolist()
        return f"{self.task_ids[self.materials[sequence]]}@{x},{y},{z}"

    def identity(self) -> dict[str, Any]:
        """Everything that determines the sequences, as JSON."""
        content = hashlib.sha256("\n".join(sha for _, _, sha in self._content).encode()).hexdigest()
        made = self.tokenizer.identity
        del made["fallback_shapes"]  # the rows are there, whatever would have been tried
        guess = self.starting.identity if self.starting else None
        return {"source": "parquet", "shards_hash": content, **made, "guess": guess}


_TYPES: dict[str, Any] = {
    "starts": np.int64,
    "material": np.int32,
    "offset": np.int32,
    "density": np.int32,
    "grid": np.int32,
    "cell": np.float64,
    "atoms": np.int32,
    "numbers": np.uint8,
}


@dataclass(frozen=True, eq=False)
class _Shard:
    task_ids: list[str]
    offsets: NDArray[np.int32]
    ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    density: NDArray[np.int64]


def _read_shard(tokenizer: PatchTokenizer, part: tuple[Worker, dict[str, Any]]) -> _Shard:
    """Read a shard and check its digest and that all its rows decode."""
    worker, shard = part
    path = worker.path / shard["name"]
    data = path.read_bytes()
    stated = shard.get("sha256")
    if stated is not None and hashlib.sha256(data).hexdigest() != stated:
        raise ValueError(f"{path}: the content is not what meta.json states (SHA-256); fetch it again")
    try:
        table = pq.read_table(io.BytesIO(data), columns=list(_COLUMNS))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: not a shard of the format: {error}") from error
    rows = table["input_ids"].combine_chunks()
    lengths = rows.value_lengths().to_numpy(zero_copy_only=False)
    if rows.null_count or (lengths != tokenizer.pad_to).any():
        raise ValueError(f"{path}: rows of {np.unique(lengths)} tokens, expected pad_to = {tokenizer.pad_to}")
    ids = np.ascontiguousarray(rows.flatten().to_numpy().reshape(-1, tokenizer.pad_to), dtype=np.int32)
    offsets = np.stack([table[f"offset_{axis}"].to_numpy() for axis in "xyz"], axis=1).astype(np.int32)
    wrong = tokenizer.check_rows(ids, offsets)
    if wrong:
        row, problem = wrong[0]
        raise ValueError(f"{path}: {len(wrong)} rows cannot be decoded, the first is row {row}: {problem}")
    specials = tokenizer.vocabulary.specials
    ends = np.argmax(ids == specials["[EOS]"], axis=1) + 1
    density = np.argmax(ids == specials["[DENS_START]"], axis=1) + 1
    return _Shard(table["task_id"].to_pylist(), offsets, ids, ends, density)


def _check_expected(dataset: Dataset, config: DataConfig, codec_hash: str | None) -> None:
    found = {**dataset.tokenizer.identity, "split": dataset.meta.get("split")}
    asked = {name: getattr(config, name) for name in ("layout", "patch_size", "pad_to", "unit", "split")}
    asked["codec_hash"] = codec_hash
    differ = [
        f"{key} is {found[key]}, the configuration says {value}"
        for key, value in asked.items()
        if value is not None and found[key] != value
    ]
    if differ:
        raise ValueError(f"{dataset.path}: {'; '.join(differ)}")


def _valence(name: str) -> dict[int, float]:
    """Valence electrons of each element: the promolecule's, or those outside the noble-gas core."""
    known = {z: float(_core.valence_electrons(z)) for z in range(1, 119)}
    promolecule = Promolecule.load(name)
    stated = zip(promolecule.atomic_numbers.tolist(), promolecule.electrons.tolist(), strict=True)
    return known | {z: count for z, count in stated if count == count}


def _left_out(dataset: Dataset) -> dict[str, list[str]]:
    """Materials left out when the rows were written, by reason; ``?`` if ``meta.json`` does not name one."""
    found: dict[str, list[str]] = {}
    for worker in dataset.workers:
        for reason in REASONS:
            count = int(worker.meta.get(f"n_materials_{reason}", 0))
            named = [str(name) for name in worker.meta.get(f"first_materials_{reason}", [])][:count]
            if count:
                found.setdefault(reason, []).extend([*named, *["?"] * (count - len(named))])
    return found


def _volume(cell: NDArray[np.float64]) -> float:
    return float("nan") if np.isnan(cell).any() else abs(float(np.linalg.det(_matrix(cell))))


def _matrix(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lattice vectors (3, 3) in angstrom from lengths and angles (degrees): a along x, b in the xy plane."""
    a, b, c = cell[:3]
    alpha, beta, gamma = np.radians(cell[3:])
    cx, cy = np.cos(beta), (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
    cz = np.sqrt(max(1.0 - cx * cx - cy * cy, 0.0))
    return np.array(
        [[a, 0.0, 0.0], [b * np.cos(gamma), b * np.sin(gamma), 0.0], [c * cx, c * cy, c * cz]],
        dtype=np.float64,
    )


def _guess_patch(guess: StartingDensity, patch: Patch, unit: str) -> NDArray[np.float64]:
    """The starting density of a row, from the quantised cell and atoms in its preamble."""
    if patch.lattice is None:
        raise ValueError(
            "this layout writes no cell, so a row does not say enough for a starting density; use rows of v2-lat or "
            "v3, or densities on the fly"
        )
    crystal = Crystal.of(_matrix(patch.lattice), patch.atomic_numbers, patch.frac_coords)
    offset = patch.offset or (0, 0, 0)  # v3 writes positions in the frame of the patch
    return guess.patch(crystal, patch.grid_shape, offset, patch.patch_shape, unit)
