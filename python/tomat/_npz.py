"""NumPy ``.npz`` files: read only if the archive is consistent, written without time stamps.

A zip archive states most things twice, in its directory and before each member. NumPy reads the directory alone, where
one flipped bit renames a member, which then silently takes its default. Here both must agree. Nothing is ever
unpickled, and sizes are checked before anything is allocated.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

#: Key of the ``about`` record that holds the digest of the whole file's content.
DIGEST = "content_sha256"

_LOCAL = struct.Struct("<4s5H3L2H")
_END = struct.Struct("<4s4H2LH")
_SUFFIX = ".npy"
#: Compression methods NumPy writes.
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: Number types in ``.npy`` headers; not text, dates, records or objects.
_NUMBERS = re.compile(r"[<>|=][biuf](1|2|4|8)")
#: Short texts in ``.npy`` headers.
_TEXTS = re.compile(r"[<>|=][US][1-9]\d{0,2}")
#: The longest header NumPy itself reads.
_LONGEST_HEADER = 10_000
_HAS_DESCRIPTOR = 1 << 3
_IN_ZIP64 = 0xFFFFFFFF
#: What reading a damaged archive or header raises; zipfile raises RuntimeError for unknown flags.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    KeyError,
    IndexError,
    TypeError,
    RuntimeError,
    OverflowError,
    MemoryError,
)


class PickledError(ValueError):
    """A member holds Python objects."""


class Npz:
    """The members of an archive, by name without ``.npy``.

    Args:
        data: the file.
        largest: total unpacked bytes that may be read.
    """

    def __init__(self, data: bytes, largest: int) -> None:
        if not data.startswith(b"PK"):
            raise ValueError("it does not begin as a zip archive (.npz) does")
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
            entries = self._archive.infolist()
            _check_end(data, len(entries))
            for entry in entries:
                _check_entry(data, entry)
        except _DAMAGE as error:
            raise ValueError(f"{error}; fetch it again") from error
        names = [entry.filename.removesuffix(_SUFFIX) for entry in entries]
        self._entries = dict(zip(names, entries, strict=True))
        if len(self._entries) != len(entries):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"member {twice} is in it twice; fetch it again")
        self._left = self._largest = largest

    @property
    def names(self) -> list[str]:
        """Names of all members."""
        return list(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A member as an array of numbers, with its checksum verified."""
        return self._member(name, _NUMBERS, "numbers")

    def texts(self, name: str) -> list[str]:
        """A member that is a text, or an array of them, with its checksum verified."""
        values = self._member(name, _TEXTS, "short texts").ravel().tolist()
        return [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in values]

    def _member(self, name: str, kinds: re.Pattern[str], what: str) -> NDArray[Any]:
        entry = self._entries[name]
        self._left -= entry.file_size
        if self._left < 0:
            raise ValueError(f"its members unpack to more than {self._largest} bytes")
        if entry.compress_type not in _PACKED:
            raise ValueError(
                f"member {name} has compression method {entry.compress_type}, which NumPy never writes"
            )
        try:
            with self._archive.open(entry) as member:
                # Bounded, whatever the member really unpacks to; reading to the end verifies the checksum.
                content = member.read(entry.file_size + 1)
            if len(content) != entry.file_size:
                raise ValueError(f"it has {len(content)} bytes, its directory says {entry.file_size}")
            return _array(content, kinds, what)
        except _DAMAGE as error:
            raise ValueError(f"member {name}: {error}; fetch it again") from error
        except PickledError as error:
            raise PickledError(f"member {name} {error}") from error
        except ValueError as error:
            raise ValueError(f"member {name}: {error}") from error


def _check_end(data: bytes, count: int) -> None:
    """Check the record at the end: the number of members, and the place of the directory."""
    at = data.rfind(b"PK\x05\x06")
    _, _, _, here, total, size, offset, _ = _END.unpack_from(data, at)
    if not here == total == count or offset + size != at:
        raise zipfile.BadZipFile("the directory of the archive is damaged")


def _check_entry(data: bytes, entry: zipfile.ZipInfo) -> None:
    """Check that a member's own header agrees with the directory."""
    sign, _, flags, method, _, _, crc, packed, unpacked, n_name, n_extra = _LOCAL.unpack_from(
        data, entry.header_offset
    )
    start = entry.header_offset + _LOCAL.size
    name = data[start : start + n_name]
    extra = data[start + n_name : start + n_name + n_extra]
    if _IN_ZIP64 in (packed, unpacked):
        unpacked, packed = _zip64_sizes(extra)
    stated: tuple[object, ...] = (crc, packed, unpacked)
    listed: tuple[object, ...] = (entry.CRC, entry.compress_size, entry.file_size)
    if flags & _HAS_DESCRIPTOR:
        stated = listed = ()
    ours = (b"PK\x03\x04", entry.flag_bits, entry.compress_type, entry.orig_filename.encode(), *listed)
    if (sign, flags, method, name, *stated) != ours:
        raise zipfile.BadZipFile(f"the directory and the member {entry.filename!r} disagree")


