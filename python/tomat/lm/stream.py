"""Datasets of training examples for Levanter's loader; needs JAX and Levanter."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import haliax as hax
import jax
import numpy as np
from levanter.data.dataset import AsyncDataset
from levanter.data.loader import DataLoader
from levanter.layers.attention import AttentionMask

from tomat.lm.data.rows import RowArrays
from tomat.lm.data.shuffle import key_of, keys_of, permute
from tomat.lm.example import DensityExample

if TYPE_CHECKING:
    from levanter.trainer import Trainer
    from numpy.typing import NDArray

    from tomat.lm.data.rows import Rows
    from tomat.lm.objective import ObjectiveConfig
    from tomat.lm.spatial.rows import SpatialRows
    from tomat.lm.vocabulary import ModelVocabulary

#: Rows processed at a time, so that their arrays stay in the cache of a core.
_BLOCK = 16


class Stream[Example](AsyncDataset[Example]):
    """Examples by index, for Levanter's trainer."""

    def loader(
        self, trainer: Trainer, batch_size: int, *, buffered: int, fetched: int
    ) -> DataLoader[Example]:
        """Levanter's loader with less prefetching: its trainer's default of 128 batches takes gigabytes."""
        return DataLoader(
            self,
            batch_size,
            batch_axis_name=trainer.config.batch_axis_name,
            max_buffered_batches=buffered,
            fetch_batch_size=fetched,
            mesh=trainer.device_mesh,
            axis_resources=trainer.compute_axis_mapping,
        )


