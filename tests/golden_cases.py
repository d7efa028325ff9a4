"""The worked cases of the format, `golden/vectors.json`, as typed objects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import oracle
from places import TESTS


@dataclass(frozen=True)
class Golden:
    """One worked case; `tokenizer` is the oracle's."""

    name: str
    layout: str
    vocabulary: str
    tokenizer: oracle.Tokenizer
    patch_shape: oracle.Shape
    offset: oracle.Shape
    grid_shape: oracle.Shape
    lattice: list[float]
    atomic_numbers: list[int]
    frac_coords: list[list[float]]
    density: NDArray[np.float32]
    tokens: list[int]
    decoded_density: NDArray[np.float32]
    decoded_frac_coords: NDArray[np.float64]
    total_vocab_size: int


def _codec(parameters: dict[str, Any]) -> oracle.Codec:
    if parameters["kind"] == "log":
        return oracle.Log(parameters["log_min"], parameters["log_max"], tuple(parameters["bits"]))
    return oracle.LloydMax(
        tuple(parameters["boundaries"]), tuple(parameters["recon_points"]), parameters["clip_max"]
    )


def _triple(values: list[int]) -> oracle.Shape:
    x, y, z = values
    return (x, y, z)


def _golden(raw: dict[str, Any]) -> Golden:
    shape, grid = _triple(raw["patch_shape"]), _triple(raw["grid_shape"])
    # The rows are not padded, so a row that is exactly as long makes the fallback case choose its shape.
    tokenizer = oracle.Tokenizer(
        raw["layout"], _codec(raw["codec_params"]), raw["patch_size"], len(raw["tokens"]), (shape,)
    )
    return Golden(
        name=raw["name"],
        layout=raw["layout"],
        vocabulary=raw["vocabulary"],
        tokenizer=tokenizer,
        patch_shape=shape,
        offset=_triple(raw["offset"]),
        grid_shape=grid,
        lattice=raw["lattice"],
        atomic_numbers=raw["atomic_numbers"],
        frac_coords=raw["frac_coords"],
        density=np.array(raw["density"], dtype=np.float32).reshape(grid),
        tokens=raw["tokens"],
        decoded_density=np.array(raw["decoded_density"], dtype=np.float32),
        decoded_frac_coords=np.array(raw["decoded_frac_coords"]),
        total_vocab_size=raw["total_vocab_size"],
    )


CASES = [_golden(raw) for raw in json.loads((TESTS / "golden" / "vectors.json").read_text())["cases"]]