def _zip64_sizes(extra: bytes) -> tuple[int, int]:
    """Size and compressed size from the extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            unpacked, packed = struct.unpack_from("<2Q", extra, at + 4)
            return unpacked, packed
        at += 4 + length
    raise zipfile.BadZipFile("a member has no size")


def _array(content: bytes, kinds: re.Pattern[str], what: str) -> NDArray[Any]:
    """The array of a ``.npy`` file with values of some kinds; its header must fit its content."""
    header, start = _header(content)
    try:
        stated: Any = ast.literal_eval(header)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("its header cannot be read") from error
    if not isinstance(stated, dict) or stated.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header does not give descr, fortran_order and shape")
    descr, shape, fortran_order = stated["descr"], stated["shape"], stated["fortran_order"]
    if isinstance(descr, str) and "O" in descr:
        raise PickledError("holds Python objects, which are never unpickled (allow_pickle=False)")
    if not isinstance(descr, str) or not kinds.fullmatch(descr):
        raise ValueError(f"its values are {str(descr)[:40]!r}, not {what}")
    if (
        not isinstance(shape, tuple)
        or not all(type(n) is int and n >= 0 for n in shape)
        or type(fortran_order) is not bool
    ):
        raise ValueError(f"its header gives the shape {str(shape)[:40]}")
    try:
        dtype = np.dtype(descr)
    except TypeError as error:
        raise ValueError(f"its values are {descr!r}, not {what}") from error
    if math.prod(shape) * dtype.itemsize != len(content) - start or len(shape) > 8:
        raise ValueError(
            f"its header gives the shape {str(shape)[:40]}, but {len(content) - start} bytes follow"
        )
    return (
        np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if fortran_order else "C").copy()
    )


def _header(content: bytes) -> tuple[str, int]:
    """The text of a ``.npy`` header, and where the values start."""
    if not content.startswith(b"\x93NUMPY") or len(content) < 12:
        raise ValueError("it is not a NumPy array")
    width = {1: 2, 2: 4, 3: 4}.get(content[6])
    if width is None:
        raise ValueError(f"its .npy version is {content[6]}.{content[7]}, which is unknown")
    start = 8 + width
    length = int.from_bytes(content[8:start], "little")
    if length > min(_LONGEST_HEADER, len(content) - start):
        raise ValueError(f"its header of {length} bytes is cut off")
    return content[start : start + length].decode("latin1").strip(), start + length


def bundled_file(*place: str) -> Traversable:
    """A file or folder of the package; it may not be there."""
    # Takes a fiftieth of a second, which `import tomat` need not spend.
    from importlib import resources

    return resources.files("tomat").joinpath(*place)


def bundled_names(folder: str, suffix: str = ".npz") -> list[str]:
    """Names, without suffix, of the files in a folder of the package whose full suffix is this one."""
    names = [entry.name for entry in bundled_file(folder).iterdir()]
    stems = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return sorted(stem for stem in stems if "." not in stem)


def npz_bytes(members: Mapping[str, Any]) -> bytes:
    """The content of an ``.npz`` without time stamps: equal members give equal bytes."""
    buffer = io.BytesIO()
    # Uncompressed: compressed bytes depend on the version of the compressor.
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in members.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asanyarray(value), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}{_SUFFIX}", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()


def about_bytes(members: Mapping[str, Any], about: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The ``about`` member of a file with these other members: JSON with a digest of everything."""
    plain = json.loads(json.dumps(dict(about)))
    digest = _digest({name: np.asanyarray(value) for name, value in members.items()}, plain)
    return np.frombuffer(json.dumps({**plain, DIGEST: digest}, sort_keys=True).encode(), dtype=np.uint8)


def check_digest(archive: Npz, about: Mapping[str, Any]) -> None:
    """Check members and ``about`` against the digest in ``about``."""
    if DIGEST not in about:
        return  # written by an earlier version or another program
    found = _digest({name: archive[name] for name in archive.names if name != "about"}, about)
    if about[DIGEST] != found:
        raise ValueError(
            f"the members do not match the digest in the file (it says {about[DIGEST]}, they give {found}); the file "
            "is damaged or was edited, fetch it again"
        )


def check_hash(stated: object, found: str, source: str) -> None:
    """Check the content hash of what was read."""
    if stated != found:
        raise ValueError(
            f"{source}: the arrays do not match the content hash in the file (it says {stated}, they give {found}); "
            "the file is damaged or was edited, fetch it again"
        )


def _digest(members: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> str:
    """SHA-256 over names, types, shapes and content of the members, and the record without its digest."""
    hasher = hashlib.sha256(b"tomat npz 1\n")
    for name in sorted(members):
        array = np.ascontiguousarray(members[name])
        hasher.update(json.dumps([name, array.dtype.str, np.shape(members[name])]).encode() + b"\n")
        hasher.update(array.tobytes())
    rest = {key: value for key, value in about.items() if key != DIGEST}
    hasher.update(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())
    return hasher.hexdigest()
