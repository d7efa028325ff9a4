"""Open the field model of a run, checkpoint or export."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from levanter.utils.jax_utils import parameter_count
from levanter.utils.tree_utils import inference_mode

from tomat.lm.artefact.file import as_folder
from tomat.lm.checkpoint import load_weights, open_place, run_of, weights_hash
from tomat.lm.digests import check_folder
from tomat.lm.exported import WEIGHTS, is_export
from tomat.lm.field.calibration import read_factor
from tomat.lm.field.levels import Levels
from tomat.lm.field.network import FieldModel
from tomat.lm.field.opened import OpenField, codec_of, read_export, shape_of
from tomat.lm.field.surroundings import Surroundings
from tomat.lm.record import NOTE, kept_promolecule, part
from tomat.promolecule import UnscaledPromolecule

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tomat.codec.relative import RelativeCodec
    from tomat.lm.field.config import FieldShape


class Stretched(Protocol):
    """A model whose distributions can be made wider."""

    def stretched(self, factor: float) -> Self:
        """The model with distributions wider by a factor."""
        ...


@dataclass(frozen=True, eq=False)
class RelativeModel[Model: Stretched]:
    """A trained model over the levels of a relative codec with what prediction needs to know.

    Attributes:
        path: its checkpoint folder.
        step: number of training steps.
        model: in inference mode, float32, calibrated if its run was (:mod:`tomat.lm.field.calibration`).
        codec: of its levels.
        surroundings: what it sees, with its promolecule.
        note: the content of ``tomat.json``.
    """

    path: str
    step: int
    model: Model
    codec: RelativeCodec
    surroundings: Surroundings
    note: dict[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weights; equal fingerprints give equal densities."""
        return weights_hash(self.model)

    @cached_property
    def parameters(self) -> int:
        """The number of weights."""
        return int(parameter_count(self.model))


#: A trained field model.
TrainedField = RelativeModel[FieldModel]
#: Makes a model from a key, the shape of what it sees of the atoms, and its levels.
type Init[Model] = Callable[[jax.Array, FieldShape, Levels], Model]


def open_field(path: str, *, weights: str = "best") -> TrainedField:
    """Open the field model of a run, checkpoint or export, see :func:`tomat.lm.checkpoint.open_checkpoint`.

    Raises:
        FileNotFoundError: there is no complete checkpoint, or no initial weights for ``start``.
        ValueError: damaged, missing or extra files, no digests, or a note that does not fit them.
    """
    return open_relative(path, lambda _: FieldModel.init, weights=weights)


def as_open(trained: TrainedField) -> OpenField:
    """The model as prediction takes it."""
    return OpenField(
        trained.path,
        trained.step,
        named_weights(trained.model),
        trained.codec,
        trained.surroundings,
        trained.note,
        trained.fingerprint,
    )


def open_relative[Model: Stretched](
    path: str, init: Callable[[dict[str, Any]], Init[Model]], *, weights: str
) -> RelativeModel[Model]:
    """As :func:`open_field`; ``init`` makes the model from the part ``model`` of the note."""
    root = path.rstrip("/")
    if is_export(root, weights):
        return _open_export(root, init)
    place, note = open_place(root, weights=weights)
    check_folder(place)
    shape, make = shape_of(note, place), _made(note, place, init)
    promolecule = kept_promolecule(note, place)
    if promolecule is None:
        raise ValueError(
            f"{NOTE} of {place}: no promolecule in it; the file is damaged, copy the folder again"
        )
    codec = codec_of(note, [place, run_of(place), root])
    levels = Levels.of(codec)
    model = load_weights(place, lambda key: make(key, shape, levels))
    surroundings = Surroundings(shape, UnscaledPromolecule.load(promolecule))
    step = part(note, "step", int, place) + 1
    model = model.stretched(read_factor(run_of(place), step))
    return RelativeModel(place, step, inference_mode(model, True), codec, surroundings, note)


def _open_export[Model: Stretched](
    folder: str, init: Callable[[dict[str, Any]], Init[Model]]
) -> RelativeModel[Model]:
    """The model that :func:`tomat.lm.field.export.export_field` wrote, a folder or one file."""
    with as_folder(folder) as inside:
        found = read_export(inside)
    make, levels = _made(found.note, folder, init), Levels.of(found.codec)
    shape = found.surroundings.shape
    like = eqx.filter_eval_shape(lambda key: make(key, shape, levels), jax.random.PRNGKey(0))
    model = with_named_weights(like, found.weights, f"{folder}/{WEIGHTS}")
    return RelativeModel(
        folder, found.step, inference_mode(model, True), found.codec, found.surroundings, found.note
    )


def named_weights(model: Any) -> dict[str, NDArray[np.float32]]:
    """The weights of a model by their place in it, such as ``environment.weights.bias``."""
    return {name: np.ascontiguousarray(weight, np.float32) for name, weight in _named(model).items()}


def with_named_weights[Model](like: Model, weights: dict[str, NDArray[Any]], source: str) -> Model:
    """The model of :func:`named_weights`, float32.

    Args:
        like: a model of the same shape, or its shapes alone.
        weights: by name.
        source: of the weights, for messages.

    Raises:
        ValueError: a weight is missing, unknown, or has another shape.
    """
    expected = _named(like)
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [
        name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape
    ]
    if wrong:
        raise ValueError(
            f"{source}: weights that are missing, unknown or of another shape: {', '.join(wrong[:4])}"
        )
    leaves, structure = jax.tree.flatten(like)
    named = iter(expected)
    model: Model = jax.tree.unflatten(
        structure,
        [
            jnp.asarray(weights[next(named)], jnp.float32) if hasattr(leaf, "shape") else leaf
            for leaf in leaves
        ],
    )
    return model


def _named(model: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(model)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
        if hasattr(leaf, "shape")
    }


def _made[Model](
    note: dict[str, Any], place: str, init: Callable[[dict[str, Any]], Init[Model]]
) -> Init[Model]:
    """What makes a model, from its note."""
    try:
        return init(part(note, "model", dict, place))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{NOTE} of {place}: the model cannot be rebuilt from it: {error}") from error
