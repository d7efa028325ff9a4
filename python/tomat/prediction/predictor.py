"""Patch predictors: the protocol that models implement, and the promolecule as a predictor.

Densities here are float32 arrays of the patch's shape in the tokenizer's unit.
Point (i, j, k) of a patch is grid point ``(offset + (i, j, k)) mod grid_shape``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tomat.codec import Codec
from tomat.crystal import Crystal
from tomat.material import Material, Unit
from tomat.prediction.cover import Triple
from tomat.prediction.grid import mean_spacing
from tomat.prediction.options import DecodingConfig, Mode
from tomat.promolecule import Promolecule
from tomat.starting import StartingDensity
from tomat.tokenizer import PatchTokenizer
from tomat.valence import Dispute, fit_valence

#: Given in place of a checkpoint, stands for the sum of spherical atoms; ``promolecule:FILE`` selects another one.
PROMOLECULE = "promolecule"
#: Name of the bundled promolecule.
BUNDLED_PROMOLECULE = "qe-sg15"


@dataclass(frozen=True, eq=False)
class PatchRequest:
    """A patch to predict.

    Attributes:
        crystal: the whole crystal.
        grid_shape: (nx, ny, nz) of the whole grid.
        offset: grid point of the patch's low corner, within the grid.
        patch_shape: (px, py, pz); an axis longer than that of the grid wraps around.
        guess: the starting density on the patch, for predictors that need one.
        truth: the true density on the patch, for predictors with ``sees_truth``.
    """

    crystal: Crystal
    grid_shape: Triple
    offset: Triple
    patch_shape: Triple
    guess: NDArray[np.float32] | None = None
    truth: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class PatchPrediction:
    """A predicted patch.

    Attributes:
        density: (px, py, pz).
        spread: standard deviation of the predicted distribution or of the samples, in the same shape and unit; None if
            not known.
        expected_error: mean of |density - truth| over the predicted distribution, likewise; None if the distribution
            or the truth is not known.
        pit: probability integral transform of the truth: the predicted probability of less, likewise.
    """

    density: NDArray[np.float32]
    spread: NDArray[np.float32] | None = None
    expected_error: NDArray[np.float32] | None = None
    pit: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class TrainingFacts:
    """Facts about a predictor's training data, which give the defaults of predictions.

    Attributes:
        spacing: mean grid spacing in angstrom, see :mod:`tomat.prediction.grid`; None if not known.
        valence: valence electrons by atomic number, for elements whose count the data determine.
        promolecule: the baseline for this kind of data; also the starting density if ``guess`` is None.
        guess: the starting density that the model was trained with.
        disputed: elements whose valence electrons differ between materials of the data.
        elements: atomic numbers in the data; None if not known.
    """

    spacing: float | None = None
    valence: Mapping[int, float] = field(default_factory=dict)
    promolecule: Promolecule | None = None
    guess: StartingDensity | None = None
    disputed: Mapping[int, Dispute] = field(default_factory=dict)
    elements: frozenset[int] | None = None

    def starting_density(self, crystal: Crystal, grid_shape: Triple, unit: Unit) -> NDArray[np.float32]:
        """The starting density (nx, ny, nz) in ``unit``."""
        start = self.guess or self.promolecule
        if start is None:
            raise ValueError("the predictor needs a starting density and has no promolecule to compute it")
        return start.density(crystal, grid_shape, unit).astype(np.float32)

    @classmethod
    def of(cls, materials: Iterable[Material], promolecule: Promolecule | None = None) -> Self:
        """The facts of ``materials``: mean spacing, elements, and the valence electrons their compositions determine.

        Raises:
            ValueError: no materials.
        """
        cells: list[tuple[NDArray[np.float64], Triple]] = []
        counts: list[tuple[str, list[int], float]] = []
        for material in materials:
            cells.append((material.lattice, material.grid_shape))
            counts.append((material.task_id, material.atomic_numbers.tolist(), material.n_electrons))
        valence = fit_valence(counts)
        elements = frozenset(z for _, atoms, _ in counts for z in atoms)
        return cls(
            mean_spacing(cells), valence.counts, promolecule, disputed=valence.disputed, elements=elements
        )

    def to_json(self) -> dict[str, Any]:
        """Spacing, valence, disputed and elements as JSON; densities are stored elsewhere."""
        return {
            "spacing": self.spacing,
            "valence": {str(z): n for z, n in sorted(self.valence.items())},
            "disputed": {str(z): what.to_json() for z, what in sorted(self.disputed.items())},
            "elements": None if self.elements is None else sorted(self.elements),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], promolecule: Promolecule | None = None) -> Self:
        """Read the output of :meth:`to_json`."""
        try:
            spacing, elements = stored.get("spacing"), stored.get("elements")
            valence = {int(z): float(n) for z, n in dict(stored.get("valence") or {}).items()}
            disputed = {int(z): Dispute.from_json(d) for z, d in dict(stored.get("disputed") or {}).items()}
            return cls(
                None if spacing is None else float(spacing),
                valence,
                promolecule,
                disputed=disputed,
                elements=None if elements is None else frozenset(int(z) for z in elements),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"the facts about the training data are damaged: {error}") from error


class PatchPredictor(Protocol):
    """Predicts patches.

    Attributes:
        tokenizer: determines the unit.
        codec: of densities.
        mode: the prediction mode.
        needs_guess: whether requests must have a ``guess``, made with ``facts.starting_density``.
        batch_size: preferred number of requests per call.
        facts: about its training data.
        sees_truth: whether requests have the ``truth``: for predictions from true neighbours (a diagnostic), or for the
            expected error of the predicted distribution (:mod:`tomat.evaluate.probes` checks that densities do not
            depend on it).
        keeps_electrons: whether whole densities get the valence electrons of their atoms where these are known, each
            voxel moving in proportion to its spread.
        weights: which weights of which run it uses, in words; empty for a predictor without any.
    """

    @property
    def tokenizer(self) -> PatchTokenizer: ...  # noqa: D102
    @property
    def codec(self) -> Codec: ...  # noqa: D102
    @property
    def mode(self) -> Mode: ...  # noqa: D102
    @property
    def needs_guess(self) -> bool: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def facts(self) -> TrainingFacts: ...  # noqa: D102
    @property
    def sees_truth(self) -> bool: ...  # noqa: D102
    @property
    def keeps_electrons(self) -> bool: ...  # noqa: D102
    @property
    def weights(self) -> str: ...  # noqa: D102

    def identity(self) -> dict[str, Any]:
        """Everything its predictions depend on, as JSON; equal identities give equal densities."""
        ...

    def patch_shape(self, n_atoms: int, grid_shape: Triple, overlap: int) -> Triple:
        """The shape of the patches that a grid (nx, ny, nz) of a crystal with ``n_atoms`` is covered with.

        Raises:
            ValueError: a crystal with too many atoms.
        """
        ...

    def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
        """Predict patches, in order; requests may differ in crystal, grid and patch shape.

        A prediction must not depend on what else is in the batch.

        Raises:
            ValueError: a request cannot be predicted.
        """
        ...


class HasTokenizer(Protocol):
    """Has a tokenizer."""

    @property
    def tokenizer(self) -> PatchTokenizer: ...  # noqa: D102


class ByTokenizer:
    """Codec and patches of predictors that have them from their tokenizer."""

    @property
    def codec(self: HasTokenizer) -> Codec:
        """The tokenizer's."""
        return self.tokenizer.density_codec

    def patch_shape(self: HasTokenizer, n_atoms: int, grid_shape: Triple, overlap: int) -> Triple:
        """That of the tokenizer's rows, on every grid.

        Raises:
            ValueError: no patch fits a row with so many atoms.
        """
        del grid_shape, overlap
        return self.tokenizer.shape_for(n_atoms)


