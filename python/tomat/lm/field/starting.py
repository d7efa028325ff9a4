"""Any field model as a starting density, and the starting density that a note tells of; needs JAX and Levanter."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from tomat.lm.checkpoint import model_kind
from tomat.lm.field.predictor import FieldPredictor
from tomat.lm.record import NOTE, kept_promolecule
from tomat.prediction.assemble import predict_density
from tomat.prediction.options import DecodingConfig
from tomat.promolecule import UnscaledPromolecule
from tomat.starting import StartingDensity

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from tomat.crystal import Crystal
    from tomat.prediction.cover import Triple


class FieldStart(StartingDensity):
    """The median density of a field model.

    On the crystals it was trained on it is better than on others, so that a model that refines it learns from residuals
    that are too small; :mod:`tomat.lm.field.crossfit` gives training crystals others.

    Args:
        path: of its run or checkpoint.
        predictor: of the model.
    """

    def __init__(self, path: str, predictor: FieldPredictor) -> None:
        self._path, self._predictor = path, predictor
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str) -> FieldStart:
        """Open a field model's run or checkpoint.

        Raises:
            FileNotFoundError: there is no complete checkpoint.
            ValueError: it is damaged, or of another kind.
        """
        kind = model_kind(path)
        if kind != FieldPredictor.kind:
            raise ValueError(
                f"{path}: a model of kind {kind}; a starting density is a promolecule or a model of kind "
                f"{FieldPredictor.kind}"
            )
        return cls(path, FieldPredictor.open(path, DecodingConfig()))

    @property
    def identity(self) -> str:
        """The digest of the weights, and that the number of electrons is kept."""
        return f"field {self._predictor.trained.fingerprint} with its electrons"

    @property
    def elements(self) -> frozenset[int] | None:
        """Atomic numbers it was trained on."""
        return self._predictor.facts.elements

    @property
    def note(self) -> dict[str, Any]:
        """The content of its ``tomat.json``."""
        return self._predictor.trained.note

    @property
    def promolecule(self) -> UnscaledPromolecule:
        """What it starts from."""
        return self._predictor.trained.surroundings.promolecule

    def kept(self) -> bytes | None:
        """Its promolecule."""
        return self.promolecule.kept()

    @property
    def name(self) -> str:
        """Its path."""
        return self._path

    def model(self) -> str:
        """Its path."""
        return self._path

    def per_volume(self, crystal: Crystal, grid_shape: Triple) -> NDArray[np.floating]:
        """The median at all grid points."""
        with self._lock:  # the states of the last crystals are kept
            return predict_density(self._predictor, crystal, grid_shape).material.density


def starting_of(note: Mapping[str, Any], where: str) -> StartingDensity | None:
    """The starting density of a model by its note, or None.

    Raises:
        FileNotFoundError: it is a model that is not where it was.
        ValueError: it is damaged or another one.
    """
    about = dict(note.get("data_facts") or {}).get("guess_model")
    if about is None:
        promolecule = kept_promolecule(note, where)
        return None if promolecule is None else UnscaledPromolecule.load(promolecule)
    try:
        found = FieldStart.open(str(about["path"]))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{NOTE} of {where}: the model starts from the field model {about['path']}, which is not there ({error}); "
            "put it back"
        ) from error
    if found.identity != about["identity"]:
        raise ValueError(
            f"{NOTE} of {where}: the model starts from {about['identity'][:18]} in {about['path']}, where there is now "
            f"{found.identity[:18]}; put the model back that it was trained with"
        )
    return found
