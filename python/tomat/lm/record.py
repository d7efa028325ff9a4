"""The record of a run: its files, its note, and the check that a resumed run is the same; no JAX, no Levanter.

``tomat.json``, the note, says how a checkpoint was made and what is needed to use it. It lies in a run's folder, in
every checkpoint and in every export, beside (or below) the codec's file ``codec.npz`` or ``codec.json``. ``best.json``
names the best weights of a run.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomat._seal import check_seal, sealed
from tomat.codec import load_codec
from tomat.lm.model.presets import ModelConfig
from tomat.promolecule import Promolecule
from tomat.storage.files import is_url, read_json, write, write_indented
from tomat.storage.remote import place
from tomat.tokenizer import PatchTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tomat.codec import Codec

#: File name of the note.
NOTE = "tomat.json"
#: Format version. Version 2 added the digest; ``tomat seal`` adds one to notes of version 1.
FORMAT = 2
#: Key of the digest over all other keys, in the note and in ``best.json``.
SEAL = "note_sha256"
#: Key of the SHA-256 of all other files in an export's note, except the card, which people edit.
FILES = "files_sha256"

#: Required keys of its part ``tokenizer``.
_TOKENIZER: dict[str, type] = {
    "layout": str,
    "patch_size": int,
    "pad_to": int,
    "fallback_shapes": list,
    "codec": str,
    "codec_file": str,
    "codec_hash": str,
    "vocabulary_hash": str,
}


class RunFiles:
    """The files of one run: ``<out>/<name>/``.

    Attributes:
        root: the run's folder, local or a URL that fsspec opens.
        config: ``config.yaml``: the whole configuration, defaults included.
        note: ``tomat.json``: the note.
        metrics: ``metrics.jsonl``: one JSON object per logged step.
        checkpoints: folder of Levanter's checkpoints, ``step-N`` each.
        start: folder of the initial weights (step 0), without optimizer state.
        best: ``best.json``: the best evaluation, and the folder of its weights.
        local: the run's folder if it is local, else a folder of the same name in ``logs`` of the working directory.
    """

    #: Name of the folder of the initial weights.
    START = "start"

    def __init__(self, root: str) -> None:
        self.root = root
        self.config = f"{root}/config.yaml"
        self.note = f"{root}/{NOTE}"
        self.metrics = f"{root}/metrics.jsonl"
        self.checkpoints = f"{root}/checkpoints"
        self.start = f"{root}/{self.START}"
        self.best = f"{root}/best.json"
        self.local = Path("logs") / root.rstrip("/").rsplit("/", 1)[-1] if is_url(root) else Path(root)


def tokenizer_note(tokenizer: PatchTokenizer) -> dict[str, Any]:
    """Everything needed to rebuild the tokenizer, with hashes to check it."""
    codec = tokenizer.density_codec
    return {**tokenizer.identity, "codec": codec.name, "codec_file": codec.file_name}


def write_codec(codec: Codec, folder: str) -> None:
    """Write the codec's file into ``folder``, local or a URL."""
    write(f"{folder}/{codec.file_name}", codec.to_bytes())


def seal_note(content: Mapping[str, Any]) -> dict[str, Any]:
    """A note with its version and digest."""
    return sealed({**content, "format": FORMAT}, SEAL)


def write_note(folder: str, content: Mapping[str, Any]) -> None:
    """Write the note of a run or checkpoint into ``folder``, local or a URL."""
    write_indented(f"{folder}/{NOTE}", seal_note(content))


def is_note(content: Mapping[str, Any]) -> bool:
    """Whether tomat wrote it; tolerates damage to a single key."""
    return SEAL in content or "format" in content


def check_note(content: Mapping[str, Any], source: object) -> None:
    """Check version and digest of a note.

    Raises:
        ValueError: the version is unknown, or the digest is missing or wrong.
    """
    version = content.get("format")
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise ValueError(f"{source}: of version {version!r}, this program reads up to {FORMAT}; update tomat")
    if version == 1 and SEAL not in content:
        raise ValueError(
            f"{source}: has version 1 and no digest, so it cannot be checked; if you trust it, run: "
            f"tomat seal {str(source).removesuffix(NOTE).rstrip('/')}"
        )
    check_seal(content, SEAL, source)


