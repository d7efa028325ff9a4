"""The record of a run: where it keeps what, what made it, and whether a resumed one is the same; no JAX, no Levanter.

``tomat.json``, the note, says what made a checkpoint, and what its reader must know. It lies in a run's folder, in
every checkpoint and in every export, beside (or above) the codec's own file ``codec.npz`` or ``codec.json``.
``best.json`` says which weights of a run did best.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tomat._seal import check_seal, sealed
from tomat.codec import load_codec
from tomat.promolecule import Promolecule
from tomat.storage.files import is_url, read_json, write, write_indented
from tomat.storage.remote import place
from tomat.tokenizer import PatchTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tomat.codec import Codec

#: The file's name.
NOTE = "tomat.json"
#: Version of its content: 2 added the digest. Notes of version 1 are read once ``tomat seal`` gave them one.
FORMAT = 2
#: Key of the digest over all other keys, of the note and of ``best.json``.
SEAL = "note_sha256"
#: Key of an export's note: SHA-256 of every other file but the card, which people edit.
FILES = "files_sha256"

#: What its part ``tokenizer`` must say.
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


@dataclass(frozen=True)
class RunFiles:
    """The files of one run: ``<out>/<name>/``.

    Attributes:
        root: the run's own folder, local or a URL that fsspec opens.
    """

    root: str

    #: Folder of the weights the run began with.
    START: ClassVar[str] = "start"

    @property
    def config(self) -> str:
        """``config.yaml``: the whole configuration, defaults included."""
        return f"{self.root}/config.yaml"

    @property
    def note(self) -> str:
        """``tomat.json``: what a resumed run must share, and what prediction needs to know."""
        return f"{self.root}/{NOTE}"

    @property
    def metrics(self) -> str:
        """``metrics.jsonl``: one JSON object a logged step."""
        return f"{self.root}/metrics.jsonl"

    @property
    def checkpoints(self) -> str:
        """Folder of Levanter's checkpoints, ``step-N`` each."""
        return f"{self.root}/checkpoints"

    @property
    def start(self) -> str:
        """Folder of the weights the run began with, step 0: no optimizer, nothing goes on from it."""
        return f"{self.root}/{self.START}"

    @property
    def best(self) -> str:
        """``best.json``: which evaluation was the best, and the folder of its weights."""
        return f"{self.root}/best.json"

    @property
    def local(self) -> Path:
        """A local folder: the run's own, or for a bucket one of the same name in the working directory."""
        return (
            Path("logs") / self.root.rstrip("/").rsplit("/", 1)[-1] if is_url(self.root) else Path(self.root)
        )

    def make(self) -> None:
        """Make the run's local folder; buckets have none, and checkpoints make their own."""
        self.local.mkdir(parents=True, exist_ok=True)


def tokenizer_note(tokenizer: PatchTokenizer) -> dict[str, Any]:
    """What builds the tokenizer again, with the hashes that prove it is the same one."""
    codec = tokenizer.density_codec
    return {**tokenizer.identity, "codec": codec.name, "codec_file": codec.file_name}


def write_codec(codec: Codec, folder: str) -> None:
    """Write the codec's file into ``folder``, local or a URL."""
    write(f"{folder}/{codec.file_name}", codec.to_bytes())


def seal_note(content: Mapping[str, Any]) -> dict[str, Any]:
    """A note as it is written: with its version and its digest."""
    return sealed({**content, "format": FORMAT}, SEAL)


def write_note(folder: str, content: Mapping[str, Any]) -> None:
    """Write the note of a run or checkpoint into ``folder``, local or a URL."""
    write_indented(f"{folder}/{NOTE}", seal_note(content))


def is_note(content: Mapping[str, Any]) -> bool:
    """Whether this program wrote it; damage to one key does not make it another program's."""
    return SEAL in content or "format" in content


def check_note(content: Mapping[str, Any], source: object) -> None:
    """See that a note is of a version that is known, and is what was written.

    Raises:
        ValueError: it is not.
    """
    version = content.get("format")
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise ValueError(f"{source}: of version {version!r}, this program reads up to {FORMAT}; update tomat")
    if version == 1 and SEAL not in content:
        raise ValueError(
            f"{source}: of version 1, without a digest, so nothing says whether it is what was written; where you "
            f"trust it as it is: tomat seal {str(source).removesuffix(NOTE).rstrip('/')}"
        )
    check_seal(content, SEAL, source)


