"""The small-artefact study: bytes of a model against bits a voxel and NMAE, by setting and rounding.

All rows are measured on the same patches of the same crystals: NMAE of the median of the predicted distributions over
the voxels of a crystal's patches, and bits a voxel, minus the logarithm of the probability of the true token (of a
field model: level). Means are over crystals; what a setting costs is the mean of the crystals' differences from
float32, with its standard error. How far a setting moves the predictions is the NMAE between them and those of float32:
that is what rounding does, whether or not it happens to move them to the truth.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tomat.lm.checkpoint import model_kind
from tomat.lm.decode.predictor import ModelPredictor
from tomat.lm.export import state_dict
from tomat.lm.field.checkpoint import as_open, open_field
from tomat.lm.field.inference import FieldInference
from tomat.lm.field.predictor import FieldPredictor, patch_points
from tomat.lm.field.surroundings import FLOOR
from tomat.lm.objective.base import density_ids
from tomat.lm.quantize.export import export_artefact
from tomat.lm.quantize.setting import Setting
from tomat.lm.quantize.transformer import EMBEDDING, Blocks, last
from tomat.lm.quantize.transformer import Row as Tokens
from tomat.models import bundled
from tomat.prediction.options import DecodingConfig
from tomat.prediction.predictor import PatchRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tomat.lm.quantize.inputs import Calibration
    from tomat.lm.quantize.setting import Rounding
    from tomat.material import Entry

    type Patches = list[list[PatchRequest]]

#: The settings of the study: those of layers with an embedding of 8 bits, then both alike.
SETTINGS = (
    *(Setting(name, name) for name in ("float32", "bfloat16")),
    *(Setting(f"int{bits}", "int8") for bits in (8, 6, 5, 4, 3, 2)),
    *(Setting(f"int{bits}", f"int{bits}") for bits in (6, 4, 3, 2)),
)
#: Edge of the patches of a field model, which may have any; those of transformers are theirs.
_EDGE = 7


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: of the setting, or of the baseline.
        rounding: ``gptq``, ``nearest`` or None.
        bytes: of the file; None for baselines.
        bits_a_weight: likewise.
        bits: bits a voxel of each crystal; None where there is no distribution.
        nmae: of each crystal.
        moved: mean |difference from the prediction of float32| over mean |truth|, of each crystal; None for baselines.
    """

    name: str
    rounding: str | None
    bytes: int | None
    bits_a_weight: float | None
    bits: list[float] | None
    nmae: list[float]
    moved: list[float] | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class Measured(Protocol):
    """An open model, as the study asks it."""

    facts: Any
    unit: Any

    def shape(self, atoms: int) -> tuple[int, int, int]:
        """Of patches."""

    def answers(self, requests: list[PatchRequest]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Density and nats (voxels,) of patches, one after the other."""

    def through_codec(self, requests: list[PatchRequest]) -> NDArray[np.float64]:
        """The true density (voxels,) encoded and decoded again."""


class FieldModel:
    """A field model."""

    unit = "e_per_A3"

    def __init__(self, path: str, weights: str = "best") -> None:
        self.trained = open_field(path, weights=weights)
        self.open = as_open(self.trained)
        self.facts = FieldPredictor(self.open, DecodingConfig()).facts
        self.run = FieldInference(self.trained.model, self.trained.surroundings, self.trained.codec)

    def shape(self, atoms: int) -> tuple[int, int, int]:
        """A cube."""
        del atoms
        return _EDGE, _EDGE, _EDGE

    def answers(self, requests: list[PatchRequest]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Median density and nats of the true levels."""
        crystal = requests[0].crystal
        guess, truth = (_joined(requests, name).astype(np.float32) for name in ("guess", "truth"))
        guess = np.maximum(guess, np.float32(FLOOR))
        points = np.concatenate([patch_points(request) for request in requests])
        sums = self.run.sums(crystal, self.open.of_atoms(crystal), points, guess)
        found = self.run.read(("median", "nats"), sums, guess, truth)
        return found["median"].astype(np.float64), found["nats"].astype(np.float64)

    def through_codec(self, requests: list[PatchRequest]) -> NDArray[np.float64]:
        """The nearest levels."""
        guess, truth = (_joined(requests, name) for name in ("guess", "truth"))
        return np.asarray(self.trained.codec.roundtrip(truth, guess), np.float64)


class TokenModel:
    """A transformer, in its first mode; a causal one with the true tokens before each."""

    def __init__(self, path: str, weights: str = "best") -> None:
        trained = ModelPredictor.load(path, weights)
        self.causal = trained.objective.causal
        mode = "teacher_forced" if self.causal else trained.objective.modes[0]
        self.predictor = ModelPredictor(trained, DecodingConfig(mode=mode))
        self.facts, self.unit = self.predictor.facts, self.predictor.tokenizer.unit
        self.weights = state_dict(trained.model)
        self.blocks = Blocks.of(trained.config, causal=self.causal)
        density, tokenizer = self.predictor.vocabulary.density, self.predictor.tokenizer
        if len(self.predictor.vocabulary.codec.sizes) > 1:
            raise ValueError(f"{path}: the study takes codecs with one token a voxel")
        values = tokenizer.density_values(np.arange(density.start, density.stop, dtype=np.int32))
        self._order = np.argsort(values, kind="stable")
        self._values, self._place = values[self._order], np.argsort(self._order, kind="stable")

    def shape(self, atoms: int) -> tuple[int, int, int]:
        """The tokenizer's."""
        return self.predictor.tokenizer.shape_for(atoms)

    def answers(self, requests: list[PatchRequest]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Median density and nats of the true tokens."""
        shift, vocabulary = int(self.causal), self.predictor.vocabulary
        rows = [
            Tokens(of.tokens, slice(of.first - shift, of.first - shift + of.count))
            for of in self.predictor.layouts(requests)
        ]
        first = vocabulary.density.start
        density, nats = [], []
        for request, row, x in zip(requests, rows, last(self.blocks, rows, self.weights), strict=True):
            # Tokens by rising density.
            p = np.exp(_log_softmax(x[row.asked] @ self.weights[EMBEDDING][first + self._order].T))
            density.append(self._values[(p.cumsum(axis=1)[:, :-1] < 0.5).sum(axis=1)])
            true = self._place[density_ids(request, "truth", vocabulary) - first]
            nats.append(-np.log(p[np.arange(len(true)), true]))
        return np.concatenate(density).astype(np.float64), np.concatenate(nats).astype(np.float64)

    def through_codec(self, requests: list[PatchRequest]) -> NDArray[np.float64]:
        """The values of the tokens."""
        return np.asarray(self.predictor.vocabulary.codec.roundtrip(_joined(requests, "truth")), np.float64)


def open_measured(path: str, weights: str = "best") -> Measured:
    """Open a model of any kind that the study takes.

    Raises:
        ValueError: it is of another kind, or damaged.
    """
    inside = bundled(path)
    root = path if inside is None else str(inside.folder)
    kinds: dict[str, Callable[[str, str], Measured]] = {"field": FieldModel, "transformer": TokenModel}
    kind = model_kind(root, weights=weights)
    if kind not in kinds:
        raise ValueError(f"{path}: a model of kind {kind}; the study takes {' and '.join(kinds)}")
    return kinds[kind](root, weights)


def draw(entries: Iterable[Entry], model: Measured, patches: int, seed: int) -> Patches:
    """Patches of each material, with truth and starting density."""
    found = []
    for i, entry in enumerate(entries):
        material = entry.read()
        crystal, grid = material.crystal, material.grid_shape
        truth = material.in_unit(model.unit).density
        guess = model.facts.starting_density(crystal, grid, model.unit)
        shape, rng = model.shape(len(crystal.atomic_numbers)), np.random.default_rng([seed, i])
        requests = []
        for _ in range(patches):
            x, y, z = (int(n) for n in rng.integers(grid))
            where = np.ix_(*((o + np.arange(p)) % n for o, p, n in zip((x, y, z), shape, grid, strict=True)))
            requests.append(PatchRequest(crystal, grid, (x, y, z), shape, guess[where], truth[where]))
        found.append(requests)
    return found


def measure(model: Measured, patches: Patches) -> tuple[list[float], list[float], list[NDArray[np.float64]]]:
    """Bits a voxel, NMAE and predicted densities of each crystal."""
    bits, nmae, densities = [], [], []
    for requests in patches:
        density, nats = model.answers(requests)
        bits.append(float(nats.mean()) / math.log(2.0))
        nmae.append(_nmae(density, requests))
        densities.append(density)
    return bits, nmae, densities


def baselines(checkpoint: str, model: Measured, patches: Patches) -> list[Row]:
    """The weights at step 0 where they were kept, the promolecule, and the codec's floor."""
    rows = []
    with contextlib.suppress(FileNotFoundError):  # an export has none
        rows.append(Row("start", None, None, None, *measure(open_measured(checkpoint, "start"), patches)[:2]))
    guess = [_nmae(_joined(requests, "guess"), requests) for requests in patches]
    floor = [_nmae(model.through_codec(requests), requests) for requests in patches]
    return [
        *rows,
        Row("promolecule", None, None, None, None, guess),
        Row("codec floor", None, None, None, None, floor),
    ]


def study(
    checkpoint: str,
    patches: Patches,
    calibration: Calibration,
    folder: Path,
    *,
    settings: Sequence[Setting] = SETTINGS,
    weights: str = "best",
    said: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """A row for each setting, the first of which is ``float32``, and rounding; the files stay in ``folder``.

    Raises:
        ValueError: another setting is the first.
    """
    if not settings or settings[0].quantised or settings[0].layers != "float32":
        raise ValueError("the first setting must be float32, which the others are compared with")
    rows: list[Row] = []
    exact: list[NDArray[np.float64]] | None = None
    for setting in settings:
        roundings: tuple[Rounding, ...] = ("gptq", "nearest") if setting.quantised else ("nearest",)
        for rounding in roundings:
            out = folder / f"{setting.layers}-{setting.ends}-{rounding}.tomat"
            written = export_artefact(
                checkpoint, out, [setting], weights=weights, rounding=rounding, calibration=calibration
            )
            bits, nmae, densities = measure(open_measured(str(out)), patches)
            exact = densities if exact is None else exact
            moved = [_nmae(*of) for of in zip(densities, patches, exact, strict=True)]
            row = Row(str(setting), written.rounding, written.bytes, written.bits, bits, nmae, moved)
            said(f"{setting} {written.rounding or ''}: {row.bytes} bytes, NMAE {100 * np.mean(nmae):.3f} %")
            rows.append(row)
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """The table."""
    reference = next(row for row in rows if row.name == "float32")
    lines = [
        "| weights | rounding | bytes | bits a weight | bits a voxel | more than float32 | NMAE, mean / median, % | "
        "more than float32, points | moved, % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        size = "" if row.bytes is None else f"{row.bytes:,}"
        per = "" if row.bits_a_weight is None else f"{row.bits_a_weight:.2f}"
        bits = "" if row.bits is None else f"{np.mean(row.bits):.3f}"
        lines.append(
            f"| {row.name} | {row.rounding or ''} | {size} | {per} | {bits} | {_more(row, reference, 'bits', 1)} | "
            f"{100 * np.mean(row.nmae):.3f} / {100 * np.median(row.nmae):.3f} | {_more(row, reference, 'nmae', 100)} | "
            f"{'' if row.moved is None or row is reference else f'{100 * np.mean(row.moved):.3f}'} |"
        )
    return "\n".join(lines) + "\n"


def _more(row: Row, reference: Row, name: str, factor: float) -> str:
    """The mean difference over crystals, with its standard error."""
    values, others = getattr(row, name), getattr(reference, name)
    if row is reference or values is None:
        return ""
    off = factor * (np.array(values) - np.array(others))
    return f"{off.mean():+.3f} ± {off.std(ddof=1) / math.sqrt(len(off)):.3f}"


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    high = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(high - np.log(np.exp(high).sum(axis=1, keepdims=True)))


def _joined(requests: list[PatchRequest], name: str) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(getattr(request, name), np.float64).ravel() for request in requests])


def _nmae(
    density: NDArray[np.float64], requests: list[PatchRequest], other: NDArray[np.float64] | None = None
) -> float:
    """Of the truth, or of another density."""
    truth = _joined(requests, "truth")
    return float(np.abs(density - (truth if other is None else other)).sum() / np.abs(truth).sum())
