"""What the rows of densities say about space; needs JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import haliax as hax
import numpy as np

from tomat.lm.brick.tiles import turned
from tomat.lm.data.shuffle import key_of
from tomat.lm.field.surroundings import FLOOR, AtomSums, Surroundings, by_l
from tomat.lm.spatial.example import Space, Surrounded
from tomat.lm.spatial.places import PlacedCrystal, places_of, tokens_of
from tomat.promolecule import Promolecule, UnscaledPromolecule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.lm.data.on_the_fly import DensitySource
    from tomat.lm.data.rows import Rows
    from tomat.lm.model.presets import ModelShape
    from tomat.lm.vocabulary import ModelVocabulary

    type Fields = dict[str, NDArray[Any]]

#: Starting density of padding, in e/A^3.
_EMPTY = 0.1


class SpatialRows:
    """Space of the rows of a source of densities, one sequence each.

    Args:
        rows: of densities; a row holds one sequence.
        source: of the rows.
        shape: of the model.
        vocabulary: of the model.
        turn: seed of the frames, which are turned and mirrored at random; None leaves them as they are.
    """

    def __init__(
        self,
        rows: Rows,
        source: DensitySource,
        shape: ModelShape,
        vocabulary: ModelVocabulary,
        *,
        turn: int | None = None,
    ) -> None:
        self._rows, self._source, self._vocabulary, self._turn = rows, source, vocabulary, turn
        sites = source.store.arrays["atoms"][source.kept]
        self._patches = {int(n): rows.tokenizer.shape_for(int(n)) for n in np.unique(sites)}
        #: Places for atoms and voxels of a row.
        self.room = int(sites.max()), max(int(np.prod(patch)) for patch in self._patches.values())
        self._around: Surroundings | None = None
        if shape.field is not None:
            self._around = Surroundings(shape.field, promolecule_of(source))
            self._atoms = AtomSums(self._surroundings_of, lambda index: source.store.material(index).crystal)
        self._placed: dict[int, PlacedCrystal] = {}

    def _surroundings_of(self, material: int) -> Surroundings:
        del material  # one for all
        if self._around is None:  # pragma: no cover - asked by those that see
            raise ValueError("a model without the field's eyes has no surroundings")
        return self._around

    def template(self, Pos: hax.Axis) -> Space:  # noqa: N803 - the field's name
        """The space of a row, all zeros, for the structure of examples."""
        n, v = self.room
        site, voxel, along = hax.Axis("site", n), hax.Axis("voxel", v), hax.Axis("along", 3)
        around = None
        if self._around is not None:
            of = self._around.shape
            function = hax.Axis("function", of.functions)
            feature = hax.Axis("feature", self._around.features.shape[1])

            def sums(name: str, points: int) -> tuple[hax.NamedArray, ...]:
                axes = [hax.Axis(f"{name}_{l}", points * (2 * l + 1)) for l in range(of.l_max + 1)]  # noqa: E741
                return tuple(_zeros((site, axis, function), np.float32) for axis in axes)

            around = Surrounded(
                features=_zeros((site, feature), np.float32),
                present=_zeros((site,), np.float32),
                atoms=sums("atoms", n),
                voxels=sums("voxels", v),
                guess=_zeros((voxel,), np.float32),
            )
        return Space(
            places=_zeros((Pos, along), np.float32),
            atoms=_zeros((Pos,), np.int32),
            voxels=_zeros((Pos,), np.int32),
            around=around,
        )

    def fill(self, epoch: int, row: int, tokens: NDArray[np.int32], out: Fields) -> None:
        """Write the space of a row with these tokens (L,) into arrays by their place in the template."""
        material, offset = self._source.patch(epoch, int(self._rows.sequences(row)[0]))
        placed = self._of(material)
        density = self._vocabulary.density
        of_density = np.flatnonzero((tokens >= density.start) & (tokens < density.stop))
        columns = slice(int(of_density[0]), int(of_density[-1]) + 1)
        n, v = len(placed.crystal.atomic_numbers), len(placed.voxels)
        of = tokens_of(tokens, self._vocabulary, columns, (n, self.room[0]), (v, self.room[1]))
        places = places_of(of, placed.atoms(offset), placed.voxels)
        if self._turn is not None:
            key = key_of(self._turn, "frames", epoch, row)
            places = places @ turned(np.random.Generator(np.random.Philox(key=key)))
        out["places"][...], out["atoms"][...], out["voxels"][...] = places, of.atoms, of.voxels
        if self._around is not None:
            self._see(material, placed, offset, out)

    def _see(self, material: int, placed: PlacedCrystal, offset: NDArray[np.int64], out: Fields) -> None:
        around, crystal = self._surroundings_of(material), placed.crystal
        n, v = len(crystal.atomic_numbers), len(placed.voxels)
        guess = np.maximum(self._source.guess_at(material, placed.indices(offset)), FLOOR)
        out["around.features"][...], out["around.present"][...], out["around.guess"][...] = 0, 0, _EMPTY
        out["around.features"][:n] = around.features[crystal.atomic_numbers]
        out["around.present"][:n] = 1
        out["around.guess"][:v] = guess
        atoms = self._atoms.of(material)
        voxels = around.at_points(crystal, placed.points(offset), guess)
        for name, sums, room in (("atoms", atoms, self.room[0]), ("voxels", voxels, self.room[1])):
            for l, part in enumerate(by_l(sums, around.shape.l_max)):  # noqa: E741
                there = out[f"around.{name}.{l}"]
                of_points = part.shape[1]
                there[:n, :of_points] = part
                there[n:] = 0
                there[:n, of_points : room * (2 * l + 1)] = 0

    def _of(self, material: int) -> PlacedCrystal:
        found = self._placed.get(material)
        if found is None:
            store = self._source.store
            crystal = store.material(material).crystal
            shape = self._patches[len(crystal.atomic_numbers)]
            found = self._placed[material] = PlacedCrystal(crystal, store.grid[material], shape)
        return found


def promolecule_of(source: DensitySource) -> UnscaledPromolecule:
    """The promolecule of a source, or that of the model that predicts its starting density.

    Raises:
        ValueError: it has no starting density, or one without a promolecule.
    """
    starting = source.starting
    kept = None if starting is None else starting.kept()
    if starting is None or kept is None:
        raise ValueError("model.field needs a promolecule; set data.guess: fit, or a promolecule")
    return UnscaledPromolecule.load(Promolecule.from_bytes(kept, starting.name))


def _zeros(axes: tuple[hax.Axis, ...], dtype: Any) -> hax.NamedArray:
    return hax.NamedArray(np.zeros([axis.size for axis in axes], dtype), axes)
