"""The artefact: a model in one file, with its card and its record; NumPy only.

    8 bytes     magic
    8 bytes     length of the header, little-endian
    32 bytes    SHA-256 of the header
    header      JSON: format, tomat, what the model is, and what lies in the two sections, with SHA-256s
    files       the files of an export but its weights, one after the other: LZMA
    weights     the bytes of all weights (:mod:`tomat.lm.artefact.tensors`): LZMA

Sections are raw LZMA1 streams, with the settings below. Nothing depends on the time or the place of writing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import operator
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomat.lm.artefact.tensors import Tensor, stored_size
from tomat.lm.record import NOTE, check_note
from tomat.storage.files import parse_json, write_atomically
from tomat.storage.remote import place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

#: What the name of an artefact ends in: by it, commands know one.
SUFFIX = ".tomat"
#: File of the weights in the folder that an artefact stands for.
_WEIGHTS = "model.safetensors"
_MAGIC = b"\x93tomat\r\n"
_FORMAT = 1
_START = len(_MAGIC) + 8 + 32
#: Of text, and of packed integers, whose neighbours say nothing of each other.
_FILTERS = {
    "files": {"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME},
    "weights": {"id": lzma.FILTER_LZMA1, "preset": 9, "lc": 0, "lp": 0, "pb": 0, "dict_size": 1 << 22},
}
#: Files may unpack to this many bytes together, weights to this many for each of theirs.
_MOST_OF_FILES, _MOST_RATIO = 1 << 28, 1 << 10
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, eq=False)
class Artefact:
    """The content of an artefact, checked against its digests.

    Attributes:
        source: its path or URL.
        header: see this module.
        files: of the export, by name.
        size: bytes of the artefact.
    """

    source: str
    header: dict[str, Any]
    files: dict[str, bytes]
    size: int
    _weights: bytes

    @property
    def note(self) -> dict[str, Any]:
        """The content of ``tomat.json``.

        Raises:
            ValueError: it is not there, or damaged.
        """
        name = f"{self.source}/{NOTE}"
        if NOTE not in self.files:
            raise _damaged(self.source, f"has no {NOTE}")
        note = parse_json(self.files[NOTE], name)
        check_note(note, name)
        return note

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The weights by name.

        Raises:
            ValueError: they are not those that were written.
        """
        listed = [_described(self.source, one) for one in self.header["weights"]]
        total = sum(size for _, size, _ in listed)
        if total > _MOST_RATIO * len(self._weights) + (1 << 20):
            raise _damaged(self.source, f"{len(self._weights)} bytes cannot hold weights of {total}")
        raw, first, found = _unpacked(self.source, "weights", self._weights, total), 0, {}
        for about, size, shape in listed:
            data = raw[first : first + size]
            first += size
            if hashlib.sha256(data).hexdigest() != about["sha256"]:
                raise _damaged(self.source, f"weight {about['name']} is not the one that was written")
            found[about["name"]] = Tensor(
                about["name"], shape, about["encoding"], about["rows"], data
            ).decoded()
        return found


def is_artefact(path: str) -> bool:
    """Whether a path or URL is that of an artefact, by its name."""
    return path.endswith(SUFFIX) and not place(path).is_dir()


def artefact_bytes(files: Mapping[str, bytes], weights: Sequence[Tensor], about: Mapping[str, Any]) -> bytes:
    """The content of an artefact; equal arguments give equal bytes.

    Args:
        files: of the export, without its weights.
        weights: in any order.
        about: what the header says of the model, as JSON.
    """
    from tomat._core import __version__

    names, tensors = sorted(files), sorted(weights, key=lambda one: one.name)
    sections = {
        "files": _packed("files", b"".join(files[name] for name in names)),
        "weights": _packed("weights", b"".join(one.data for one in tensors)),
    }
    header = {
        "format": _FORMAT,
        "tomat": __version__,
        "about": dict(about),
        "sections": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in sections.items()
        },
        "files": [{"name": name, "bytes": len(files[name])} for name in names],
        "weights": [one.about for one in tensors],
    }
    raw = json.dumps(header, separators=(",", ":")).encode()
    start = _MAGIC + len(raw).to_bytes(8, "little") + hashlib.sha256(raw).digest()
    return start + raw + sections["files"] + sections["weights"]


