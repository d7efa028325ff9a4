"""Pseudopotentials: found by the names of their files, read by their headers."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from tomat.densities.qe.pseudo import names_by_element, read_pseudopotential

HEADER = '<UPF version="2.0.1">\n<PP_HEADER element="{}" pseudo_type="{}" functional="PBE" z_valence="{}"/>'


def test_a_packed_file_is_the_plain_one(data: Path, tmp_path: Path) -> None:
    packed = read_pseudopotential(data / "qe", "Si.UPF")
    (tmp_path / "Si.UPF").write_bytes(gzip.decompress((data / "qe" / "Si.UPF.gz").read_bytes()))
    plain = read_pseudopotential(tmp_path, "Si.UPF")
    assert (packed.element, packed.z_valence, packed.kind, packed.functional) == ("Si", 4.0, "NC", "PBE")
    assert packed.content == plain.content
    assert packed.sha256 == hashlib.sha256((tmp_path / "Si.UPF").read_bytes()).hexdigest()


@pytest.mark.parametrize(("element", "electrons"), [("B", 3.0), ("P", 5.0), ("As", 5.0)])
def test_valence_electrons(data: Path, element: str, electrons: float) -> None:
    found = read_pseudopotential(data / "qe", f"{element}.UPF")
    assert (found.element, found.z_valence) == (element, electrons)


def test_a_header_of_version_1(tmp_path: Path) -> None:
    (tmp_path / "H.UPF").write_text(
        "<PP_HEADER>\n   0                   Version Number\n  H                    Element\n"
        "   NC                   Norm - Conserving pseudopotential\n"
        "    0.10000000000E+01      Z valence\n</PP_HEADER>\n"
    )
    found = read_pseudopotential(tmp_path, "H.UPF")
    assert (found.element, found.z_valence, found.kind) == ("H", 1.0, "NC")


def test_names(tmp_path: Path) -> None:
    for name in (
        "si_pbe_v1.upf",
        "S.UPF.gz",
        "Sr.UPF",
        "Sr.UPF.gz",
        "C_ONCV_PBE-1.2.upf",
        "C.UPF",
        "notes.txt",
    ):
        (tmp_path / name).write_bytes(b"")
    assert names_by_element(tmp_path) == {
        "Si": ["si_pbe_v1.upf"],
        "S": ["S.UPF"],
        "Sr": ["Sr.UPF"],
        "C": ["C.UPF", "C_ONCV_PBE-1.2.upf"],
    }
    with pytest.raises(ValueError, match="no such folder"):
        names_by_element(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no pseudopotentials"):
        names_by_element(tmp_path / "empty")


def test_what_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "Fe.UPF").write_text(HEADER.format("Fe", "US", "16.0"))
    with pytest.raises(ValueError, match="norm-conserving"):
        read_pseudopotential(tmp_path, "Fe.UPF")
    (tmp_path / "O.UPF").write_text(HEADER.format("O", "NC", ""))
    with pytest.raises(ValueError, match="valence electrons"):
        read_pseudopotential(tmp_path, "O.UPF")
    (tmp_path / "N.UPF.gz").write_bytes(gzip.compress(b"text")[:-6])
    with pytest.raises(ValueError, match="damaged"):
        read_pseudopotential(tmp_path, "N.UPF")
    with pytest.raises(FileNotFoundError, match=r"nor He\.UPF\.gz"):
        read_pseudopotential(tmp_path, "He.UPF")
