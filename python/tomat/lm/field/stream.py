"""A dataset of rows of crystals for Levanter's loader; needs JAX and Levanter."""

from __future__ import annotations

import bisect
import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import haliax as hax
import numpy as np

from tomat.lm.data.shuffle import key_of, permute
from tomat.lm.field.example import FieldExample
from tomat.lm.field.surroundings import AtomSums, by_l
from tomat.lm.stream import Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.lm.data.store import DensityStore
    from tomat.lm.field.points import DrawnPoints
    from tomat.lm.field.surroundings import Surroundings

#: Promolecule and density of padding, in e/A^3.
_EMPTY = 0.1


class Packing:
    """Which materials share a row: an order of its own for every epoch, cut where a row is full.

    Args:
        sites: (materials,) atoms of each.
        room: atoms and crystals of a row.
        seed: of the orders.

    Raises:
        ValueError: a material has more atoms than a row holds.
    """

    def __init__(self, sites: NDArray[np.int64], room: tuple[int, int], seed: int) -> None:
        if len(sites) == 0 or int(sites.max()) > room[0]:
            raise ValueError(
                f"{len(sites)} materials of up to {sites.max(initial=0)} atoms; rows hold {room[0]}"
            )
        self._sites, self._room, self._seed = sites, room, seed
        self._starts: list[int] = [0]
        self._kept: dict[int, list[NDArray[np.int64]]] = {}
        self._lock = threading.Lock()

    def row(self, index: int) -> NDArray[np.int64]:
        """The materials of row ``index`` of the endless stream."""
        with self._lock:
            while self._starts[-1] <= index:
                self._starts.append(self._starts[-1] + len(self._rows(len(self._starts) - 1)))
            epoch = bisect.bisect_right(self._starts, index) - 1
            return self._rows(epoch)[index - self._starts[epoch]]

    def _rows(self, epoch: int) -> list[NDArray[np.int64]]:
        if epoch not in self._kept:
            n = len(self._sites)
            order = permute(np.arange(n), n, key_of(self._seed, "order", epoch))
            cuts, atoms, crystals = [], 0, 0
            for place, size in enumerate(self._sites[order].tolist()):
                if atoms + size > self._room[0] or crystals == self._room[1]:
                    cuts.append(place)
                    atoms = crystals = 0
                atoms, crystals = atoms + size, crystals + 1
            # Batches that are fetched together may span two epochs.
            while len(self._kept) > 1:
                del self._kept[min(self._kept)]
            self._kept[epoch] = np.split(order, cuts)
        return self._kept[epoch]


