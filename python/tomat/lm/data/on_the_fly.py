"""Patches cut from densities during training, new ones every epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat import _core
from tomat.clipping import ClippedTotals, Clipping
from tomat.lm.data.folds import own_identities
from tomat.lm.data.store import DensityStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from tomat.lm.data.config import DataConfig
    from tomat.lm.data.folds import OwnStarts
    from tomat.lm.data.guess_check import GuessCheck
    from tomat.lm.data.rows import Ints, RowArrays
    from tomat.material import Material
    from tomat.starting import StartingDensity
    from tomat.tokenizer import PatchTokenizer

#: From ``(material, n, seed, epoch)`` to the low corners (n, 3) of its patches.
type Sampler = Callable[[Material, int, int, int], ArrayLike]
#: From a material to its number of patches per epoch.
type Budget = Callable[[Material], int]

#: Why a material is left out, and what is clipped of it.
type _Inspected = tuple[
    tuple[str, str] | None, tuple[int, float, float, float, float, tuple[int, int, int]] | None
]

#: Epochs whose offsets are kept: a batch may span two.
_EPOCHS = 2


class DensitySource:
    """A source that cuts and encodes patches on demand.

    Args:
        store: the densities.
        tokenizer: encodes them, in the unit of the store.
        config: the configuration, whose seed, limits of clipping and treatment of errors apply.
        budget: patches per material and epoch.
        sampler: places the patches.
        sampler_name: its name, which resumed runs compare.
        guess: a starting density for the ``guess`` objective.
        guess_check: its deviations on a sample of the store.
        own: starting densities of materials that have another.

    Raises:
        ValueError: materials that cannot be encoded, no patches, or a negative budget.
    """

    def __init__(
        self,
        store: DensityStore,
        tokenizer: PatchTokenizer,
        config: DataConfig,
        *,
        budget: Budget,
        sampler: Sampler,
        sampler_name: str,
        guess: StartingDensity | None = None,
        guess_check: GuessCheck | None = None,
        own: OwnStarts | None = None,
    ) -> None:
        if store.unit != tokenizer.unit:
            raise ValueError(
                f"densities in {store.unit} for a tokenizer in {tokenizer.unit}; give both one unit"
            )
        #: Clipping totals of the materials that are kept.
        self.clipped = ClippedTotals()
        self.store, self.tokenizer = store, tokenizer
        self._seed, self._sampler, self._sampler_name = config.seed, sampler, sampler_name
        self.elements = np.unique(store.arrays["numbers"]).tolist()
        self.left_out = {reason: list(names) for reason, names in store.left_out.items()}
        found = _core.inspect(
            tokenizer._core,
            store.crystals,
            store.density,
            store.extents,
            max_clipped=config.max_clipped,
            max_negative=config.max_negative,
        )
        kept = self._writable(found, skip=config.on_error == "skip")
        sizes = [int(store.arrays["atoms"][index]) for index in kept]
        lengths = [tokenizer.length(n, tokenizer.shape_for(n)) for n in sizes]
        self._kept = np.array(kept, dtype=np.int64)
        self.task_ids: Sequence[str] = [store.task_ids[index] for index in kept]
        patches = [budget(store.material(index)) for index in kept]
        if not patches or min(patches) < 0 or sum(patches) == 0:
            raise ValueError(f"{len(patches)} materials with {sum(patches)} patches; give at least one")
        self._patches = np.array(patches, dtype=np.int64)
        self._first = np.cumsum(self._patches) - self._patches
        self.materials = np.repeat(np.arange(len(kept), dtype=np.int32), self._patches)
        self.lengths = np.repeat(np.array(lengths, dtype=np.int32), self._patches)
        self._offsets: dict[int, tuple[NDArray[np.int16], NDArray[np.bool_]]] = {}
        self.starting, self.guess_check, self.own = guess, guess_check, own or {}
        self._guess = store.guess(guess, config.threads, self.own) if guess else None
        with np.errstate(divide="ignore"):
            weight = 1.0 / store.arrays["mean_abs"][self._kept]
        self.weight = np.where(np.isfinite(weight), weight, 0.0)
        points = store.grid[self._kept].astype(np.int64).prod(axis=1)
        volume = np.array([1.0 if store.unit == "chgcar" else store.volume(index) for index in kept])
        self.electrons = volume / points

    def _writable(self, found: list[_Inspected], *, skip: bool) -> list[int]:
        """Indices of the materials that can be encoded; counts what is clipped of them."""
        kept: list[int] = []
        problems: list[str] = []
        for index, (name, (refused, clipped)) in enumerate(zip(self.store.task_ids, found, strict=True)):
            if refused is not None:
                reason, problem = refused
                self.left_out.setdefault(reason, []).append(name)
                problems.append(f"{name}: {problem}")
                continue
            kept.append(index)
            if clipped is not None:
                self.clipped.add(name, Clipping(*clipped))
        if problems and not skip:
            raise ValueError(
                f"{len(problems)} materials cannot be written as {self.tokenizer.layout.name} rows (set data.on_error "
                f"= skip to train without them): {'; '.join(problems[:5])}"
            )
        return kept

    def offsets(self, epoch: int, sequences: Ints) -> Ints:
        """Low corners (n, 3) of sequences in an epoch; those of one material are drawn together."""
        found = self._offsets.get(epoch)
        if found is None:
            # Other threads may do the same, with the same result.
            for old in sorted(self._offsets)[: max(0, len(self._offsets) - _EPOCHS + 1)]:
                self._offsets.pop(old, None)
            found = (
                np.zeros((len(self.materials), 3), dtype=np.int16),
                np.zeros(len(self._patches), dtype=np.bool_),
            )
            self._offsets[epoch] = found
        table, drawn = found
        materials = self.materials[sequences]
        for material in np.unique(materials[~drawn[materials]]).tolist():
            first, n = int(self._first[material]), int(self._patches[material])
            table[first : first + n] = self._draw(material, n, epoch)
            drawn[material] = True  # after the numbers: another thread may be looking
        return table[sequences].astype(np.int64)

    @property
    def kept(self) -> Ints:
        """Places in the store of the materials that have sequences."""
        return self._kept

    def patch(self, epoch: int, sequence: int) -> tuple[int, Ints]:
        """The material of a sequence, by its place in the store, and its low corner (3,)."""
        material = int(self._kept[self.materials[sequence]])
        return material, self.offsets(epoch, np.array([sequence]))[0]

    def guess_at(self, material: int, points: Ints) -> NDArray[np.float32]:
        """The starting density in e/A^3 at row-major grid points (n,) of a material of the store.

        Raises:
            ValueError: there is none.
        """
        if self._guess is None:
            raise ValueError("the densities have no starting density; set data.guess")
        first, _ = self.store.span(material)
        scale = 1.0 if self.store.unit == "e_per_A3" else 1.0 / self.store.volume(material)
        return np.asarray(self._guess[first + points] * np.float32(scale))

    def _draw(self, material: int, n: int, epoch: int) -> Ints:
        known = self.store.material(int(self._kept[material]))
        corners = np.asarray(self._sampler(known, n, self._seed, epoch))
        grid = np.array(known.grid_shape)
        if corners.shape != (n, 3) or (corners < 0).any() or (corners >= grid).any():
            raise ValueError(
                f"{known.task_id}: sampler {self._sampler_name} gave offsets of shape {corners.shape}; give ({n}, 3) "
                f"points of the grid {known.grid_shape}"
            )
        return corners.astype(np.int64)

    def fill(self, epoch: int, sequences: Ints, rows: Ints, columns: Ints, batch: RowArrays) -> Ints:
        """As :meth:`tomat.lm.data.rows.Source.fill`."""
        places = np.empty((len(sequences), 6), dtype=np.int64)
        places[:, 0] = self._kept[self.materials[sequences]]
        places[:, 1:4] = self.offsets(epoch, sequences)
        places[:, 4] = rows
        places[:, 5] = columns
        guess = None if self._guess is None or batch.guess is None else (self._guess, batch.guess)
        return _core.encode_patches(
            self.tokenizer._core,
            self.store.crystals,
            self.store.density,
            places,
            batch.tokens,
            batch.values,
            guess=guess,
        )

    def name(self, epoch: int, sequence: int) -> str:
        """``ID@x,y,z``: material and low corner of a sequence."""
        x, y, z = self.offsets(epoch, np.array([sequence]))[0].tolist()
        return f"{self.task_ids[self.materials[sequence]]}@{x},{y},{z}"

    def identity(self) -> dict[str, Any]:
        """Everything that determines the sequences, as JSON."""
        return {
            "source": "densities",
            "densities_hash": self.store.hash,
            **self.tokenizer.identity,
            "sampler": self._sampler_name,
            "seed": self._seed,
            "patches_hash": hashlib.sha256(self._patches.tobytes()).hexdigest(),
            "guess": self.starting.identity if self.starting else None,
            # Notes of earlier versions have none.
            **({"guess_crossfit": own_identities(self.own)} if self.own else {}),
        }
