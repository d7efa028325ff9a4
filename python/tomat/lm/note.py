"""``tomat.json``: what made a checkpoint, and what its reader must know; needs neither JAX nor Levanter.

It lies in a run's folder, in every checkpoint and in every export, beside (or above) the codec's own file
``codec.npz`` or ``codec.json``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tomat._files import read_json
from tomat._remote import place
from tomat.codec import LloydMaxCodec, LogCodec, load_codec
from tomat.lm.run_files import write
from tomat.tokenizer import PatchTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.codec import Codec

__all__ = ["FORMAT", "NOTE", "codec_file", "read_note", "tokenizer_from", "tokenizer_note", "write_codec"]

#: The file's name.
NOTE = "tomat.json"
#: Version of its content; readers take all up to it.
FORMAT = 1


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


def read_note(folder: str) -> dict[str, Any]:
    """The note in ``folder``.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or of a later version.
    """
    path = place(f"{folder}/{NOTE}")
    if not path.exists():
        raise FileNotFoundError(
            f"{folder}: no {NOTE} there; give the folder of a run, a checkpoint or an export"
        )
    note = read_json(path)
    version = note.get("format")
    if not isinstance(version, int) or version > FORMAT:
        raise ValueError(f"{path}: of version {version!r}, this program reads up to {FORMAT}; update tomat")
    return note


def tokenizer_from(note: dict[str, Any], folders: Sequence[str]) -> PatchTokenizer:
    """The tokenizer a note speaks of; its codec from the first of ``folders`` that has it, else by name.

    Raises:
        ValueError: a codec, unit or vocabulary that is not the one the note names, or no unit beside a log codec.
    """
    about = note["tokenizer"]
    places = [f"{folder}/{about['codec_file']}" for folder in folders]
    found = next((path for path in places if place(path).exists()), about["codec"])
    codec = load_codec(found)
    if codec.hash != about["codec_hash"]:
        raise ValueError(
            f"{found}: codec {codec.hash[:12]} is not {about['codec_hash'][:12]}, which the model was made with"
        )
    codec.name = about["codec"]
    if about.get("unit") is None and isinstance(codec, LogCodec):
        raise ValueError(
            f"{NOTE} of {folders[0]} states no unit, and {codec.name} has none of its own: write the unit of the "
            'training data into it ("tokenizer": {"unit": "chgcar"} or "e_per_A3")'
        )
    shapes = [tuple(shape) for shape in about["fallback_shapes"]]
    tokenizer = PatchTokenizer(
        about["layout"], codec, about["patch_size"], about["pad_to"], shapes, about.get("unit")
    )
    if tokenizer.vocabulary.hash != about["vocabulary_hash"]:
        raise ValueError(
            f"{found}: gives vocabulary {tokenizer.vocabulary.hash[:12]}, not {about['vocabulary_hash'][:12]}"
        )
    return tokenizer