def read_note(folder: str) -> dict[str, Any]:
    """Read the note in ``folder``.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, of a later version, or has no digest.
    """
    path = place(f"{folder}/{NOTE}")
    if not path.exists():
        raise FileNotFoundError(
            f"{folder}: no {NOTE} there; give the folder of a run, a checkpoint or an export"
        )
    note = read_json(path)
    check_note(note, path)
    return note


def kind_of(note: Mapping[str, Any]) -> str:
    """The kind of model of a note; those without one are of transformers."""
    model = note.get("model")
    # A damaged one is named where it is read.
    return str(model.get("kind", ModelConfig.kind)) if isinstance(model, dict) else ModelConfig.kind


def tokenizer_from(note: dict[str, Any], folders: Sequence[str]) -> PatchTokenizer:
    """Rebuild the tokenizer of a note; its codec is read from the first of ``folders`` that has it, else by name.

    Raises:
        ValueError: the note is incomplete, the codec, unit or vocabulary is not that of the note, or a log codec has
            no unit.
    """
    about = _tokenizer_part(note, folders[0])
    places = [f"{folder}/{about['codec_file']}" for folder in folders]
    found = next((path for path in places if place(path).exists()), about["codec"])
    try:
        codec = load_codec(found)
    except KeyError as error:
        raise ValueError(
            f"{folders[0]}: no {about['codec_file']} there, and {error.args[0]}; copy the folder again"
        ) from error
    if codec.hash != about["codec_hash"]:
        raise ValueError(
            f"{found}: codec {codec.hash[:12]} is not {about['codec_hash'][:12]}, which {NOTE} of {folders[0]} says "
            "the model was made with"
        )
    codec.name = about["codec"]
    if about.get("unit") is None and codec.unit is None:
        raise ValueError(
            f"{NOTE} of {folders[0]} states no unit, and {codec.name} has none of its own: write the unit of the "
            'training data into it ("tokenizer": {"unit": "chgcar"} or "e_per_A3")'
        )
    shapes = [tuple(shape) for shape in about["fallback_shapes"]]
    unit = None if about.get("unit") is None else part(about, "unit", str, folders[0])
    try:
        tokenizer = PatchTokenizer(about["layout"], codec, about["patch_size"], about["pad_to"], shapes, unit)
    except (KeyError, ValueError, OverflowError) as error:
        # KeyError: an unknown layout or unit. OverflowError: a size beyond 64 bits.
        raise ValueError(f"{NOTE} of {folders[0]}: {error.args[0]}; copy the folder again") from error
    if tokenizer.vocabulary.hash != about["vocabulary_hash"]:
        raise ValueError(
            f"{found}: gives vocabulary {tokenizer.vocabulary.hash[:12]}, not {about['vocabulary_hash'][:12]} as "
            f"{NOTE} of {folders[0]} says"
        )
    return tokenizer


def part(note: dict[str, Any], key: str, kind: type, source: str) -> Any:
    """The value of ``key`` in a note.

    Raises:
        ValueError: it is missing or of another type.
    """
    value = note.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        found = "missing" if key not in note else repr(value)[:60]
        raise ValueError(
            f"{NOTE} of {source}: {key!r} is {found}, where {kind.__name__} belongs; the file is damaged, copy the "
            "folder again"
        )
    return value


def _tokenizer_part(note: dict[str, Any], source: str) -> dict[str, Any]:
    about: dict[str, Any] = part(note, "tokenizer", dict, source)
    for key, kind in _TOKENIZER.items():
        part(about, key, kind, source)
    if "/" in about["codec_file"] or about["codec_file"] in ("", ".", ".."):
        raise ValueError(
            f"{NOTE} of {source}: codec_file is {about['codec_file']!r}, which is no file beside it"
        )
    if not all(
        isinstance(shape, list) and len(shape) == 3 and all(type(n) is int for n in shape)
        for shape in about["fallback_shapes"]
    ):
        raise ValueError(f"{NOTE} of {source}: fallback_shapes are not lists of three numbers")
    return about


def kept_promolecule(note: Mapping[str, Any], where: str) -> Promolecule | None:
    """The promolecule in a note (see :func:`tomat.lm.data.facts.data_facts`), or None.

    Raises:
        ValueError: it is damaged.
    """
    stored = dict(note.get("data_facts") or {}).get("promolecule")
    if stored is None:
        return None
    source = f"{where}: the promolecule in tomat.json"
    try:
        content = base64.b64decode(str(stored), validate=True)
    except ValueError as error:
        raise ValueError(f"{source} is damaged: {error}; fetch the checkpoint again") from error
    return Promolecule.from_bytes(content, source)


