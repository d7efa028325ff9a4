"""Records of Fortran's unformatted files on a little-endian machine: content between two counts of its bytes."""

from __future__ import annotations

_COUNT = 4


def record(content: bytes) -> bytes:
    """A record with this content."""
    count = len(content).to_bytes(_COUNT, "little")
    return count + content + count


def content_at(data: bytes, at: int, name: str, what: str, program: str) -> tuple[bytes, int]:
    """The content of the record at a byte of a file, and where the next one starts.

    Args:
        data: of the file.
        at: where the record starts.
        name: of the file, for messages.
        what: the record is, likewise.
        program: that wrote it, likewise.

    Raises:
        ValueError: it is cut off, or its two counts differ.
    """
    count = int.from_bytes(data[at : at + _COUNT], "little")
    end = at + _COUNT + count
    after = data[end : end + _COUNT]
    if len(after) < _COUNT:
        raise ValueError(
            f"{name}: cut off or damaged: {what} starts at byte {at} and would take {count + 2 * _COUNT}, but "
            f"{max(0, len(data) - at)} are left; copy the file again, or run {program} again"
        )
    if after != data[at : at + _COUNT]:
        raise ValueError(
            f"{name}: {what} (byte {at}) is counted as {count} bytes before it and as "
            f"{int.from_bytes(after, 'little')} after it; the file is damaged: run {program} again"
        )
    return data[at + _COUNT : end], end + _COUNT