class ExampleDataset(Stream[DensityExample]):
    """Examples made of rows: endless for training, every row once for evaluation.

    For training, example i is row ``order(epoch)[i mod rows]`` of epoch ``i // rows``. Every epoch has its own order
    over all rows, and new patches if they are cut on the fly. An example depends only on (seed, i), so a run can resume
    at any step.

    Args:
        rows: of a source.
        objective: the training objective.
        vocabulary: of the model.
        Pos: the model's position axis.
        seed: of the order and the masks.
        finite: whether to give every row once, in a fixed order with fixed masks.
        limit: if finite, the largest number of rows, drawn from all.
        threads: threads that make a batch.
        space: what the rows say about space, for a model to which it matters.

    Raises:
        ValueError: rows, objective and model do not fit together.
    """

    def __init__(
        self,
        rows: Rows,
        objective: ObjectiveConfig,
        vocabulary: ModelVocabulary,
        Pos: hax.Axis,  # noqa: N803 - the field's name
        *,
        seed: int = 0,
        finite: bool = False,
        limit: int | None = None,
        threads: int = 1,
        space: SpatialRows | None = None,
    ) -> None:
        super().__init__()
        if Pos.size != rows.size:
            raise ValueError(f"the model has {Pos.size} positions, the rows {rows.size}")
        asked = objective.build()
        if asked.needs_guess and not rows.has_guess:
            raise ValueError(f"objective.kind = {objective.kind} needs a starting density: set data.guess")
        if vocabulary.tokenizer.vocabulary.hash != rows.tokenizer.vocabulary.hash:
            raise ValueError("the model's vocabulary is not that of the rows")
        self._rows, self._objective, self._vocabulary, self._seed = rows, asked, vocabulary, seed
        self._finite, self._threads = finite, threads
        #: Examples per epoch, or in all if finite.
        self.count = min(len(rows), limit or len(rows))
        self._scratch = threading.local()
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        segments = hax.NamedArray(np.zeros(Pos.size, dtype=np.int32), (Pos,))
        mask = AttentionMask.causal() if asked.causal else AttentionMask()
        zeros = {
            name: hax.NamedArray(np.zeros(Pos.size, dtype=dtype), (Pos,)) for name, dtype in _FIELDS.items()
        }
        self._space = space
        template = DensityExample(
            attn_mask=mask.with_segment_ids(segments),
            **zeros,
            space=None if space is None else space.template(Pos),
        )
        # Building examples field by field is slow; their structure is always the same.
        self._structure = jax.tree.structure(template, is_leaf=_is_named)
        leaves = _named_leaves(template)
        self._names = [name for name, _ in leaves]
        self._leaves = dict(leaves)

    async def async_len(self) -> int:
        """Number of examples.

        Raises:
            ValueError: the stream is endless.
        """
        if not self._finite:
            raise ValueError("the training stream has no length")
        return self.count

    def is_finite(self) -> bool:
        """Whether every row is given once."""
        return self._finite

    async def get_batch(self, indices: Sequence[int]) -> Sequence[DensityExample]:
        """Examples by index; their arrays are views of a few large ones."""
        rows = {
            name: [_named(row, self._leaves[name].axis_names) for row in array]
            for name, array in self.arrays(indices).items()
        }
        leaves = zip(*(rows[name] for name in self._names), strict=True)
        return [jax.tree.unflatten(self._structure, of_row) for of_row in leaves]

    def arrays(self, indices: Sequence[int]) -> dict[str, NDArray[Any]]:
        """The arrays (n, L) of examples, named as in :meth:`tomat.lm.objective.Objective.examples`.

        Those of :class:`tomat.lm.spatial.example.Space` (n, ...) are named by their place in it: ``space.places``.
        """
        epochs, rows = self.places(indices)
        out = self._empty(len(rows))

        def work(block: slice) -> None:
            views = {name: array[block] for name, array in out.items()}
            self._examples(int(epochs[block.start]), rows[block], views)

        for _ in map(work, _blocks(epochs)) if self._pool is None else self._pool.map(work, _blocks(epochs)):
            pass
        return out

    def _empty(self, n: int) -> dict[str, NDArray[Any]]:
        """Arrays of ``n`` examples to write."""
        # One allocation is large enough for large pages, and given back and taken again without new ones.
        plain = np.empty((len(_PLAIN), n, self._rows.size), dtype=np.int32)
        out = {name: plain[place].view(dtype) for place, (name, dtype) in enumerate(_PLAIN.items())}
        for name, leaf in self._leaves.items():
            if name not in out:
                out[name] = np.empty((n, *leaf.array.shape), dtype=leaf.array.dtype)
        return out

    def _examples(self, epoch: int, rows: NDArray[np.int64], out: dict[str, NDArray[Any]]) -> None:
        """Write the examples of rows of one epoch into ``out``."""
        # The objective makes them of the rows where they are.
        batch = RowArrays(
            tokens=out["targets"],
            values=out["values"],
            guess=self._guess(len(rows)) if self._objective.needs_guess else None,
            segments=out["segments"],
            positions=out["pos_ids"],
            weight=out["loss_weight"],
        )
        self._rows.write(epoch, rows, batch)
        if self._space is not None:
            self._write_space(self._space, epoch, rows, batch.tokens, out)
        keys = keys_of(key_of(self._seed, "mask", epoch), rows)
        self._objective.ask(out, batch.guess, self._vocabulary, keys)

    def _guess(self, n: int) -> NDArray[np.int32]:
        """Memory for the guess of ``n`` rows, which no example keeps."""
        if not hasattr(self._scratch, "guess"):
            self._scratch.guess = np.empty((_BLOCK, self._rows.size), dtype=np.int32)
        guess: NDArray[np.int32] = self._scratch.guess[:n]
        return guess

    @staticmethod
    def _write_space(
        space: SpatialRows,
        epoch: int,
        rows: NDArray[np.int64],
        tokens: NDArray[np.int32],
        out: dict[str, NDArray[Any]],
    ) -> None:
        """Write what rows of these tokens, all as they were encoded, say about space."""
        there = {name.removeprefix(_SPACE): array for name, array in out.items() if name.startswith(_SPACE)}
        for at, row in enumerate(rows.tolist()):
            space.fill(epoch, row, tokens[at], {name: array[at] for name, array in there.items()})

    def places(self, indices: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Epoch and row of each example.

        Raises:
            IndexError: beyond the end of a finite dataset.
        """
        index = np.asarray(indices, dtype=np.int64).reshape(-1)
        n = len(self._rows)
        if self._finite:
            if index.size and index.max() >= self.count:
                raise IndexError(f"example {index.max()} of {self.count}")
            # Only a subset is drawn at random; all rows keep their order.
            rows = index if self.count == n else permute(index, n, key_of(self._seed, "subset"))
            return np.zeros_like(index), rows
        epochs = index // n
        rows = np.empty_like(index)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            rows[chosen] = permute(index[chosen] % n, n, key_of(self._seed, "order", int(epoch)))
        return epochs, rows

    def row_id(self, index: int) -> str:
        """Sequences in example ``index``: ``mp-12@0,5,7+mp-3@1,2,3``."""
        epochs, rows = self.places([index])
        return self._rows.row_id(int(epochs[0]), int(rows[0]))


_FIELDS: dict[str, Any] = {
    "tokens": np.int32,
    "loss_weight": np.float32,
    "targets": np.int32,
    "values": np.float32,
    "pos_ids": np.int32,
}

#: Arrays of every example, (n, L), all of four bytes a token.
_PLAIN = _FIELDS | {"segments": np.int32}

#: What the names of the arrays of the space begin with.
_SPACE = "space."


def _blocks(epochs: NDArray[np.int64]) -> list[slice]:
    """Parts of a batch with rows of one epoch each, at most :data:`_BLOCK`."""
    n = len(epochs)
    edges = [0, *(np.flatnonzero(np.diff(epochs)) + 1).tolist(), n]
    return [
        slice(start, min(start + _BLOCK, end))
        for first, end in pairwise(edges)
        for start in range(first, end, _BLOCK)
    ]


def _is_named(leaf: Any) -> bool:
    return isinstance(leaf, hax.NamedArray)


def _named(array: NDArray[Any], axes: tuple[str, ...]) -> hax.NamedArray:
    """An array whose axes are known to fit: checking them again takes longer than writing the array."""
    named = object.__new__(hax.NamedArray)
    named.__dict__.update(array=array, axis_names=axes)
    return named


def _named_leaves(template: DensityExample) -> list[tuple[str, hax.NamedArray]]:
    """The leaves of an example by name, in order; both segment arrays of the mask are ``segments``."""
    leaves = jax.tree_util.tree_leaves_with_path(template, is_leaf=_is_named)
    named = [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]
    return [("segments" if name.startswith("attn_mask") else name, leaf) for name, leaf in named]
