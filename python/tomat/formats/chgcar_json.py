"""A pymatgen ``Chgcar`` as JSON: ``rho * V_cell`` under ``data.total``, as the Materials Project keeps densities.

The layout is that of ``Chgcar.as_dict()`` and of monty's encoder for arrays. The objects of the Materials Project hold
such a dictionary under ``data``, alone or in a list of one.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat import _core
from tomat.crystal import Crystal
from tomat.formats.contents import Contents
from tomat.formats.text import comment

#: Names of such files without the suffix of a compression.
NAMES = re.compile(r".+\.chgcar\.json", re.IGNORECASE)
#: What of a name is no part of that of the crystal.
ENDING = re.compile(r"\.chgcar\.json(\.(gz|bz2|xz|zst))?$", re.IGNORECASE)
_HINT = "give the JSON of a pymatgen Chgcar (Chgcar.as_dict())"


def encode(
    crystal: Crystal, density: NDArray[np.float32], _n_electrons: float, _source: dict[str, Any]
) -> bytes:
    """The JSON of a ``Chgcar``; ``density`` in ``chgcar`` units."""
    symbols = _core.elements()
    sites = [
        {"species": [{"element": symbols[z - 1], "occu": 1.0}], "abc": place, "properties": {}}
        for z, place in zip(crystal.atomic_numbers.tolist(), crystal.frac_coords.tolist(), strict=True)
    ]
    structure = {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "lattice": {"matrix": crystal.lattice.tolist(), "pbc": [True, True, True]},
        "sites": sites,
    }
    poscar = {
        "@module": "pymatgen.io.vasp.inputs",
        "@class": "Poscar",
        "structure": structure,
        "comment": comment(crystal),
        "selective_dynamics": None,
        "true_names": True,
    }
    total = {
        "@module": "numpy",
        "@class": "array",
        "dtype": "float64",
        "data": density.astype(np.float64).tolist(),
    }
    content = {"@module": "pymatgen.io.vasp.outputs", "@class": "Chgcar", "poscar": poscar}
    return json.dumps({**content, "data": {"total": total}, "data_aug": {}}).encode()


def decode(data: bytes, name: str) -> Contents:
    """Read the content of a file; ``name`` is named in errors.

    Raises:
        ValueError: damaged, or not a ``Chgcar``.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: damaged, or not JSON: {error}") from error
    found = _chgcar(content, name)
    try:
        structure = found["poscar"]["structure"]
        lattice = np.array(structure["lattice"]["matrix"], dtype=np.float64)
        atoms = [_element(site["species"], name) for site in structure["sites"]]
        places = np.array([site["abc"] for site in structure["sites"]], dtype=np.float64).reshape(-1, 3)
        density = _array(found["data"]["total"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{name}: the Chgcar has no {error}; {_HINT}") from error
    if density.ndim != 3:
        raise ValueError(f"{name}: data.total has shape {density.shape}; {_HINT}")
    source = {"format": "chgcar_json", "has_spin": "diff" in found["data"]}
    return Contents(lattice, atoms, places, density, "chgcar", source)


def _chgcar(content: Any, name: str) -> dict[str, Any]:
    """The dictionary of the ``Chgcar``, within what the Materials Project puts around it."""
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if isinstance(content, dict) and "poscar" not in content:
        content = content.get("data")
    if not isinstance(content, dict) or "poscar" not in content or "data" not in content:
        raise ValueError(f"{name}: no pymatgen Chgcar: poscar and data are missing; {_HINT}")
    return content


def _array(value: Any) -> NDArray[np.float32]:
    return np.asarray(value["data"] if isinstance(value, dict) else value, dtype=np.float32)


def _element(species: list[dict[str, Any]], name: str) -> int:
    symbols = _core.elements()
    if len(species) != 1 or species[0].get("occu", 1) != 1:
        raise ValueError(f"{name}: a site is partly occupied; give the Chgcar of an ordered crystal")
    if species[0]["element"] not in symbols:
        raise ValueError(f"{name}: unknown element {species[0]['element']!r}")
    return symbols.index(species[0]["element"]) + 1
