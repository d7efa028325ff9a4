"""Reading ``.npz`` files that anyone may have made: every size is checked before it is unpacked, nothing is unpickled."""

from __future__ import annotations

import ast
import io
import math
import re
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NpzFile"]

#: Ways of packing a member that NumPy writes.
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: Numbers as ``.npy`` headers call them; text, dates, records and objects are none.
_NUMBERS = re.compile(r"[<>|=][biuf](1|2|4|8)")
#: The longest header NumPy itself reads.
_LONGEST_HEADER = 10_000
#: What ``zipfile`` raises of an archive that is damaged: RuntimeError (and NotImplementedError) for flags and methods
#: that it does not know, ValueError for offsets and dates that cannot be.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, RuntimeError, ValueError)


class NpzFile:
    """The arrays of an ``.npz`` file.

    Args:
        data: its content.
        source: what errors call it.
        limit: bytes of arrays that may be read from it, all together.

    Raises:
        ValueError: no zip archive, members that occur twice, a directory that disagrees with the members.
    """

    def __init__(self, data: bytes, source: str, limit: int) -> None:
        """Read the directory."""
        self._source = source
        self._limit = limit
        self._left = limit
        if not data.startswith(b"PK"):
            raise ValueError(f"{source}: not an .npz file: it does not begin as a zip archive does")
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
            for entry in self._archive.infolist():
                # Compares the name in the directory with the one before the member.
                self._archive.open(entry).close()
        except _DAMAGE as error:
            raise self._damaged(error) from error
        entries = self._archive.infolist()
        self._entries = {entry.filename.removesuffix(".npy"): entry for entry in entries}
        if len(self._entries) < len(entries):
            raise self._damaged("two of its members have the same name")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its arrays."""
        return tuple(self._entries)

    def read(self, name: str) -> NDArray[Any]:
        """An array of numbers, read-only.

        Raises:
            ValueError: no such member, one that is larger than its limit or than its header says, one that is no
                array of numbers, or a damaged one.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise ValueError(
                f"{self._source}: no member {name}; there are {', '.join(self.names) or 'none'}"
            )
        if entry.compress_type not in _PACKED:
            raise self._damaged(f"member {name} is packed in way {entry.compress_type}, which NumPy never writes")
        if entry.file_size > self._left:
            raise ValueError(
                f"{self._source}: member {name} unpacks to {entry.file_size} bytes, and the file to more than the "
                f"{self._limit} that belong in one of its kind; it is damaged, fetch it again"
            )
        self._left -= entry.file_size
        try:
            with self._archive.open(entry) as member:
                # No more than asked for is ever unpacked, whatever the size in the directory; the end checks the sum.
                content = member.read(entry.file_size + 1)
        except _DAMAGE as error:
            raise self._damaged(f"member {name}: {error}") from error
        if len(content) != entry.file_size:
            raise self._damaged(f"member {name} has {len(content)} bytes, its directory says {entry.file_size}")
        try:
            return _array(content)
        except ValueError as error:
            raise self._damaged(f"member {name}: {error}") from error

    def _damaged(self, problem: object) -> ValueError:
        return ValueError(f"{self._source}: not a whole .npz file: {problem}; fetch it again")


def _array(content: bytes) -> NDArray[Any]:
    """The array of a ``.npy`` file.

    Raises:
        ValueError: not one, or one that holds anything but as many numbers as it says.
    """
    header, start = _header(content)
    try:
        stated: Any = ast.literal_eval(header)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("its header cannot be read") from error
    if not isinstance(stated, dict) or stated.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header does not give descr, fortran_order and shape")
    descr, shape, fortran_order = stated["descr"], stated["shape"], stated["fortran_order"]
    if not isinstance(descr, str) or not _NUMBERS.fullmatch(descr):
        raise ValueError(f"its values are {str(descr)[:40]!r}, not numbers")
    if (
        not isinstance(shape, tuple)
        or not all(type(n) is int and n >= 0 for n in shape)
        or type(fortran_order) is not bool
    ):
        raise ValueError(f"its header gives the shape {str(shape)[:40]}")
    try:
        dtype = np.dtype(descr)
    except TypeError as error:
        raise ValueError(f"its values are {descr!r}, which are no numbers") from error
    if math.prod(shape) * dtype.itemsize != len(content) - start or len(shape) > 8:
        raise ValueError(f"its header gives the shape {str(shape)[:40]}, but {len(content) - start} bytes follow")
    return np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if fortran_order else "C")


def _header(content: bytes) -> tuple[str, int]:
    """The text of a ``.npy`` header, and where the values start."""
    if not content.startswith(b"\x93NUMPY") or len(content) < 12:
        raise ValueError("it is no array of NumPy")
    width = {1: 2, 2: 4, 3: 4}.get(content[6])
    if width is None:
        raise ValueError(f"its array is of version {content[6]}.{content[7]}")
    start = 8 + width
    length = int.from_bytes(content[8:start], "little")
    if length > min(_LONGEST_HEADER, len(content) - start):
        raise ValueError(f"its header of {length} bytes is cut off")
    return content[start : start + length].decode("latin1").strip(), start + length
