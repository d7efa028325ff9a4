"""A trained field model as a patch predictor; only runs and checkpoints need JAX to be opened."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from tomat.lm.decode.base import TrainedModel, TrainedPredictor
from tomat.lm.exported import is_export
from tomat.lm.field.opened import OpenField
from tomat.lm.field.surroundings import FLOOR
from tomat.lm.record import spent_flops
from tomat.prediction.predictor import PatchPrediction, PatchRequest, TrainingFacts
from tomat.tokenizer import PatchTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomat.codec.relative import RelativeCodec
    from tomat.crystal import Crystal
    from tomat.lm.field.surroundings import Surroundings
    from tomat.prediction.cover import Triple
    from tomat.prediction.options import DecodingConfig, Mode
    from tomat.starting import StartingDensity

    type Floats = NDArray[np.float32]

#: Largest edge of a patch in grid points; crystals of whose atoms it is kept what was computed.
_EDGE, _KEPT = 32, 8


class Relative(TrainedModel, Protocol):
    """A trained model over the levels of a relative codec.

    Attributes:
        codec: of its levels.
        surroundings: what it sees.
        fingerprint: SHA-256 over the weights.
        parameters: number of weights.
    """

    @property
    def codec(self) -> RelativeCodec: ...  # noqa: D102
    @property
    def surroundings(self) -> Surroundings: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def parameters(self) -> int: ...  # noqa: D102


class RelativePredictor[Model: Relative, Atoms](TrainedPredictor[Model]):
    """What predictors of models over the levels of a relative codec have in common.

    A kind says in :meth:`computed` what its model makes of a crystal's atoms, the ``Atoms`` of this class.

    Attributes:
        kind: of the model, as configurations name it.
    """

    #: The only mode: all voxels at once, from atoms and promolecule.
    modes: tuple[Mode, ...] = ("one_pass",)
    needs_guess = True
    kind: ClassVar[str]
    sees_truth = True  # for the expected error of its distributions
    keeps_electrons = True

    def __init__(self, trained: Model, decoding: DecodingConfig) -> None:
        """Take the weights.

        Raises:
            ValueError: another mode than ``one_pass``.
        """
        if decoding.mode not in (None, *self.modes):
            raise ValueError(
                f"{trained.path}: a {self.kind} model predicts in mode {self.modes[0]}, not {decoding.mode}"
            )
        self.mode: Mode = self.modes[0]
        self.batch_size = decoding.batch_size
        self.trained, self.decoding = trained, replace(decoding, mode=self.modes[0])
        self.sampling = decoding.sampling
        self._atoms: OrderedDict[int, tuple[Crystal, Atoms]] = OrderedDict()
        # Nothing is encoded: a layout without a lattice and unlimited row length accept every crystal.
        self.tokenizer = PatchTokenizer("v2", "two_token_9_12", _EDGE, pad_to=1 << 24, unit="e_per_A3")

    @property
    def codec(self) -> RelativeCodec:
        """The codec of densities."""
        return self.trained.codec

    @functools.cached_property
    def facts(self) -> TrainingFacts:
        """Facts about the training data."""
        promolecule = self.trained.surroundings.promolecule
        facts = TrainingFacts.from_json(self.trained.note.get("data_facts", {}), promolecule.source)
        return replace(facts, guess=self.starting())

    def starting(self) -> StartingDensity:
        """The starting density of training."""
        return self.trained.surroundings.promolecule

    @abstractmethod
    def computed(self, crystal: Crystal) -> Atoms:
        """What the model makes of a crystal's atoms, whatever the patch."""

    def of_atoms(self, crystal: Crystal) -> Atoms:
        """What :meth:`computed` gives, once for all patches of a crystal."""
        found = self._atoms.get(id(crystal))
        if found is None:
            # The crystal is kept as well, so that no other one takes its id.
            found = crystal, self.computed(crystal)
            self._atoms[id(crystal)] = found
            while len(self._atoms) > _KEPT:
                self._atoms.popitem(last=False)
        return found[1]

    def identity(self) -> dict[str, Any]:
        """Checkpoint, step and decoding."""
        return {
            "predictor": self.kind,
            "run": self.trained.note["name"],
            "step": self.trained.step,
            "weights": self.trained.fingerprint,
            "parameters": self.trained.parameters,
            "flops": spent_flops(self.trained.note, self.trained.step),
            "codec": self.codec.hash,
            "electrons": "kept",
            **self.decoding.identity(),
        }

    def drawn(self, request: PatchRequest) -> Floats:
        """Uniform numbers of a patch's voxels, independent of its batch; zeros if nothing is drawn."""
        n = int(np.prod(request.patch_shape))
        if self.decoding.estimate != "sample":
            return np.zeros(n, np.float32)
        from tomat.lm.data.shuffle import key_of, random_bits

        key = key_of(self.decoding.seed, request.crystal.name, *request.offset)
        drawn: Floats = (random_bits([key], n)[0] * np.float32(2.0**-24)).astype(np.float32)
        return drawn


class FieldPredictor(RelativePredictor[OpenField, "Floats"]):
    """Predicts patches with a field model; implements :class:`tomat.prediction.predictor.PatchPredictor`.

    A voxel's prediction depends on the crystal and its place alone, not on the patch it is asked in.
    """

    kind = "field"

    @staticmethod
    def load(path: str, weights: str) -> OpenField:
        """Read an export, or open a run or checkpoint with JAX, see :func:`tomat.lm.field.checkpoint.open_field`."""
        root = path.rstrip("/")
        if is_export(root, weights):
            return OpenField.read(root)
        from tomat.lm.field.checkpoint import as_open, open_field

        return as_open(open_field(path, weights=weights))

    def computed(self, crystal: Crystal) -> Floats:
        """The weights of a crystal's atoms in the sums at its points."""
        return self.trained.of_atoms(crystal)

    def patch_shape(self, n_atoms: int, grid_shape: Triple, overlap: int) -> Triple:
        """Patches that divide the grid, of at most 32 points along an axis without the overlap."""
        del n_atoms  # any number
        x, y, z = (-(-n // -(-n // _EDGE)) + overlap for n in grid_shape)
        return x, y, z

    def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
        """Predict patches, in order.

        Raises:
            ValueError: a request has no guess.
        """
        return [self._patch(request) for request in requests]

    def _patch(self, request: PatchRequest) -> PatchPrediction:
        if request.guess is None:
            raise ValueError(f"{request.crystal.name}: the request at {request.offset} has no guess")
        guess = np.maximum(np.asarray(request.guess, np.float32).ravel(), FLOOR)
        told = request.truth is not None
        truth = np.asarray(request.truth, np.float32).ravel() if told else guess
        whole = self.trained.at_points(
            request.crystal,
            self.of_atoms(request.crystal),
            patch_points(request),
            {"guess": guess, "truth": truth, "drawn": self.drawn(request)},
            self.sampling,
            (self.decoding.estimate, "spread", *(("expected_error", "pit") if told else ())),
        )
        found = {name: values.reshape(request.patch_shape) for name, values in whole.items()}
        return PatchPrediction(
            found[self.decoding.estimate], found["spread"], found.get("expected_error"), found.get("pit")
        )


def patch_points(request: PatchRequest) -> NDArray[np.float64]:
    """Fractional coordinates (points, 3) of the voxels of a patch, row-major."""
    axes = [
        (low + np.arange(size)) % n / n
        for low, size, n in zip(request.offset, request.patch_shape, request.grid_shape, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