def earlier_promolecule(files: RunFiles) -> Promolecule | None:
    """The promolecule of an earlier part of a run, or None.

    Raises:
        ValueError: the note is damaged.
    """
    return kept_promolecule(read_note(files.root), files.root) if place(files.note).exists() else None


#: The sections of a run's identity, which must not change when it is resumed.
SECTIONS = ("data", "validation", "codec", "vocabulary", "model", "objective", "loss", "schedule")


@dataclass(frozen=True)
class Change:
    """A value that differs between two identities."""

    section: str
    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        """``SECTION.PATH: was OLD, is NEW``."""
        place = f"{self.section}.{self.path}" if self.path else self.section
        return f"{place}: was {_short(self.old)}, is {_short(self.new)}"


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """All values in the :data:`SECTIONS` that differ between two identities."""
    return [c for section in SECTIONS for c in _changes(section, "", old.get(section), new.get(section))]


def check_same(
    old: dict[str, Any], new: dict[str, Any], allowed: tuple[str, ...], where: str
) -> list[Change]:
    """Check that a resumed run is the same run; returns the changes that were allowed.

    Args:
        old: identity that the run was started with.
        new: identity that it would be resumed with.
        allowed: sections that may change.
        where: the run, for messages.

    Raises:
        ValueError: another section differs, or ``allowed`` has an unknown section.
    """
    unknown = sorted(set(allowed) - set(SECTIONS))
    if unknown:
        raise ValueError(
            f"allow_change: {', '.join(unknown)} is not a section of a run; known: {', '.join(SECTIONS)}"
        )
    changes = differences(old, new)
    refused = [change for change in changes if change.section not in allowed]
    if refused:
        sections = sorted({change.section for change in refused}, key=SECTIONS.index)
        lines = "\n".join(f"  {change}" for change in refused[:20])
        more = f"\n  and {len(refused) - 20} more" if len(refused) > 20 else ""
        raise ValueError(
            f"{where}: this run was started with other settings:\n{lines}{more}\n"
            f"Use another name, or allow the changes: --allow_change '[{', '.join(sections)}]'"
        )
    return changes


def spent_flops(note: dict[str, Any], step: int) -> float | None:
    """Floating-point operations of ``step`` training steps; None of runs of earlier versions, which do not say.

    They are those of the model itself, forward and backward, without what is computed twice to spare memory.
    """
    row, batch = note.get("row_flops"), dict(note.get("schedule") or {}).get("train_batch_size")
    return None if row is None or not isinstance(batch, int) else float(row) * batch * step


def _changes(section: str, path: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _changes(section, f"{path}.{key}" if path else str(key), old.get(key), new.get(key))
    elif old != new:
        yield Change(section, path, old, new)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


#: Valid names of folders in ``best.json``, which become paths.
_FOLDER = re.compile(r"start|best-[0-9]+")


@dataclass(frozen=True)
class Best:
    """The best evaluation of a run, step 0 included; the first in a tie.

    Attributes:
        metric: name of the metric, by default ``one_pass/nmae_median``.
        value: the metric of the best weights.
        steps: their training steps; 0 is the start, unless the run was initialised from a checkpoint.
        folder: folder of the weights, within the run's folder.
        start: the metric of the initial weights; None if they were not evaluated.
    """

    metric: str
    value: float
    steps: int
    folder: str
    start: float | None

    def __str__(self) -> str:
        start = "" if self.start is None else f"; {self.start:.5g} as it began"
        return f"{self.metric} {self.value:.5g} after {self.steps} steps{start}"


def read_best(path: str) -> Best | None:
    """Read ``best.json`` of a run; None if it has none.

    Raises:
        ValueError: the file is damaged.
    """
    if not place(path).exists():
        return None
    found = read_json(place(path))
    check_seal(found, SEAL, path)
    try:
        if not _FOLDER.fullmatch(str(found["folder"])):
            raise ValueError(f"{found['folder']!r} is no folder of kept weights")
        start = found["start"]
        return Best(
            str(found["metric"]),
            float(found["value"]),
            int(found["steps"]),
            str(found["folder"]),
            None if start is None else float(start),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: damaged ({error}); delete the file to use the latest checkpoint"
        ) from error