def read_note(folder: str) -> dict[str, Any]:
    """The note in ``folder``.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, of a later version, or of one without digests.
    """
    path = place(f"{folder}/{NOTE}")
    if not path.exists():
        raise FileNotFoundError(
            f"{folder}: no {NOTE} there; give the folder of a run, a checkpoint or an export"
        )
    note = read_json(path)
    check_note(note, path)
    return note


def tokenizer_from(note: dict[str, Any], folders: Sequence[str]) -> PatchTokenizer:
    """The tokenizer a note speaks of; its codec from the first of ``folders`` that has it, else by name.

    Raises:
        ValueError: a note that lacks something; a codec, unit or vocabulary that is not the one the note names, or no
            unit beside a log codec.
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
    """What a note says under ``key``.

    Raises:
        ValueError: nothing, or something of another kind.
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
    """The promolecule in a note that :func:`tomat.lm.train.data_facts` is part of; None where it keeps none.

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


#: The parts of a run that must not change unseen between a stop and a resume.
SECTIONS = ("data", "validation", "codec", "vocabulary", "model", "objective", "loss", "schedule")


@dataclass(frozen=True)
class Change:
    """One value that differs: its section, its place in it, and both values."""

    section: str
    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        """In words."""
        place = f"{self.section}.{self.path}" if self.path else self.section
        return f"{place}: was {_short(self.old)}, is {_short(self.new)}"


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Every value of the :data:`SECTIONS` that differs between two identities."""
    found: list[Change] = []
    for section in SECTIONS:
        _compare(section, "", old.get(section), new.get(section), found)
    return found


def check_same(
    old: dict[str, Any], new: dict[str, Any], allowed: tuple[str, ...], where: str
) -> list[Change]:
    """Refuse a resume that is not the same run; returns the changes that were allowed.

    Args:
        old: identity the run was started with.
        new: identity it would go on with.
        allowed: sections whose change was named on purpose.
        where: the run, for the message.

    Raises:
        ValueError: something else differs, or ``allowed`` names no section.
    """
    unknown = sorted(set(allowed) - set(SECTIONS))
    if unknown:
        raise ValueError(
            f"allow_change: {', '.join(unknown)} is no part of a run; known: {', '.join(SECTIONS)}"
        )
    changes = differences(old, new)
    refused = [change for change in changes if change.section not in allowed]
    if refused:
        sections = sorted({change.section for change in refused}, key=SECTIONS.index)
        lines = "\n".join(f"  {change}" for change in refused[:20])
        more = f"\n  and {len(refused) - 20} more" if len(refused) > 20 else ""
        raise ValueError(
            f"{where}: this run was started with something else:\n{lines}{more}\n"
            f"Give it another name, or say that you mean it: --allow_change '[{', '.join(sections)}]'"
        )
    return changes


def _compare(section: str, path: str, old: Any, new: Any, found: list[Change]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            _compare(section, f"{path}.{key}" if path else str(key), old.get(key), new.get(key), found)
    elif old != new:
        found.append(Change(section, path, old, new))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


#: Folders of kept weights: what ``best.json`` names becomes a path.
_FOLDER = re.compile(r"start|best-[0-9]+")


@dataclass(frozen=True)
class Best:
    """The evaluation of a run whose number is smallest; step 0 takes part, and wins a tie.

    Attributes:
        metric: the number's name, ``one_pass/nmae_median`` unless the run says otherwise.
        value: of the best weights.
        steps: they were trained for; 0 is the start, unless the run was initialised from a checkpoint.
        folder: of the weights, in the run's folder.
        start: the number of the weights the run began with; None where they were not evaluated.
    """

    metric: str
    value: float
    steps: int
    folder: str
    start: float | None

    def as_json(self) -> dict[str, Any]:
        """What ``best.json`` holds."""
        return dict(vars(self))

    def __str__(self) -> str:
        """For people."""
        start = "" if self.start is None else f"; {self.start:.5g} as it began"
        return f"{self.metric} {self.value:.5g} after {self.steps} steps{start}"


def read_best(path: str) -> Best | None:
    """What a run wrote down of its best weights in ``best.json``; None where it keeps none.

    Raises:
        ValueError: a file that is damaged.
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
            f"{path}: damaged ({error}); take the file away to use the latest checkpoint"
        ) from error
