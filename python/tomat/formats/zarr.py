"""Zarr v3 in the ``rho_gga`` layout: one chunk, compressed with zstd, with checksums."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat import _core
from tomat.crystal import Crystal
from tomat.storage.files import json_bytes
from tomat.storage.remote import fetch_files

#: Name of the array in the ``rho_gga`` layout.
_ARRAY = "charge_density_total"
#: Largest number of chunks fetched; the layout has one.
_MAX_CHUNKS = 1 << 16
_ZSTD_LEVEL = 9


def encode(
    crystal: Crystal,
    density: NDArray[np.float32],
    _n_electrons: float,
    source: dict[str, Any],
    facts: Mapping[str, Any] | None = None,
) -> dict[str, bytes]:
    """The files of the group; the density is in ``chgcar`` units. ``facts`` stand in the metadata beside the source."""
    values = np.ascontiguousarray(density, dtype="<f4")
    metadata = {
        "task_id": crystal.name,
        "n_electrons": float(values.mean(dtype=np.float64)),
        "units": "electrons: rho(r)*V_cell (mean over grid = n_electrons)",
        "source": source,
        **(facts or {}),
    }
    attributes = {"structure": json.dumps(structure_dict(crystal)), "metadata": json.dumps(metadata)}
    return {
        "zarr.json": json_bytes({"attributes": attributes, "zarr_format": 3, "node_type": "group"}),
        f"{_ARRAY}/zarr.json": json_bytes(_array_metadata(values.shape)),
        f"{_ARRAY}/c/0/0/0": _core.zarr_chunk(values.tobytes(), _ZSTD_LEVEL),
    }


def structure_dict(crystal: Crystal) -> dict[str, Any]:
    """The crystal as a pymatgen ``Structure`` dict."""
    symbols = _core.elements()
    a, b, c, alpha, beta, gamma = _core.lattice_parameters(crystal.lattice)
    positions = crystal.frac_coords @ crystal.lattice
    sites = [
        {
            "species": [{"element": symbols[z - 1], "occu": 1}],
            "abc": frac.tolist(),
            "properties": {},
            "label": symbols[z - 1],
            "xyz": xyz.tolist(),
        }
        for z, frac, xyz in zip(crystal.atomic_numbers.tolist(), crystal.frac_coords, positions, strict=True)
    ]
    lattice = {
        "matrix": crystal.lattice.tolist(),
        "pbc": [True, True, True],
        **{"a": a, "b": b, "c": c, "alpha": alpha, "beta": beta, "gamma": gamma, "volume": crystal.volume},
    }
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "charge": 0.0,
        "lattice": lattice,
        "properties": {},
        "sites": sites,
    }


def _array_metadata(shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "shape": list(shape),
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": True}},
            {"name": "crc32c"},
        ],
        "attributes": {},
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def fetch_group(url: str) -> dict[str, bytes]:
    """The files of a density's Zarr group by name; empty if there is no such group.

    The metadata are fetched first, and chunks only if the grid is valid; the reader reports what is wrong.

    Raises:
        OSError: the store does not answer.
    """
    names = ["zarr.json", f"{_ARRAY}/zarr.json"]
    files = fetch_files(url, names)
    if len(files) < len(names):
        return files
    try:
        keys = _chunk_keys(json.loads(files[names[1]]))
    except (KeyError, ValueError, TypeError, AttributeError):
        return files
    return files | fetch_files(url, [f"{_ARRAY}/{key}" for key in keys])


def _chunk_keys(metadata: dict[str, Any]) -> list[str]:
    """Names of the chunks of an array; none if the format cannot represent its grid."""
    shape = metadata["shape"]
    chunks = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    if len(shape) != 3 or max(shape) > _core.MAX_GRID_AXIS or min(*shape, *chunks) < 1:
        return []
    counts = [math.ceil(n / size) for n, size in zip(shape, chunks, strict=True)]
    if math.prod(counts) > _MAX_CHUNKS:
        return []
    encoding = metadata["chunk_key_encoding"]
    is_default = encoding["name"] == "default"
    separator = encoding.get("configuration", {}).get("separator", "/" if is_default else ".")
    prefix = f"c{separator}" if is_default else ""
    return [prefix + separator.join(map(str, key)) for key in product(*map(range, counts))]
