"""A trained field model as prediction takes it: weights by name, run by NumPy and the core; no JAX, no Levanter.

States of atoms are computed here, once a crystal; what is seen at points and the layers behind it in the core. In
training the same is :mod:`tomat.lm.field.network`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tomat import _core
from tomat._threads import processors
from tomat.codec.relative import RelativeCodec
from tomat.lm.artefact.file import as_folder
from tomat.lm.exported import WEIGHTS, check_files, read_weights
from tomat.lm.field.answers import ANSWERS
from tomat.lm.field.config import OF_SUMS, OF_WEIGHTS, FieldShape
from tomat.lm.field.descriptors import DESCRIPTORS
from tomat.lm.field.elements import N_FEATURES
from tomat.lm.field.levels import Levels, in_density, relative
from tomat.lm.field.surroundings import Surroundings
from tomat.lm.record import NOTE, part, read_note
from tomat.promolecule import UnscaledPromolecule
from tomat.storage.remote import place as place_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from tomat.crystal import Crystal
    from tomat.prediction.options import Sampling

    type Floats = NDArray[np.float32]

#: File of the promolecule in an export.
PROMOLECULE = "promolecule.npz"
#: Points that a thread computes at a time.
BLOCK = 2048


@dataclass(frozen=True, eq=False)
class OpenField:
    """A trained field model.

    Attributes:
        path: its checkpoint folder or export.
        step: number of training steps.
        weights: by their place in :class:`tomat.lm.field.network.FieldModel`, such as ``environment.weights.bias``.
        codec: of its levels.
        surroundings: what it sees, with its promolecule.
        note: the content of ``tomat.json``.
        fingerprint: SHA-256 over the weights; equal fingerprints give equal densities.
    """

    path: str
    step: int
    weights: dict[str, Floats]
    codec: RelativeCodec
    surroundings: Surroundings
    note: dict[str, Any]
    fingerprint: str

    @classmethod
    def read(cls, folder: str) -> OpenField:
        """Open what :func:`tomat.lm.field.export.export_field` wrote, a folder or one file.

        Raises:
            OSError: a file is missing or cannot be read.
            ValueError: a file is damaged, or does not fit the note.
        """
        with as_folder(folder) as inside:
            found = read_export(inside)
        missing = sorted(_expected(found.surroundings.shape) - found.weights.keys())
        if missing:
            raise ValueError(
                f"{place_of(folder) / WEIGHTS}: weights that are missing, unknown or of another shape: "
                f"{', '.join(missing[:4])}"
            )
        return cls(folder, **found._asdict(), fingerprint=part(found.note, "weights_sha256", str, folder))

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(weight.size for weight in self.weights.values())

    @cached_property
    def shape(self) -> FieldShape:
        """Of the model."""
        return self.surroundings.shape

    @cached_property
    def levels(self) -> Levels:
        """Of the codec."""
        return Levels.of(self.codec)

    def of_atoms(self, crystal: Crystal) -> Floats:
        """Weights (sites, functions, sums) of the atoms of a crystal in the sums at its points."""
        features = self.surroundings.features[crystal.atomic_numbers]
        h = self._mlp("embedding", features[:, :N_FEATURES])
        channels = self.shape.channels
        for i in range(self.shape.rounds):
            name = f"rounds.{i}"
            found = self.surroundings.contracted_at_atoms(
                crystal, self.learned(f"{name}.environment", h), channels
            )
            seen = self.invariants(f"{name}.environment", found)
            h = h + self._mlp(f"{name}.update", np.concatenate([seen, h], axis=-1))
        learned = self.learned("environment", h)
        fixed = features[:, N_FEATURES:].reshape(len(h), learned.shape[1], self.shape.fixed)
        return np.concatenate([learned[..., : channels[0]], fixed, learned[..., channels[0] :]], axis=-1)

    def at_points(
        self,
        crystal: Crystal,
        weights: Floats,
        points: NDArray[np.float64],
        given: dict[str, Floats],
        sampling: Sampling,
        wanted: tuple[str, ...],
    ) -> dict[str, Floats]:
        """Statistics (points,) of points, those of the density in e/A^3.

        Args:
            crystal: the crystal.
            weights: of its atoms, see :meth:`of_atoms`.
            points: (points, 3) fractional coordinates.
            given: (points,) ``guess``, the promolecule in e/A^3, ``truth``, the density (any values if nothing wanted
                depends on it), and ``drawn``, uniform numbers for samples.
            sampling: how samples are drawn.
            wanted: as in :data:`tomat.lm.field.answers.ANSWERS`.
        """

        def block(first: int) -> dict[str, Floats]:
            here = slice(first, first + BLOCK)
            guess, truth, drawn = (given[name][here] for name in ("guess", "truth", "drawn"))
            outputs = self.surroundings.read(self._readout, crystal, points[here], guess, weights)
            x = relative(self.codec, guess, truth)
            found = ANSWERS[self.shape.head](outputs, self.levels, x, drawn, sampling, wanted)
            return in_density(self.codec, found, guess)

        # The core and NumPy's larger operations work without the interpreter's lock.
        with ThreadPoolExecutor(processors()) as pool:
            return _joined(pool.map(block, range(0, len(points), BLOCK)), wanted)

    @cached_property
    def _readout(self) -> _core.Readout:
        layers = [
            (f"readout.layers.{i}.weight", f"readout.layers.{i}.bias") for i in range(len(self.shape.mlp))
        ]
        return _core.Readout(
            list(self.shape.channels),
            [of.kind for of in DESCRIPTORS[: self.shape.fixed]],
            [self.weights[f"environment.mixing.{i}"] for i in range(self.shape.l_max)],
            [(self.weights[w], self.weights[b]) for w, b in (*layers, ("head.weight", "head.bias"))],
        )

    def linear(self, name: str, x: Floats) -> Floats:
        """The map ``name`` of x (..., inputs)."""
        return np.asarray(x @ self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"])

    def _mlp(self, name: str, x: Floats) -> Floats:
        """Two layers, SiLU between them."""
        y = self.linear(f"{name}.layers.0", x)
        with np.errstate(over="ignore"):  # exp(-y) beyond float32: 0
            y = y / (1 + np.exp(-y))
        return self.linear(f"{name}.layers.1", y)

    def learned(self, name: str, h: Floats) -> Floats:
        """Weights (sites, functions, channels) that come from states."""
        found = self.linear(f"{name}.weights", h).reshape(len(h), -1, self.shape.width) * OF_WEIGHTS
        return np.asarray(found, np.float32)

    def invariants(self, name: str, sums: Floats) -> Floats:
        """Invariants (points, width) of sums (points, ...) with learned weights."""
        channels, found, first = self.shape.channels, [], 0
        for l, n in enumerate(channels):  # noqa: E741 - the angular momentum
            of_l = sums[:, first : first + (2 * l + 1) * n].reshape(len(sums), 2 * l + 1, n)
            first += (2 * l + 1) * n
            if l == 0:
                found.append(of_l[:, 0] * OF_SUMS)
            else:
                found.append((of_l * (of_l @ self.weights[f"{name}.mixing.{l - 1}"])).sum(1) * OF_SUMS**2)
        y = np.arcsinh(np.concatenate(found, axis=-1))
        return np.asarray(y / np.sqrt(np.square(y).mean(axis=-1, keepdims=True) + np.float32(0.1)))


class Exported(NamedTuple):
    """What an export of a model relative to a promolecule holds, fields as in :class:`OpenField`."""

    step: int
    weights: dict[str, NDArray[Any]]
    codec: RelativeCodec
    surroundings: Surroundings
    note: dict[str, Any]


def read_export(folder: str) -> Exported:
    """Read what :func:`tomat.lm.field.export.export_field` wrote.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file is damaged, or is not what was exported.
    """
    note = read_note(folder)
    place = place_of(folder)
    check_files(place, note)
    shape, codec = shape_of(note, folder), codec_of(note, [folder])
    surroundings = Surroundings(shape, UnscaledPromolecule.load(f"{folder}/{PROMOLECULE}"))
    step = part(note, "step", int, folder) + 1
    return Exported(step, read_weights(place, note), codec, surroundings, note)


def shape_of(note: dict[str, Any], where: str) -> FieldShape:
    """The shape of what a model sees, from its note.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return FieldShape.from_json(part(note, "model", dict, where)["field"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{NOTE} of {where}: the model cannot be rebuilt from it: {error}") from error


def codec_of(note: dict[str, Any], folders: list[str]) -> RelativeCodec:
    """The codec of a note, read from the first of ``folders`` that has it, else by name.

    Raises:
        ValueError: it is another one than in training, or the note is damaged.
    """
    about = part(note, "codec", dict, folders[0])
    name, file = str(about.get("name")), str(about.get("file"))
    if "/" in file:
        raise ValueError(f"{NOTE} of {folders[0]}: codec file is {file!r}, which is no file beside it")
    found = next((where for f in folders if place_of(where := f"{f}/{file}").exists()), name)
    codec = RelativeCodec.load(found)
    if codec.hash != about.get("hash"):
        raise ValueError(
            f"{found}: codec {codec.hash[:12]} is not {str(about.get('hash'))[:12]}, which {NOTE} of {folders[0]} says "
            "the model was made with"
        )
    codec.name = name
    return codec


def _expected(shape: FieldShape) -> set[str]:
    """Names of the weights of a model."""
    linear = ["embedding.layers.0", "embedding.layers.1", "environment.weights", "head"]
    linear += [f"readout.layers.{i}" for i in range(len(shape.mlp))]
    environments = ["environment"]
    for i in range(shape.rounds):
        linear += [f"rounds.{i}.{of}" for of in ("environment.weights", "update.layers.0", "update.layers.1")]
        environments.append(f"rounds.{i}.environment")
    mixing = {f"{name}.mixing.{i}" for name in environments for i in range(shape.l_max)}
    return mixing | {f"{name}.{of}" for name in linear for of in ("weight", "bias")}


def _joined(blocks: Iterable[dict[str, Floats]], names: tuple[str, ...]) -> dict[str, Floats]:
    parts = list(blocks)
    return {name: np.concatenate([block[name] for block in parts]) for name in names}
