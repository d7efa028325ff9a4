"""Single bits turned over: what reads a file must notice, or give what it gave before."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any


def positions(size: int, count: int, seed: int = 0) -> Iterable[int]:
    """All bits of a small file; of a larger one ``count``, by the seed, the last among them."""
    if size * 8 <= count:
        return range(size * 8)
    return [*random.Random(seed).sample(range(size * 8), count), size * 8 - 1]


def turned(content: bytes, bits: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """The content with one bit turned over, once for each of ``bits``."""
    for bit in bits:
        raw = bytearray(content)
        raw[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(raw)


def survive(path: Path, read: Callable[[], Any], count: int, seed: int = 0) -> tuple[int, int]:
    """Turn bits of a file over, one at a time; how many readings were refused, and how many the same as before.

    A refusal is an error of the kinds that the package uses for files; ``read`` gives something to compare.
    """
    content, before = path.read_bytes(), read()
    refused = same = 0
    try:
        for bit, raw in turned(content, positions(len(content), count, seed)):
            path.write_bytes(raw)
            try:
                found = read()
            except (ValueError, OSError):
                refused += 1
                continue
            assert found == before, (
                f"{path}: bit {bit % 8} of byte {bit // 8} changes what is read in silence"
            )
            same += 1
    finally:
        path.write_bytes(content)
    assert read() == before
    return refused, same