class CrystalRows[Example](Stream[Example]):
    """Endless rows of crystals with their atoms; every epoch has its own order.

    An example depends only on (seed, index), so a run can resume at any step.

    Args:
        store: the crystals.
        surroundings: what is summed around their atoms.
        materials: the materials of the store to train on.
        own: surroundings of materials that have another promolecule.
        seed: of the order.
        threads: threads that make a batch.
    """

    def __init__(
        self,
        store: DensityStore,
        surroundings: Surroundings,
        materials: NDArray[np.int64],
        *,
        own: Mapping[int, Surroundings] | None = None,
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        """Pack the materials into rows."""
        super().__init__()
        self.store, self.around, self.seed = store, surroundings, seed
        self._own = own or {}
        shape = surroundings.shape
        sites = np.asarray(store.arrays["atoms"], np.int64)[materials]
        self._materials = materials
        self._packing = Packing(sites, (shape.sites_per_row, shape.crystals_per_row), seed)
        self._most = int(sites.max())
        self._atoms = AtomSums(self.around_of, lambda material: store.material(material).crystal)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    async def async_len(self) -> int:
        """Rows have no end.

        Raises:
            ValueError: always.
        """
        raise ValueError("the training stream has no length")

    def is_finite(self) -> bool:
        """Whether the rows come to an end: no."""
        return False

    async def get_batch(self, indices: Sequence[int]) -> Sequence[Example]:
        """Rows by index."""
        return list(map(self.row, indices) if self._pool is None else self._pool.map(self.row, indices))

    def materials(self, index: int) -> NDArray[np.int64]:
        """The materials of row ``index``, by their place in the store."""
        return self._materials[self._packing.row(int(index))]

    def row_id(self, index: int) -> str:
        """The materials of a row: ``mp-12+mp-3``."""
        return "+".join(self.store.task_ids[int(m)] for m in self.materials(index))

    def around_of(self, material: int) -> Surroundings:
        """What is summed around points of a material."""
        return self._own.get(material, self.around)

    @abstractmethod
    def row(self, index: int) -> Example:
        """Row ``index``."""

    def of_atoms(self, materials: NDArray[np.int64]) -> dict[str, Any]:
        """The fields ``features``, ``crystal``, ``place`` and ``atoms`` of a row with these materials."""
        around, shape = self.around, self.around.shape
        n, c = shape.sites_per_row, shape.crystals_per_row
        sums = np.zeros((n, self._most, shape.functions, (shape.l_max + 1) ** 2), np.float32)
        numbers, place = np.zeros(n, np.int64), np.zeros(n, np.int32)
        crystal = np.full(n, c, np.int32)
        for at, (material, sites) in enumerate(self.sites(materials)):
            of = self.store.atomic_numbers(material)
            sums[sites, : len(of)] = self._atoms.of(material)
            numbers[sites], place[sites], crystal[sites] = of, np.arange(len(of)), at
        features = around.features[numbers]
        return {
            "features": hax.NamedArray(features, (_SITE.resize(n), axis("feature", features))),
            "crystal": hax.NamedArray(crystal, (_SITE.resize(n),)),
            "place": hax.NamedArray(place, (_SITE.resize(n),)),
            "atoms": named_sums("atoms", sums, shape.l_max),
        }

    def sites(self, materials: NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
        """Each material of a row, and the places of its atoms in it."""
        first = 0
        for material in materials.tolist():
            size = int(self.store.arrays["atoms"][material])
            yield material, slice(first, first + size)
            first += size


class FieldDataset(CrystalRows[FieldExample]):
    """Endless rows of crystals and voxels; every row has its own draw of voxels.

    Args:
        points: the voxels that are drawn from.

    All others are those of :class:`CrystalRows`.
    """

    def __init__(
        self,
        points: DrawnPoints,
        surroundings: Surroundings,
        materials: NDArray[np.int64],
        *,
        own: Mapping[int, Surroundings] | None = None,
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        """Pack the materials into rows."""
        super().__init__(points.store, surroundings, materials, own=own, seed=seed, threads=threads)
        self._points = points

    def row(self, index: int) -> FieldExample:
        """Row ``index``."""
        points, shape = self._points, self.around.shape
        materials = self.materials(index)
        rng = np.random.Generator(np.random.Philox(key=key_of(self.seed, "voxels", int(index))))
        n, c, v = shape.sites_per_row, shape.crystals_per_row, shape.voxels_per_crystal
        sums = np.zeros((n, v, shape.functions, (shape.l_max + 1) ** 2), np.float32)
        guess, value = np.full((2, c, v), _EMPTY, np.float32)
        weight = np.zeros((c, v), np.float32)
        for at, (material, sites) in enumerate(self.sites(materials)):
            chosen = rng.integers(0, points.count, v)
            guess[at] = points.guess[material, chosen]
            value[at] = points.value[material, chosen]
            weight[at] = points.weight[material, chosen] / (v * len(materials))
            places = points.places(material, chosen)
            sums[sites] = self.around_of(material).at_points(points.crystal(material), places, guess[at])
        points_of = (hax.Axis("crystal", c), hax.Axis("voxel", v))
        return FieldExample(
            **self.of_atoms(materials),
            voxels=named_sums("voxels", sums, shape.l_max),
            guess=hax.NamedArray(guess, points_of),
            value=hax.NamedArray(value, points_of),
            weight=hax.NamedArray(weight, points_of),
        )


def named_sums(name: str, sums: NDArray[np.float32], l_max: int) -> tuple[hax.NamedArray, ...]:
    """Sums (sites, points, functions, angular) of a row for each l, as examples hold them."""
    return tuple(
        hax.NamedArray(
            part, (_SITE.resize(len(part)), hax.Axis(f"{name}_{l}", part.shape[1]), axis("function", part))
        )
        for l, part in enumerate(by_l(sums, l_max))  # noqa: E741
    )


_SITE = hax.Axis("site", 1)


def axis(name: str, array: NDArray[Any]) -> hax.Axis:
    """The last axis of an array, by name."""
    return hax.Axis(name, array.shape[-1])
