"""Densities that Python reads: what a file or folder holds, and how its parts are fetched."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomat.formats.compression import unpacked
from tomat.storage.files import is_url, open_bytes
from tomat.storage.remote import fetch_files

__all__ = ["Contents", "File", "Folder", "Reader"]


class Contents(NamedTuple):
    """What a file or folder holds, in the terms of :class:`tomat.Material`."""

    lattice: NDArray[np.float64]
    atomic_numbers: list[int]
    frac_coords: NDArray[np.float64]
    density: NDArray[np.float32]
    unit: str
    source: dict[str, Any]


@dataclass(frozen=True)
class Folder:
    """A folder with a density.

    Attributes:
        parts: names of the files that ``decode`` takes, as far as they are there.
        decode: from the content of each file, and the name of the folder for messages, to what it holds.
        ending: pattern of the end of its name that is no part of the name of the crystal.
        nameless: pattern of names that say nothing of the crystal, which is then called after the folder above.
    """

    parts: tuple[str, ...]
    decode: Callable[[dict[str, bytes], str], Contents]
    ending: re.Pattern[str]
    nameless: re.Pattern[str]

    def read(self, path: str | Path) -> Contents:
        """What is in a folder, local or at a URL.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: a file in its place, or damaged parts.
        """
        name = str(path).rstrip("/")
        if is_url(path):
            return self.decode(fetch_files(name, self.parts), name)
        folder = Path(name)
        if folder.is_dir():
            there = [part for part in self.parts if (folder / part).exists()]
            return self.decode({part: (folder / part).read_bytes() for part in there}, name)
        if folder.exists():
            raise ValueError(
                f"{name}: a file, where {folder.suffix} is the suffix of folders; give the folder"
            )
        raise FileNotFoundError(f"{name}: no such folder")


@dataclass(frozen=True)
class File:
    """A file with a density, compressed or not.

    Attributes:
        decode: from the content of the file, and its name for messages, to what it holds.
        ending: as in :class:`Folder`.
    """

    decode: Callable[[bytes, str], Contents]
    ending: re.Pattern[str]
    #: Files have names of their own.
    nameless = re.compile(r"(?!)")

    def read(self, path: str | Path) -> Contents:
        """What is in a file, local or at a URL.

        Raises:
            OSError: it cannot be read; ``FileNotFoundError`` if there is none.
            ValueError: it is damaged.
        """
        return self.decode(unpacked(open_bytes(path), str(path)), str(path))


type Reader = Folder | File
