"""``tomat.json``: what made a checkpoint, and what its reader must know; needs neither JAX nor Levanter.

It lies in a run's folder, in every checkpoint and in every export, beside (or above) the codec's own file
``codec.npz`` or ``codec.json``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tomat._seal import check_seal, sealed
from tomat.codec import LloydMaxCodec, LogCodec, load_codec
from tomat.lm.run_files import write, write_mapping
from tomat.storage.files import read_json
from tomat.storage.remote import place
from tomat.tokenizer import PatchTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tomat.codec import Codec

#: The file's name.
NOTE = "tomat.json"
#: Version of its content: 2 added the digest. Notes of version 1 are read once ``tomat seal`` gave them one.
FORMAT = 2
#: Key of the digest over all other keys.
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


def tokenizer_note(tokenizer: PatchTokenizer) -> dict[str, Any]:
    """What builds the tokenizer again, with the hashes that prove it is the same one."""
    codec = tokenizer.density_codec
    return {
        "layout": tokenizer.layout.name,
        "patch_size": tokenizer.patch_size,
        "pad_to": tokenizer.pad_to,
        "fallback_shapes": [list(shape) for shape in tokenizer.fallback_shapes],
        "codec": codec.name,
        "codec_file": codec_file(codec),
        "codec_hash": codec.hash,
        "unit": tokenizer.unit,
        "vocabulary_hash": tokenizer.vocabulary.hash,
    }


def codec_file(codec: Codec) -> str:
    """Name of the codec's file beside the note."""
    return "codec.npz" if isinstance(codec, LloydMaxCodec) else "codec.json"


def write_codec(codec: Codec, folder: str) -> None:
    """Write the codec's file into ``folder``, local or a URL."""
    write(f"{folder}/{codec_file(codec)}", codec.to_bytes())


def seal_note(content: Mapping[str, Any]) -> dict[str, Any]:
    """A note as it is written: with its version and its digest."""
    return sealed({**content, "format": FORMAT}, SEAL)


def write_note(folder: str, content: Mapping[str, Any]) -> None:
    """Write the note of a run or checkpoint into ``folder``, local or a URL."""
    write_mapping(f"{folder}/{NOTE}", seal_note(content))


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
    if about.get("unit") is None and isinstance(codec, LogCodec):
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
