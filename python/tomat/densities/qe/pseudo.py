"""Folders of pseudopotentials in the UPF format, plain or gzipped."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_SUFFIX = re.compile(r"\.upf(\.gz)?$", re.IGNORECASE)
#: The element that a file name begins with: Si.UPF, Si_ONCV_PBE-1.2.upf, si_pbe_v1.upf.
_ELEMENT = re.compile(r"([A-Za-z]{1,2})(?![A-Za-z])")
#: Attributes of ``PP_HEADER`` (version 2), and the lines that version 1 has in their place.
_ATTRIBUTE = r'\b{}\s*=\s*"\s*([^"]*?)\s*"'
_LINES = {
    "element": r"^\s*(\S+)\s+Element\s*$",
    "z_valence": r"^\s*(\S+)\s+Z valence\s*$",
    "pseudo_type": r"^\s*(\S+)\s+(?:NC|US|PAW)\s*-",
    "functional": r"^\s*(.*?)\s+PBE Exchange-Correlation functional\s*$",
}
#: Kinds with which the charge density is that of the wave functions alone.
_NORM_CONSERVING = ("NC", "SL")


@dataclass(frozen=True)
class Pseudopotential:
    """A pseudopotential and what its header says.

    Attributes:
        name: of the file, without ``.gz``.
        content: the text, unpacked.
        element: symbol.
        z_valence: valence electrons.
        kind: NC, SL, US, PAW or 1/r.
        functional: as the file writes it.
    """

    name: str
    content: bytes
    element: str
    z_valence: float
    kind: str
    functional: str

    @cached_property
    def sha256(self) -> str:
        """Of the unpacked file."""
        return hashlib.sha256(self.content).hexdigest()


def unpacked(folder: Path, name: str) -> bytes:
    """The content of a file of a folder, plain or gzipped there.

    Raises:
        FileNotFoundError: neither.
        ValueError: damaged.
    """
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.exists():
        return plain.read_bytes()
    if not packed.exists():
        raise FileNotFoundError(f"{plain}: no such pseudopotential, nor {packed.name}")
    try:
        return gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{packed}: damaged: {error}") from error


def names_by_element(folder: Path) -> dict[str, list[str]]:
    """The files of a folder by the element that their names begin with, without ``.gz``, sorted.

    Raises:
        ValueError: no folder, or none in it.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: no such folder; give the one with the pseudopotentials (NAME.UPF or .UPF.gz)"
        )
    found: dict[str, set[str]] = {}
    for path in folder.iterdir():
        element = _ELEMENT.match(path.name)
        if _SUFFIX.search(path.name) and element is not None:
            found.setdefault(element[1].capitalize(), set()).add(re.sub(r"\.gz$", "", path.name))
    if not found:
        raise ValueError(f"{folder}: no pseudopotentials (Si.UPF, Si_ONCV_PBE-1.2.upf.gz, ...)")
    return {element: sorted(names) for element, names in found.items()}


def read_pseudopotential(folder: Path, name: str) -> Pseudopotential:
    """A pseudopotential of a folder; ``name`` is without ``.gz``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, not in the UPF format, or not norm-conserving.
    """
    content = unpacked(folder, name)
    text = content.decode("utf-8", "replace")
    start = text.find("<PP_HEADER")
    header = text[start : start + 8000] if start >= 0 else ""
    element, z_valence = _field(header, "element"), _field(header, "z_valence")
    try:
        electrons = float(z_valence.lower().replace("d", "e"))
    except ValueError:
        electrons = 0.0
    if not element or not electrons > 0:
        raise ValueError(
            f"{folder / name}: its header names no element with its valence electrons; give a file in the UPF format"
        )
    kind = _field(header, "pseudo_type").upper() or "NC"
    if kind not in _NORM_CONSERVING:
        raise ValueError(
            f"{folder / name}: {kind}, whose density is more than that of the wave functions; give a norm-conserving "
            "pseudopotential (SG15, PseudoDojo)"
        )
    return Pseudopotential(name, content, element.capitalize(), electrons, kind, _field(header, "functional"))


def _field(header: str, name: str) -> str:
    found = re.search(_ATTRIBUTE.format(name), header) or re.search(_LINES[name], header, re.MULTILINE)
    return "" if found is None else found[1].strip()
