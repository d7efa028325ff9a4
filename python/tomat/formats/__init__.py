"""Density file formats: a registry of names, suffixes and writers.

Files are written atomically; :func:`tomat.read` reads them with the parsers of the core (``tomat-io``), or with
``decode`` of a format that Python reads. A new format is a module here with ``encode``, an entry in :data:`FORMATS`,
and a parser in the core or ``decode``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat.crystal import Crystal
from tomat.formats import abinit, chgcar_json, cube, npz, qe, vasp, xsf, zarr
from tomat.formats.compression import COMPRESSORS
from tomat.formats.contents import File, Folder, Reader
from tomat.storage.files import atomic_folder, write_atomically

__all__ = ["COMPRESSORS", "FORMATS", "Format", "format_by_name", "format_of", "write"]


@dataclass(frozen=True)
class Format:
    """A density file format.

    Attributes:
        name: as used in options.
        suffix: of files with predictions.
        unit: of the density that ``encode`` takes.
        encode: from ``(crystal, density, electrons in the cell, facts about the source)`` to the content of the file,
            or of each file if the format is a folder.
        suffixes: file suffixes of the format, lower case.
        searched: patterns (:mod:`fnmatch`) by which densities are found in a folder.
        names: pattern of file names without suffix.
        shared: suffixes also used for other things, which mean this format where a density is expected.
        is_text: files may be compressed.
        has_augmentation: PAW augmentation occupancies may follow the density.
        reader: how a format is read that the core does not know.
    """

    name: str
    suffix: str
    unit: str
    encode: Callable[[Crystal, NDArray[np.float32], float, dict[str, Any]], bytes | dict[str, bytes]]
    suffixes: tuple[str, ...]
    searched: tuple[str, ...]
    names: re.Pattern[str] | None = None
    shared: tuple[str, ...] = ()
    is_text: bool = True
    has_augmentation: bool = False
    reader: Reader | None = None


#: Formats by name.
FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format("zarr", ".zarr", "chgcar", zarr.encode, (".zarr",), ("*.zarr",), is_text=False),
        Format(
            "chgcar",
            ".CHGCAR",
            "chgcar",
            vasp.encode,
            (".chgcar", ".chg", ".aeccar", ".aeccar0", ".aeccar1", ".aeccar2"),
            ("*CHGCAR*", "CHG", "CHG.*", "*.CHG", "*AECCAR[02]*", "*.vasp"),
            names=re.compile(r"(CHGCAR|CHG|AECCAR\d?)([._].*)?", re.IGNORECASE),
            shared=(".vasp",),
            has_augmentation=True,
        ),
        Format("cube", ".cube", "e_per_A3", cube.encode, (".cube", ".cub"), ("*.cube", "*.cub")),
        Format(
            "xsf",
            ".xsf",
            "e_per_A3",
            xsf.encode,
            (),
            (),
            shared=(".xsf",),
            reader=File(xsf.decode, re.compile(r"\.xsf$", re.IGNORECASE)),
        ),
        Format(
            "npz",
            ".npz",
            "chgcar",
            npz.encode,
            (".npz",),
            (),
            is_text=False,
            reader=File(npz.decode, re.compile(r"\.npz$", re.IGNORECASE)),
        ),
        Format(
            "qe",
            ".save",
            "e_per_A3",
            qe.encode,
            (".save",),
            ("*.save",),
            is_text=False,
            reader=Folder(qe.PARTS, qe.decode, re.compile(r"\.save$", re.IGNORECASE), qe.NAMELESS),
        ),
        Format(
            "abinit",
            "_DEN",
            "e_per_A3",
            abinit.encode,
            (),
            ("*_DEN",),
            names=re.compile(r".+_DEN"),
            is_text=False,
            reader=File(abinit.decode, re.compile(r"_DEN$")),
        ),
        Format(
            "chgcar_json",
            ".chgcar.json",
            "chgcar",
            chgcar_json.encode,
            (),
            ("*.chgcar.json",),
            names=chgcar_json.NAMES,
            reader=File(chgcar_json.decode, chgcar_json.ENDING),
        ),
    )
}


def format_by_name(path: str | Path, *, shared: bool = False) -> Format | None:
    """The format implied by a file name, compressed or not; None if there is none.

    ``shared``: include suffixes that may mean something else (``.vasp``: a structure).
    """
    name = Path(path).name
    stem = name.rsplit(".", 1)[0] if Path(name).suffix.lower() in COMPRESSORS else name
    known = [one for one in FORMATS.values() if one.is_text or stem == name]
    suffix = Path(stem).suffix.lower()
    by_suffix = (one for one in known if suffix in one.suffixes or (shared and suffix in one.shared))
    by_name = (one for one in known if one.names is not None and one.names.fullmatch(stem))
    return next(by_suffix, None) or next(by_name, None)


def format_of(path: str | Path) -> str:
    """The name of the format in which a density is written to ``path``.

    Raises:
        ValueError: the file name implies none.
    """
    found = format_by_name(path, shared=True)
    if found is None:
        raise ValueError(
            f"{path}: the name implies no format; end it in {_either([one.suffix for one in FORMATS.values()])} (and "
            f"{_either(list(COMPRESSORS))} to compress text), or give the format"
        )
    return found.name


def _either(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def write(target: Path, form: Format, content: bytes | dict[str, bytes]) -> None:
    """Write the result of ``form.encode``; an existing file or folder is replaced.

    Raises:
        OSError: it cannot be written.
    """
    if isinstance(content, bytes):
        compress = COMPRESSORS.get(target.suffix.lower()) if form.is_text else None
        write_atomically(target, compress(content) if compress else content)
        return
    with atomic_folder(target) as folder:
        for name, data in content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / name, data)
