"""Read crystals from POSCAR, CIF, any file pymatgen or ASE reads, and densities."""

from __future__ import annotations

import re
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomat.crystal import Crystal
from tomat.formats import format_by_name
from tomat.formats.compression import unpacked
from tomat.material import Material, read, read_content, task_id_of
from tomat.storage.files import is_url, open_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase.atoms import Atoms
    from pymatgen.core.structure import IStructure

    type CrystalLike = Crystal | Material | IStructure | Atoms | str | Path

#: File names that VASP sets; the name of the crystal is then that of the folder.
_NAMELESS = re.compile(r"(POSCAR|CONTCAR)(\.relax\d*|\.vasp)?", re.IGNORECASE)
_POSCAR = re.compile(r"POSCAR|CONTCAR", re.IGNORECASE)
#: Suffixes that are not part of a name.
_SUFFIX = re.compile(
    r"\.(vasp|cif|mcif|poscar|contcar|json|ya?ml|xsf|xyz|extxyz|res|in|traj|cssr)$", re.IGNORECASE
)
_CIF = (".cif", ".mcif")
_COMPRESSED = re.compile(r"\.(gz|bz2|xz|zst)$", re.IGNORECASE)


def as_crystal(source: CrystalLike) -> Crystal:
    """A crystal from a path, ``Material``, pymatgen ``Structure`` or ASE ``Atoms``."""
    if isinstance(source, Crystal):
        return source
    if isinstance(source, Material):
        return source.crystal
    if isinstance(source, str | Path):
        return read_crystal(source)
    given: Any = source
    if hasattr(given, "is_ordered"):
        return Crystal.from_pymatgen(given)
    if hasattr(given, "get_scaled_positions"):
        return Crystal.from_ase(given)
    raise TypeError(
        f"a {type(source).__name__} is not a crystal; give a path, Crystal, Material, pymatgen Structure or ASE Atoms"
    )


def name_of(path: str | Path) -> str:
    """Name of the crystal in a file: the stem, or the folder's name for files such as POSCAR."""
    # The folder's name for files that VASP named; never `.`, `..` or empty.
    name = task_id_of(path)
    file = _COMPRESSED.sub("", Path(str(path).split("?")[0] if is_url(path) else path).name)
    if format_by_name(file) is not None or _NAMELESS.fullmatch(file):
        return name
    stem = _SUFFIX.sub("", name)
    return name if stem in ("", ".", "..") else stem


def read_crystal(path: str | Path) -> Crystal:
    """Read the crystal in a file or URL.

    POSCAR and CIF are read by pymatgen if it is installed, else by this package and gemmi; other files by pymatgen or
    ASE (``tomat[structures]``), and densities (CHGCAR, Zarr, cube) by this package. Text may be compressed as far as
    the reader supports it (.gz, .bz2, .xz).

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or of unknown format, has no atoms or no cell, partially occupied sites, or
            several crystals.
    """
    name = name_of(path)
    if is_url(path) and _is_file(path):
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / Path(str(path).split("?")[0]).name
            local.write_bytes(open_bytes(path))
            return _read(local, str(path)).renamed(name)
    if not is_url(path) and not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    return _read(path, str(path)).renamed(name)


def _is_file(path: str | Path) -> bool:
    form = format_by_name(str(path).rstrip("/"))
    return form is None or form.is_text


def _read(path: str | Path, shown: str) -> Crystal:
    file = _COMPRESSED.sub("", Path(path).name)
    if format_by_name(file) is not None:
        return read(path).crystal
    problems: list[str] = []
    readers: list[tuple[str, Callable[[Path, str], Crystal]]] = [
        ("pymatgen", _with_pymatgen),
        ("ASE", _with_ase),
    ]
    if _POSCAR.search(file) or file.lower().endswith(".vasp"):
        # ASE guesses the elements of a POSCAR without symbols.
        readers = [("pymatgen", _with_pymatgen), ("tomat", _with_core)]
    if file.lower().endswith(_CIF):
        readers.insert(1, ("gemmi", _with_gemmi))
    if file.lower().endswith(".vasp"):
        readers.insert(0, ("density", lambda p, _: read(p).crystal))
    for reader, function in readers:
        try:
            return function(Path(path), shown)
        except _RefusedError as error:
            raise ValueError(str(error)) from error
        except ImportError:
            problems.append(f"{reader} is not installed (pip install 'tomat[structures]')")
        except OSError as error:
            if error.errno is not None:
                raise
            problems.append(f"{reader}: {error}")
        except Exception as error:  # parsers raise anything for a file of another format
            if reader != "density":
                problems.append(f"{reader}: {_first_line(error)}")
    raise ValueError(
        f"{shown}: no crystal could be read: {'; '.join(problems)}. Give a POSCAR, a CIF, or another file that "
        "pymatgen or ASE can read, with its usual suffix"
    )


