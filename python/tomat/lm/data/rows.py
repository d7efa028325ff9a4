"""Rows of the model: the interface of sources, and the arrays that objectives use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tomat import _core
from tomat.lm.data.packing import Packing, one_each, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from tomat.clipping import ClippedTotals
    from tomat.lm.data.guess_check import GuessCheck
    from tomat.starting import StartingDensity
    from tomat.tokenizer import PatchTokenizer

    type Ints = NDArray[np.int64]

#: Number of materials named in a message.
_NAMED = 20


@dataclass(frozen=True, eq=False)
class RowArrays:
    """Rows of the model: arrays (n, L).

    Attributes:
        tokens: int32, padded with ``[PAD]``.
        values: float32, true density in the codec's unit at the last token of each voxel, 0 elsewhere. Rows of a
            dataset give the decoded tokens.
        guess: int32, tokens of the starting density at density tokens, 0 elsewhere; None without one.
        segments: int32, index of the sequence in its row, -1 at padding.
        positions: int32, from 0 in each sequence.
        weight: float32, 1 / mean \\|density\\| of the material in the codec's unit at density tokens, 0 elsewhere; the
            mean of weight times \\|error\\| over a material's voxels is its NMAE.
    """

    tokens: NDArray[np.int32]
    values: NDArray[np.float32]
    guess: NDArray[np.int32] | None
    segments: NDArray[np.int32]
    positions: NDArray[np.int32]
    weight: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, eq=False)
class RowBatch(RowArrays):
    """A batch of rows, with what is in each (n,).

    Attributes:
        n_voxels: int64, voxels in the row.
        electrons: float32, electrons in these voxels.
    """

    n_voxels: NDArray[np.int64]
    electrons: NDArray[np.float32]

    @classmethod
    def empty(cls, n: int, size: int, *, guess: bool) -> RowBatch:
        """``n`` rows to write."""
        shape = (n, size)
        return cls(
            tokens=np.empty(shape, np.int32),
            values=np.empty(shape, np.float32),
            guess=np.empty(shape, np.int32) if guess else None,
            segments=np.empty(shape, np.int32),
            positions=np.empty(shape, np.int32),
            weight=np.empty(shape, np.float32),
            n_voxels=np.empty(n, np.int64),
            electrons=np.empty(n, np.float32),
        )


@dataclass(frozen=True, eq=False)
class _Placed:
    """Sequences in rows: arrays (n,), and ``spans`` (n, 3) as of :meth:`Source.fill`."""

    materials: NDArray[np.int32]
    rows: Ints
    columns: Ints
    spans: Ints


class Source(Protocol):
    """A source of sequences; sequence i belongs to the same material in every epoch."""

    tokenizer: PatchTokenizer
    lengths: NDArray[np.int32]
    materials: NDArray[np.int32]
    task_ids: Sequence[str]
    left_out: dict[str, list[str]]
    #: Clipping totals of the materials, as far as counted.
    clipped: ClippedTotals
    starting: StartingDensity | None
    guess_check: GuessCheck | None
    #: Atomic numbers in the data, ascending.
    elements: list[int]
    #: 1 / mean |density| of each material, in the codec's unit.
    weight: NDArray[np.float64]
    #: Electrons per voxel and unit of density, of each material.
    electrons: NDArray[np.float64]

    def fill(self, epoch: int, sequences: Ints, rows: Ints, columns: Ints, batch: RowArrays) -> Ints:
        """Write the tokens of sequences, and values and guess at density tokens.

        Returns:
            (n, 3): length, and first and end of density tokens.
        """
        ...

    def name(self, epoch: int, sequence: int) -> str:
        """``ID@x,y,z``: material and low corner of a sequence."""
        ...

    def identity(self) -> dict[str, Any]:
        """Everything that determines the sequences, as JSON."""
        ...


class Rows:
    """The rows of a source at the model's length.

    Args:
        source: of sequences.
        size: tokens per row of the model, L.
        packed: whether several sequences may share a row.
        seed: of the packing.

    Raises:
        ValueError: there are no sequences, or one is longer than ``size``.
    """

    def __init__(self, source: Source, size: int, *, packed: bool = False, seed: int = 0) -> None:
        lengths = source.lengths
        if not len(lengths):
            raise ValueError("the data have no sequences")
        longest = int(np.argmax(lengths))
        if lengths[longest] > size:
            raise ValueError(
                f"{int((lengths > size).sum())} of {len(lengths)} sequences are longer than the model's {size} "
                f"tokens, the longest ({source.task_ids[source.materials[longest]]}) has {lengths[longest]}; "
                "lengthen the model or cut smaller patches"
            )
        self.source, self.size, self.packed, self.seed = source, size, packed, seed
        #: The tokenizer of the rows.
        self.tokenizer = source.tokenizer
        #: Whether rows have a starting density.
        self.has_guess = source.starting is not None
        self.packing: Packing = (
            pack(lengths, source.materials, size, seed) if packed else one_each(lengths, size)
        )
        self._components = len(source.tokenizer.density_codec.sizes)

    def __len__(self) -> int:
        """Rows per epoch."""
        return len(self.packing)

    def sequences(self, index: int) -> Ints:
        """The sequences in a row."""
        return self.packing.sequences[self.packing.starts[index] : self.packing.starts[index + 1]]

    def rows(self, epoch: int, indices: ArrayLike, into: RowBatch | None = None) -> RowBatch:
        """A batch of rows; each depends only on (epoch, index).

        ``into`` is a batch of the same size to overwrite, which is faster than fresh memory.

        Raises:
            IndexError: no such row.
        """
        index = np.asarray(indices, dtype=np.int64).reshape(-1)
        if into is None or len(into) != len(index):
            batch = RowBatch.empty(len(index), self.size, guess=self.has_guess)
        else:
            batch = into
        self._count(batch, self._write(epoch, index, batch))
        return batch

    def write(self, epoch: int, indices: ArrayLike, out: RowArrays) -> None:
        """As :meth:`rows`, but into given arrays, without counts, and with a guess only if there is an array for it.

        Raises:
            IndexError: no such row.
            ValueError: the arrays are not rows in memory, of one shape.
        """
        self._write(epoch, np.asarray(indices, dtype=np.int64).reshape(-1), out)

    def _write(self, epoch: int, index: Ints, out: RowArrays) -> _Placed:
        if index.size and not 0 <= index.min() <= index.max() < len(self):
            raise IndexError(f"rows from {index.min()} to {index.max()}, but there are {len(self)}")
        starts, ends = self.packing.starts[index], self.packing.starts[index + 1]
        counts = ends - starts
        rows = np.repeat(np.arange(len(index)), counts)
        number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        sequences = self.packing.sequences[np.repeat(starts, counts) + number]
        lengths = self.source.lengths[sequences].astype(np.int64)
        before = np.cumsum(lengths) - lengths
        columns = before - np.repeat(before[np.cumsum(counts) - counts], counts)
        spans = self.source.fill(epoch, sequences, rows, columns, out)
        materials = self.source.materials[sequences]
        _core.annotate_rows(
            np.stack([rows, columns], axis=1),
            spans,
            self.source.weight[materials],
            out.tokens,
            out.values,
            out.segments,
            out.positions,
            out.weight,
            guess=out.guess,
        )
        return _Placed(materials, rows, columns, spans)

    def _count(self, batch: RowBatch, placed: _Placed) -> None:
        """Write what is in each row."""
        batch.n_voxels.fill(0)
        batch.electrons.fill(0)
        places = zip(placed.rows.tolist(), placed.columns.tolist(), placed.spans.tolist(), strict=True)
        scales = self.source.electrons[placed.materials].tolist()
        for (row, column, (_, first, end)), scale in zip(places, scales, strict=True):
            batch.electrons[row] += batch.values[row, column + first : column + end].sum() * scale
            batch.n_voxels[row] += (end - first) // self._components

    def row_id(self, epoch: int, index: int) -> str:
        """The sequences of a row: ``mp-12@0,5,7+mp-3@1,2,3``."""
        return "+".join(self.source.name(epoch, int(i)) for i in self.sequences(index))

    def identity(self) -> dict[str, Any]:
        """Everything that determines the rows, as JSON; resumed runs compare it."""
        return {
            **self.source.identity(),
            "size": self.size,
            "packed": self.packed,
            "packing_seed": self.seed if self.packed else None,
        }

    @property
    def losses(self) -> list[str]:
        """Messages about materials that are left out, by reason and name, and about clipping."""
        lines = []
        for reason, names in self.source.left_out.items():
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            lines.append(
                f"{len(names)} materials are left out as {reason}: {', '.join(names[:_NAMED])}{more}"
            )
        if self.source.clipped.materials:
            lines.append(f"the codec clips {self.source.clipped}")
        return lines

    @property
    def counts(self) -> dict[str, Any]:
        """Counts of an epoch: materials, sequences, rows, tokens (without padding), fill, left_out, clipped."""
        return {
            "materials": len(self.source.task_ids),
            "sequences": len(self.source.lengths),
            "rows": len(self),
            "tokens": int(self.source.lengths.sum(dtype=np.int64)),
            "fill": self.packing.fill,
            "left_out": {reason: len(names) for reason, names in self.source.left_out.items()},
            "clipped": self.source.clipped.stored,
        }