@dataclass(frozen=True, eq=False)
class PromoleculePredictor(ByTokenizer):
    """Predicts the promolecule itself, as a baseline.

    Attributes:
        tokenizer: determines patch shape and unit; nothing is encoded.
        promolecule: the sum of spherical atoms.
        spacing: default grid spacing in angstrom.
    """

    tokenizer: PatchTokenizer
    promolecule: Promolecule
    spacing: float | None = None
    batch_size: int = 256
    mode: Mode = "one_pass"
    needs_guess: bool = True
    sees_truth: bool = False
    keeps_electrons: bool = False
    weights: str = ""

    @classmethod
    def open(cls, source: str, decoding: DecodingConfig) -> Self:
        """Open a promolecule by name or file; the bundled one if empty.

        Raises:
            ValueError: decoding options that only models have.
            KeyError, OSError: it is not found.
        """
        given = decoding.given()
        batch_size = given.pop("batch_size", cls.batch_size)
        of_models = [
            f"{name} = {value}"
            for name, value in given.items()
            if name != "seed" and (name, value) != ("mode", "one_pass")
        ]
        if of_models:
            raise ValueError(f"{', '.join(of_models)}: a promolecule has no such option; omit it")
        # Nothing is encoded: a layout without a lattice and unlimited row length accept every crystal.
        tokenizer = PatchTokenizer("v2", "two_token_9_12", patch_size=19, pad_to=1 << 24, unit="chgcar")
        return cls(tokenizer, Promolecule.load(source or BUNDLED_PROMOLECULE), batch_size=batch_size)

    @property
    def facts(self) -> TrainingFacts:
        """Valence and radial functions of the promolecule."""
        source = self.promolecule
        counts = zip(source.atomic_numbers.tolist(), source.electrons.tolist(), strict=True)
        valence = {int(z): float(n) for z, n in counts if np.isfinite(n)}
        disputed = {int(z): Dispute.from_json(d) for z, d in dict(source.about.get("disputed") or {}).items()}
        return TrainingFacts(self.spacing, valence, source, disputed=disputed)

    def identity(self) -> dict[str, Any]:
        """The promolecule's content hash."""
        return {"predictor": "promolecule", "promolecule": self.promolecule.hash}

    def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
        """The starting densities of the requests.

        Raises:
            ValueError: a request has none.
        """
        lacking = [request for request in requests if request.guess is None]
        if lacking:
            raise ValueError(f"{lacking[0].crystal.name}: the request at {lacking[0].offset} has no guess")
        return [PatchPrediction(request.guess) for request in requests if request.guess is not None]