class _RefusedError(ValueError):
    """The file was parsed, but its content cannot be predicted: no other reader is tried."""


def _with_pymatgen(path: Path, shown: str) -> Crystal:
    from pymatgen.core.structure import Structure
    from pymatgen.io.cif import CifParser
    from pymatgen.io.vasp.inputs import Poscar

    file = _COMPRESSED.sub("", path.name).lower()
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        if file.endswith(_CIF):
            structures: list[Any] = CifParser(path).parse_structures(primitive=False)
        elif _POSCAR.search(file) or file.endswith(".vasp"):
            structures = [Poscar.from_file(path, check_for_potcar=False).structure]
        else:
            structures = [Structure.from_file(path)]
    if any("cannot be determined" in str(warning.message) for warning in raised):
        raise _RefusedError(
            f"{shown}: the file has the VASP 4 format without element symbols; insert a line with the symbols before "
            "the numbers of atoms (line 6)"
        )
    return _checked(lambda: Crystal.from_pymatgen(_only(structures, shown)), shown)


def _with_gemmi(path: Path, shown: str) -> Crystal:
    return crystal_of_cif(unpacked(path.read_bytes(), shown), shown)


def crystal_of_cif(text: str | bytes, shown: str) -> Crystal:
    """The crystal of a CIF, read by gemmi: all atoms of the cell.

    Args:
        text: content of the file.
        shown: what it is called in messages.

    Raises:
        ValueError: not a CIF, several crystals or none, partly occupied sites.
    """
    import gemmi

    blocks = [gemmi.make_small_structure_from_block(block) for block in gemmi.cif.read_string(text)]
    found = _only([block for block in blocks if block.sites], shown)
    sites = found.get_all_unit_cell_sites()
    partly = [site for site in sites if site.occ < 1 - 1e-6]
    if partly:
        raise _RefusedError(
            f"{shown}: {len(partly)} of {len(sites)} sites are partly occupied (first: {partly[0].label}); a density "
            "needs whole atoms: order it first"
        )
    cell = found.cell
    parameters = [cell.a, cell.b, cell.c, cell.alpha, cell.beta, cell.gamma]
    numbers = [site.element.atomic_number for site in sites]
    places = [site.fract.tolist() for site in sites]
    return _checked(lambda: Crystal.from_parameters(parameters, numbers, places, found.name), shown)


def _with_core(path: Path, shown: str) -> Crystal:
    """A POSCAR, which is the head of a CHGCAR: a grid of one point is put behind its atoms."""
    lines = unpacked(path.read_bytes(), shown).decode("utf-8", errors="replace").splitlines()
    counts = lines[6].split() if len(lines) > 6 else []
    if not counts or not all(count.isdecimal() for count in counts):
        raise ValueError("line 7 does not hold numbers of atoms")
    end = 8 + sum(map(int, counts))
    whole = "\n".join([*lines[:end], "", "1 1 1", "0.0", ""])
    name = "POSCAR.CHGCAR"  # the format is told by the name
    try:
        return read_content(whole.encode(), name).crystal
    except ValueError as error:
        raise ValueError(str(error).replace(name, shown)) from error


def _with_ase(path: Path, shown: str) -> Crystal:
    import ase.io

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = ase.io.read(path, index=":")
    atoms = _only(images if isinstance(images, list) else [images], shown)
    return _checked(lambda: Crystal.from_ase(atoms), shown)


def _only(found: list[Any], shown: str) -> Any:
    if not found:
        raise ValueError("it holds no crystal")
    if len(found) != 1:
        raise _RefusedError(
            f"{shown}: it holds {len(found)} crystals; give a file with just the one to predict"
        )
    return found[0]


def _checked(make: Callable[[], Crystal], shown: str) -> Crystal:
    try:
        return make()
    except ValueError as error:
        # Name the file instead of the crystal, whose name is only its formula here.
        problem = str(error).split(": ", 1)[-1]
        raise _RefusedError(f"{shown}: {problem}") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