def write_artefact(path: Path, content: bytes) -> None:
    """Write an artefact atomically, read it back and compare.

    Raises:
        OSError: it cannot be written.
        RuntimeError: it did not read back as it was written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    if path.read_bytes() != content:
        raise RuntimeError(f"{path}: did not read back as it was written")


def read_artefact(path: str) -> Artefact:
    """Read an artefact and compare all of it with its digests; weights are unpacked when they are asked for.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else, of a later version, cut off or damaged.
    """
    return parse_artefact(place(path).read_bytes(), path)


def parse_artefact(content: bytes, source: str) -> Artefact:
    """As :func:`read_artefact`, of its bytes."""
    if not content.startswith(_MAGIC):
        raise ValueError(f"{source}: is not a model that tomat export wrote into one file")
    length = int.from_bytes(content[len(_MAGIC) : _START - 32], "little")
    raw = content[_START : _START + length]
    if len(raw) != length or hashlib.sha256(raw).digest() != content[_START - 32 : _START]:
        raise _damaged(source, "is damaged or cut off")
    header = parse_json(raw, source)
    if header.get("format") != _FORMAT:
        raise ValueError(
            f"{source}: of format {header.get('format')!r}, this program reads {_FORMAT}; update tomat"
        )
    first, found = _START + length, {}
    try:
        for name in _FILTERS:
            about = header["sections"][name]
            found[name] = content[first : first + about["bytes"]]
            first += about["bytes"]
            if hashlib.sha256(found[name]).hexdigest() != about["sha256"]:
                raise _damaged(source, "is damaged or cut off")
        sizes = {one["name"]: operator.index(one["bytes"]) for one in header["files"]}
        if not all(isinstance(name, str) for name in sizes):
            raise TypeError("files")
        if not isinstance(header["weights"], list):
            raise TypeError("weights")
        if not {"kind", "name"} <= header["about"].keys():
            raise KeyError("about")
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(source, f"its header is incomplete ({error!r})") from error
    if first != len(content):
        raise _damaged(source, f"has {len(content) - first} bytes too many")
    return Artefact(source, header, _files(source, found["files"], sizes), len(content), found["weights"])


@contextlib.contextmanager
def as_folder(path: str) -> Iterator[str]:
    """The folder of an export: itself, or a temporary one with what an artefact holds, weights as float32.

    Errors of what is done with it name the artefact.
    """
    if not is_artefact(path):
        yield path
        return
    from safetensors.numpy import save_file

    artefact = read_artefact(path)
    with tempfile.TemporaryDirectory(prefix="tomat-") as folder:
        for name, data in artefact.files.items():
            (Path(folder) / name).write_bytes(data)
        save_file(artefact.weights(), Path(folder) / _WEIGHTS, metadata={"format": "pt"})
        try:
            yield folder
        except (OSError, ValueError) as error:
            if folder not in str(error):
                raise
            raise ValueError(str(error).replace(folder, path)) from error


def _files(source: str, data: bytes, sizes: dict[str, int]) -> dict[str, bytes]:
    """The files of an export by name."""
    wrong = [
        name for name, size in sizes.items() if size < 0 or not _NAME.fullmatch(name) or name == _WEIGHTS
    ]
    if wrong or sum(sizes.values()) > _MOST_OF_FILES:
        raise _damaged(source, f"its files are not those of an export: {', '.join(wrong[:4]) or 'too large'}")
    raw, first, found = _unpacked(source, "files", data, sum(sizes.values())), 0, {}
    for name, size in sizes.items():
        found[name] = raw[first : first + size]
        first += size
    return found


def _described(source: str, about: Any) -> tuple[dict[str, Any], int, tuple[int, ...]]:
    """A weight's line of the header, its number of bytes, and its shape."""
    try:
        shape = tuple(about["shape"])
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"shape {shape}")
        size = stored_size(about["encoding"], shape, about["rows"])
        if size != about["bytes"] or not isinstance(about["name"], str) or "sha256" not in about:
            raise ValueError(f"{about['bytes']} bytes")
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(source, f"its header does not describe its weights ({error})") from error
    return about, size, shape


def _packed(section: str, data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_RAW, filters=[_FILTERS[section]])


def _unpacked(source: str, section: str, data: bytes, size: int) -> bytes:
    """The bytes of a section, never more than it should have."""
    try:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[_FILTERS[section]])
        found = unpacker.decompress(data, max_length=size + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise _damaged(source, f"its {section} do not unpack: {error}") from error
    if len(found) != size:
        raise _damaged(source, f"its {section} do not unpack to {size} bytes")
    return found


def _damaged(source: str, what: str) -> ValueError:
    return ValueError(f"{source}: {what}; fetch it again")
