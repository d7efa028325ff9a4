"""Damaged and hostile files: each is refused with its name, and nothing large is allocated first."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tomat
from places import DATA

CHGCAR = gzip.decompress((DATA / "chgcar" / "vasp-mp-2300242.CHGCAR.gz").read_bytes()).decode()
CUBE = gzip.decompress((DATA / "cube" / "qe-0770-MgO-rocksalt.cube.gz").read_bytes()).decode()
ZARR = DATA / "rho_gga" / "label" / "vasp-mp-2300242.zarr"
GRID_LINE = next(i for i, line in enumerate(CHGCAR.splitlines()) if line.split() == ["18", "20", "20"])

Edit = Callable[[list[str]], None]


def refused(path: Path) -> str:
    """The message of the error that reading gives, which must name the file, without its path."""
    with pytest.raises((ValueError, OSError)) as error:
        tomat.read(path)
    assert path.name in str(error.value)
    return str(error.value).replace(str(path), "")


def set_line(number: int, text: str) -> Edit:
    def edit(lines: list[str]) -> None:
        lines[number] = text

    return edit


def set_field(number: int, field: int, text: str) -> Edit:
    def edit(lines: list[str]) -> None:
        fields = lines[number].split()
        fields[field] = text
        lines[number] = " ".join(fields)

    return edit


def cut(number: int) -> Edit:
    def edit(lines: list[str]) -> None:
        del lines[number:]

    return edit


CHGCAR_FAULTS: dict[str, Edit] = {
    "scale-word": set_line(1, "abc"),
    "scale-zero": set_line(1, "0.0"),
    "lattice-two-numbers": set_line(2, "1.0 2.0"),
    "lattice-nan": set_line(2, "nan 0.0 0.0"),
    "lattice-flat": set_line(3, "0.0 0.0 -1.0"),
    "element-unknown": set_line(5, "Qq"),
    "no-atoms": set_line(6, "0"),
    "negative-atoms": set_line(6, "-1"),
    "too-many-atoms": set_line(6, "2"),
    "billions-of-atoms": set_line(6, "99999999999"),
    "counts-do-not-match": set_line(6, "1 1"),
    "coordinate-word": set_line(8, "0.0 x 0.0"),
    "cut-in-header": cut(5),
    "cut-before-grid": cut(GRID_LINE),
    "cut-after-grid": cut(GRID_LINE + 1),
    "cut-in-data": cut(GRID_LINE + 100),
    "grid-two-numbers": set_line(GRID_LINE, "18 20"),
    "grid-zero": set_line(GRID_LINE, "18 0 20"),
    "grid-negative": set_line(GRID_LINE, "18 -20 20"),
    "grid-too-large": set_line(GRID_LINE, "180 200 200"),
    "grid-overflow": set_line(GRID_LINE, "4294967296 4294967296 4294967296"),
    "grid-huge": set_line(GRID_LINE, "1000000 1000000 1000000"),
    "value-nan": set_field(GRID_LINE + 7, 2, "NaN"),
    "value-infinite": set_field(GRID_LINE + 7, 2, "Infinity"),
    "value-overflows": set_field(GRID_LINE + 7, 2, "0.1E+400"),
    "value-stars": set_field(GRID_LINE + 7, 2, "******************"),
    "value-word": set_field(GRID_LINE + 7, 2, "0.1x"),
}


@pytest.mark.parametrize("fault", sorted(CHGCAR_FAULTS))
def test_chgcar(tmp_path: Path, fault: str) -> None:
    lines = CHGCAR.splitlines()
    CHGCAR_FAULTS[fault](lines)
    path = tmp_path / "broken.CHGCAR"
    path.write_text("\n".join(lines) + "\n")
    message = refused(path)
    if fault.startswith("value"):
        assert re.search(rf"\b{GRID_LINE + 8}\b", message)  # lines count from one


CUBE_FAULTS: dict[str, Edit] = {
    "atoms-word": set_line(2, "x 0.0 0.0 0.0"),
    "no-atoms": set_line(2, "0 0.0 0.0 0.0"),
    "billions-of-atoms": set_line(2, "99999999999 0.0 0.0 0.0"),
    "more-atoms": set_line(2, "3 0.0 0.0 0.0"),
    "grid-zero": set_field(3, 0, "0"),
    "grid-huge": set_field(3, 0, "100000000000"),
    "grid-more": set_field(3, 0, "33"),
    "grid-fewer": set_field(3, 0, "31"),
    "lattice-flat": set_line(4, "32 -0.124309 -0.124309 0.0"),
    "lattice-nan": set_field(4, 1, "nan"),
    "element-unknown": set_field(6, 0, "119"),
    "element-zero": set_field(6, 0, "0"),
    "coordinate-word": set_field(6, 3, "x"),
    "cut-in-header": cut(5),
    "cut-before-data": cut(8),
    "cut-in-data": cut(500),
    "value-nan": set_field(20, 1, "NaN"),
    "value-stars": set_field(20, 1, "*************"),
    "value-infinite": set_field(20, 1, "inf"),
}


@pytest.mark.parametrize("fault", sorted(CUBE_FAULTS))
def test_cube(tmp_path: Path, fault: str) -> None:
    lines = CUBE.splitlines()
    CUBE_FAULTS[fault](lines)
    path = tmp_path / "broken.cube"
    path.write_text("\n".join(lines) + "\n")
    message = refused(path)
    if fault.startswith("value"):
        assert re.search(r"\b21\b", message)


# --- containers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.CHGCAR", "x.CHGCAR.gz", "x.cube", "x.cube.gz", "CHGCAR", "x.CHGCAR.bz2"])
@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 5000, b"PK\x03\x04" + b"x" * 100, b"\xff\xfe" * 999])
def test_empty_and_binary_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name)


@pytest.mark.parametrize("keep", [1, 5, 17, 1000, -9, -5, -1])
def test_truncated_gzip(tmp_path: Path, keep: int) -> None:
    """A member cut anywhere, its eight bytes of checksum and length included, is not a whole file."""
    raw = gzip.compress(CHGCAR.encode())
    (tmp_path / "cut.CHGCAR.gz").write_bytes(raw[:keep])
    refused(tmp_path / "cut.CHGCAR.gz")


def test_gzip_with_a_flipped_bit(tmp_path: Path) -> None:
    raw = bytearray(gzip.compress(CHGCAR.encode()))
    raw[len(raw) // 2] ^= 4
    (tmp_path / "flip.CHGCAR.gz").write_bytes(raw)
    refused(tmp_path / "flip.CHGCAR.gz")


def test_a_directory_and_a_missing_file(tmp_path: Path) -> None:
    for name in ("CHGCAR", "x.cube", "x.zarr"):
        (tmp_path / name).mkdir()
        refused(tmp_path / name)
    for name in ("none.CHGCAR", "none.cube.gz", "none.zarr"):
        with pytest.raises(FileNotFoundError, match=name):
            tomat.read(tmp_path / name)


# --- zarr ---------------------------------------------------------------------------------------------------


def copied(tmp_path: Path) -> Path:
    shutil.copytree(ZARR, tmp_path / "bad.zarr")
    return tmp_path / "bad.zarr"


def edit_json(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def attribute(name: str, value: object) -> Callable[[Path], None]:
    def edit(store: Path) -> None:
        edit_json(store / "zarr.json", lambda c: c["attributes"].update({name: value}))  # type: ignore[attr-defined]

    return edit


def array(**changes: object) -> Callable[[Path], None]:
    return lambda store: edit_json(store / "charge_density_total" / "zarr.json", lambda c: c.update(changes))


def structure(**changes: object) -> Callable[[Path], None]:
    text = json.loads((ZARR / "zarr.json").read_text())["attributes"]["structure"]
    return attribute("structure", json.dumps(json.loads(text) | changes))


def chunk(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def edit(store: Path) -> None:
        path = store / "charge_density_total" / "c" / "0" / "0" / "0"
        path.write_bytes(change(path.read_bytes()))

    return edit


def cut_json(store: Path) -> None:
    (store / "zarr.json").write_text((store / "zarr.json").read_text()[:50])


ZARR_FAULTS: dict[str, Callable[[Path], None]] = {
    "no-group-metadata": lambda s: (s / "zarr.json").unlink(),
    "no-array": lambda s: shutil.rmtree(s / "charge_density_total"),
    "no-array-metadata": lambda s: (s / "charge_density_total" / "zarr.json").unlink(),
    "no-chunk": lambda s: shutil.rmtree(s / "charge_density_total" / "c"),
    "chunk-empty": chunk(lambda _: b""),
    "chunk-cut": chunk(lambda raw: raw[: len(raw) // 2]),
    "chunk-text": chunk(lambda _: b"not zstd"),
    "json-cut": cut_json,
    "structure-missing": lambda s: edit_json(s / "zarr.json", lambda c: c.update(attributes={})),
    "structure-no-json": attribute("structure", "{"),
    "structure-a-number": attribute("structure", 3),
    "structure-no-sites": structure(sites=[]),
    "structure-no-lattice": structure(lattice={}),
    "shape-two-axes": array(shape=[18, 400]),
    "shape-larger": array(shape=[19, 20, 20]),
    "shape-huge": array(
        shape=[10**6] * 3, chunk_grid={"name": "regular", "configuration": {"chunk_shape": [10**6] * 3}}
    ),
    "shape-zero": array(shape=[0, 20, 20]),
    "type-complex": array(data_type="complex64"),
}


@pytest.mark.parametrize("fault", sorted(ZARR_FAULTS))
def test_zarr(tmp_path: Path, fault: str) -> None:
    store = copied(tmp_path)
    ZARR_FAULTS[fault](store)
    refused(store)


# --- memory -------------------------------------------------------------------------------------------------

PROBE = """
import resource, sys, tomat
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
try:
    tomat.read(sys.argv[1])
