"""The space of rows to predict; needs JAX."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import haliax as hax
import jax.numpy as jnp
import numpy as np

from tomat.lm.field.inference import atom_states, split_sums
from tomat.lm.field.surroundings import FLOOR, Surroundings
from tomat.lm.record import kept_promolecule
from tomat.lm.spatial.example import Space, Summed
from tomat.lm.spatial.places import PlacedCrystal, places_of, tokens_of
from tomat.promolecule import UnscaledPromolecule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomat.crystal import Crystal
    from tomat.lm.checkpoint import Trained
    from tomat.lm.field.network import FieldModel
    from tomat.lm.vocabulary import ModelVocabulary
    from tomat.prediction.predictor import PatchRequest

    type Floats = NDArray[np.float32]

#: Crystals that are kept; places for atoms are a multiple of so many, so that few programs are compiled.
_KEPT, _ATOMS = 16, 16


class _Known(NamedTuple):
    """A crystal on a grid; if atoms are seen, with their states (n, state) and weights (n, functions, channels)."""

    crystal: Crystal
    placed: PlacedCrystal
    states: Floats
    weights: Floats


@dataclass(frozen=True, eq=False)
class View:
    """Where the tokens of requested patches are, and what a model sees there.

    Attributes:
        vocabulary: of the model.
        eyes: the field model that tokens see, or None.
        around: what is summed around points for it.
    """

    vocabulary: ModelVocabulary
    eyes: FieldModel | None
    around: Surroundings | None
    _kept: OrderedDict[tuple[int, ...], _Known] = field(default_factory=OrderedDict, repr=False)

    @classmethod
    def of(cls, trained: Trained) -> View:
        """The view of a model.

        Raises:
            ValueError: its note has no promolecule, which its eyes need.
        """
        shape = trained.config.field
        eyes = getattr(trained.model, "eyes", None)
        if shape is None or eyes is None:
            return cls(trained.vocabulary, None, None)
        promolecule = kept_promolecule(trained.note, trained.path)
        if promolecule is None:
            raise ValueError(
                f"{trained.path}: its note has no promolecule; it is damaged, copy the run again"
            )
        around = Surroundings(shape, UnscaledPromolecule.load(promolecule))
        return cls(trained.vocabulary, eyes.field, around)

    def space(
        self, requests: Sequence[PatchRequest], tokens: NDArray[np.int32], columns: Sequence[slice]
    ) -> Space:
        """The space of rows (n, L), of which the first are those of the requests.

        Args:
            requests: patches of one number of voxels.
            tokens: ids.
            columns: of the density tokens of each request.

        Raises:
            ValueError: a request has no guess, which the eyes need.
        """
        known = [self._of(request) for request in requests]
        n, v = len(tokens), len(known[0].placed.voxels)
        room = -(-max(len(one.crystal.atomic_numbers) for one in known) // _ATOMS) * _ATOMS
        places = np.zeros((*tokens.shape, 3), np.float32)
        atoms, voxels = np.full(tokens.shape, room, np.int32), np.full(tokens.shape, v, np.int32)
        for row, (one, request, there) in enumerate(zip(known, requests, columns, strict=True)):
            count = len(one.crystal.atomic_numbers)
            of = tokens_of(tokens[row], self.vocabulary, there, (count, room), (v, v))
            places[row] = places_of(of, one.placed.atoms(request.offset), one.placed.voxels)
            atoms[row], voxels[row] = of.atoms, of.voxels
        around = None if self.eyes is None else self._summed(self.eyes, known, requests, (n, room, v))
        each = ("batch", "position")
        return Space(
            places=hax.named(places, (*each, "along")),
            atoms=hax.named(atoms, each),
            voxels=hax.named(voxels, each),
            around=around,
        )

    def _summed(
        self,
        eyes: FieldModel,
        known: Sequence[_Known],
        requests: Sequence[PatchRequest],
        room: tuple[int, int, int],
    ) -> Summed:
        """States of atoms and sums at voxels of rows."""
        n, atoms, v = room
        channels = eyes.environment.of_l
        states = np.zeros((n, atoms, known[0].states.shape[1]), np.float32)
        sums = np.zeros((n, v, sum((2 * l + 1) * c for l, c in enumerate(channels))), np.float32)  # noqa: E741
        guess = np.full((n, v), FLOOR, np.float32)
        for row, (one, request) in enumerate(zip(known, requests, strict=True)):
            guess[row] = self._guess(request)
            states[row, : len(one.states)] = one.states
            points = one.placed.points(request.offset)
            if self.around is not None:
                sums[row] = self.around.contracted(one.crystal, points, guess[row], one.weights)
        parts = split_sums(jnp.asarray(sums), channels)
        axes = ("batch", "voxel", "angular", "channel")
        return Summed(
            states=hax.named(states, ("batch", "site", "state")),
            sums=tuple(hax.named(part, axes) for part in parts),
            guess=hax.named(guess, ("batch", "voxel")),
        )

    def _guess(self, request: PatchRequest) -> Floats:
        """The starting density of a patch (voxels,) in e/A^3."""
        if request.guess is None:
            raise ValueError(f"{request.crystal.name}: the request at {request.offset} has no guess")
        guess = np.asarray(request.guess, np.float32).ravel()
        if self.vocabulary.tokenizer.unit != "e_per_A3":
            guess = guess / np.float32(abs(np.linalg.det(request.crystal.lattice)))
        return np.maximum(guess, np.float32(FLOOR))

    def _of(self, request: PatchRequest) -> _Known:
        crystal = request.crystal
        key = (id(crystal), *request.grid_shape, *request.patch_shape)
        found = self._kept.get(key)
        if found is None:
            placed = PlacedCrystal(crystal, request.grid_shape, request.patch_shape)
            states = weights = np.zeros((0, 0), np.float32)
            if self.eyes is not None and self.around is not None:
                states, weights = atom_states(self.eyes, self.around, crystal)
            found = self._kept[key] = _Known(crystal, placed, states, weights)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found