except (ValueError, OSError) as error:
    print(type(error).__name__, error)
else:
    print("read")
"""


@pytest.mark.parametrize("fault", ["grid-huge", "shape-huge", "cube-huge", "atoms-huge"])
def test_an_enormous_declared_size_is_not_allocated(tmp_path: Path, fault: str) -> None:
    """In a process that may grow by 1 GiB, a header that asks for exabytes gives the ordinary error."""
    if fault == "shape-huge":
        path = copied(tmp_path)
        ZARR_FAULTS[fault](path)
    elif fault == "cube-huge":
        path, lines = tmp_path / "huge.cube", CUBE.splitlines()
        CUBE_FAULTS["grid-huge"](lines)
        path.write_text("\n".join(lines))
    else:
        path, lines = tmp_path / "huge.CHGCAR", CHGCAR.splitlines()
        CHGCAR_FAULTS["grid-huge" if fault == "grid-huge" else "billions-of-atoms"](lines)
        path.write_text("\n".join(lines))
    result = subprocess.run(
        [sys.executable, "-c", PROBE, str(path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert path.name in result.stdout
    assert not result.stdout.startswith("read")


# --- magnetisation ------------------------------------------------------------------------------------------

CELL = "x\n1.0\n3 0 0\n0 4 0\n0 0 5\nSi O\n1 1\nDirect\n0 0 0\n.5 .5 .5\n\n 2 3 4\n"
OCCUPANCIES = "".join(f"augmentation occupancies {atom:3d}   2\n  0.1E+00 0.2E+00\n" for atom in (1, 2))
VALUES = [f"0.{i:011d}E+02" for i in range(1, 25)]


def wrapped(values: list[str], width: int) -> str:
    lines = (values[i : i + width] for i in range(0, len(values), width))
    return "".join(f" {' '.join(line)}\n" for line in lines)


@pytest.mark.parametrize("width", [5, 6, 8, 10, 24])
@pytest.mark.parametrize("at", [0, 1, 11, 22])
@pytest.mark.parametrize("augmented", [True, False])
def test_a_value_too_many_or_too_few_before_a_magnetisation(
    tmp_path: Path, width: int, at: int, augmented: bool
) -> None:
    """It would shift all voxels behind it: it is no moment, and no moment is one of the values."""
    path = tmp_path / "x.CHGCAR"
    between = f"{OCCUPANCIES}  0.600000000000E+00 -0.1\n" if augmented else ""
    tail = f"{between} 2 3 4\n{wrapped(VALUES, width)}{OCCUPANCIES if augmented else ''}"
    path.write_text(CELL + wrapped(VALUES, width) + tail)
    whole = tomat.read(path)
    assert whole.source["has_spin"]
    assert whole.density[1, 2, 3] == pytest.approx(24e-9, rel=1e-6)
    for values in ([*VALUES[:at], "0.5", *VALUES[at:]], [*VALUES[:at], *VALUES[at + 1 :]]):
        path.write_text(CELL + wrapped(values, width) + tail)
        refused(path)


@pytest.mark.parametrize(
    ("moments", "is_sound"),
    [
        ("", True),
        ("1. 2.\n", True),
        ("1. 2. 3.\n4. 5. 6.\n", True),
        ("1.\n", False),
        ("1. 2. 3.\n", False),
        ("1. " * 7 + "\n", False),
    ],
)
def test_moments_are_those_of_all_atoms(tmp_path: Path, moments: str, is_sound: bool) -> None:
    path = tmp_path / "x.CHGCAR"
    block = wrapped(VALUES, 5)
    path.write_text(f"{CELL}{block}{OCCUPANCIES}{moments} 2 3 4\n{block}{OCCUPANCIES}")
    if is_sound:
        assert tomat.read(path).source["has_spin"]
    else:
        refused(path)
