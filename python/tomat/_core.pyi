"""Types of the native part; `tomat` itself is what users import."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

type _Floats = NDArray[np.float32] | NDArray[np.float64]
type _Triple = tuple[int, int, int]

__all__ = [
    "FALLBACK_SHAPES",
    "MAX_CLIPPED",
    "MAX_GRID_AXIS",
    "MAX_NEGATIVE",
    "PAD_TO",
    "REASONS",
    "CrystalLanguage",
    "Crystals",
    "DensityCodec",
    "EnvironmentBasis",
    "NormalEquations",
    "Patch",
    "Promolecule",
    "RawMaterial",
    "Readout",
    "ShardRun",
    "Sketch",
    "Tokenizer",
    "Vocabulary",
    "__version__",
    "annotate_rows",
    "ask_from_guess",
    "ask_masked",
    "ask_next_tokens",
    "cell_volume",
    "coverage_histogram",
    "elements",
    "encode_patches",
    "fit",
    "inspect",
    "keys_of",
    "lattice_parameters",
    "layouts",
    "named_log_codec",
    "parse_structure",
    "permute",
    "quantiles",
    "random_bits",
    "read",
    "read_bytes",
    "read_group",
    "sample_offsets",
    "task_id",
    "tiling",
    "valence_electrons",
    "zarr_chunk",
]
FALLBACK_SHAPES: tuple[_Triple, ...]
MAX_CLIPPED: float
MAX_GRID_AXIS: int
MAX_NEGATIVE: float
PAD_TO: int
REASONS: tuple[str, ...]
__version__: str

class DensityCodec:
    def __new__(cls, kind: str, parameters: dict[str, Any]) -> Self: ...
    def encode(self, values: _Floats) -> NDArray[np.int32]: ...
    def decode(self, components: NDArray[np.int32]) -> NDArray[np.float64]: ...
    def clipping(self, values: _Floats) -> tuple[int, float, float, float, float, int] | None: ...
    @property
    def range(self) -> tuple[float, float]: ...
    def bin_of(self, value: float) -> tuple[float, float]: ...
    def unit_for(self, stated: str | None = None) -> str: ...
    @property
    def sizes(self) -> list[int]: ...
    @property
    def hash(self) -> str: ...

def named_log_codec(name: str) -> tuple[float, float, list[int]] | None: ...

class Sketch:
    def __new__(cls, unit: str) -> Self: ...
    def add(self, id: str, values: NDArray[np.float32], scale: float) -> None: ...  # noqa: A002
    def add_weighted(self, id: str, values: NDArray[np.float32], weights: NDArray[np.float64]) -> None: ...  # noqa: A002
    def merge(self, other: Sketch) -> None: ...
    def rounded(self, bits: int) -> Sketch: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def read_bytes(data: bytes) -> Sketch: ...
    @property
    def hash(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def ids(self) -> list[str]: ...
    @property
    def n_voxels(self) -> int: ...
    @property
    def n_negative(self) -> int: ...
    @property
    def n_zero(self) -> int: ...
    @property
    def n_cells(self) -> int: ...
    @property
    def sum(self) -> float: ...
    @property
    def range(self) -> tuple[float, float] | None: ...

def fit(
    sketch: Sketch, bins: int, *, method: str, weighting: str, signed: bool, mean_points: bool
) -> dict[str, Any]: ...

@final
class Vocabulary:
    @property
    def kind(self) -> str: ...
    @property
    def total_size(self) -> int: ...
    @property
    def atom_range(self) -> tuple[int, int]: ...
    @property
    def int_range(self) -> tuple[int, int]: ...
    @property
    def position_range(self) -> tuple[int, int]: ...
    @property
    def density_range(self) -> tuple[int, int]: ...
    @property
    def specials(self) -> dict[str, int]: ...
    @property
    def position_codec(self) -> tuple[float, float, list[int]]: ...
    @property
    def hash(self) -> str: ...
    def name(self, id: int) -> str: ...  # noqa: A002

type _Slot = tuple[int, list[int]]
type _Answered = tuple[NDArray[np.int32], NDArray[np.int32]]

@final
class CrystalLanguage:
    def __new__(cls, positions: int, codec: DensityCodec | None) -> Self: ...
    @property
    def total_size(self) -> int: ...
    @property
    def atom_range(self) -> tuple[int, int]: ...
    @property
    def int_range(self) -> tuple[int, int]: ...
    @property
    def density_range(self) -> tuple[int, int]: ...
    @property
    def specials(self) -> dict[str, int]: ...
    @property
    def hash(self) -> str: ...
    def name(self, id: int) -> str: ...  # noqa: A002
    def show(self, ids: NDArray[np.int32]) -> list[str]: ...
    def quantize(
        self, lattice: Sequence[float], atomic_numbers: NDArray[np.int32], frac_coords: NDArray[np.float64]
    ) -> tuple[list[int], NDArray[np.int32]]: ...
    def encode(
        self,
        conditions: Sequence[tuple[int, Sequence[int]]],
        cell: Sequence[int],
        elements: NDArray[np.int32],
        positions: NDArray[np.int32],
        answer: _Answered | None = None,
        frame: Sequence[int] = ...,
    ) -> NDArray[np.int32]: ...
    def decode(
        self, ids: NDArray[np.int32]
    ) -> tuple[list[_Slot], list[int], NDArray[np.int32], NDArray[np.int32], _Answered | None]: ...

def elements() -> list[str]: ...
def lattice_parameters(matrix: NDArray[np.float64]) -> list[float]: ...
def layouts() -> list[tuple[str, str, int, int, str]]: ...

@final
class Tokenizer:
    def __new__(
        cls,
        layout: str,
        codec: DensityCodec,
        patch_size: int | None,
        pad_to: int,
        fallback_shapes: list[_Triple],
        unit: str,
    ) -> Self: ...
    @property
    def vocabulary(self) -> Vocabulary: ...
    @property
    def unit(self) -> str: ...
    @property
    def patch_size(self) -> int: ...
    def length(self, n_atoms: int, patch_shape: _Triple | None = None) -> int: ...
    def shape_for(self, n_atoms: int) -> list[int]: ...
    def check(self, grid_shape: _Triple, lattice: list[float], n_atoms: int) -> None: ...
    def refusal(
        self, grid_shape: _Triple, lattice: list[float] | None, n_atoms: int
    ) -> tuple[str, str] | None: ...
    def encode(
        self,
        density: _Floats,
        lattice: list[float],
        atomic_numbers: NDArray[np.uint8],
        frac_coords: NDArray[np.float64],
        offsets: NDArray[np.int64],
    ) -> NDArray[np.int32]: ...
    def decode(self, ids: NDArray[np.int32]) -> Patch: ...
    def show(self, ids: NDArray[np.int32]) -> list[str]: ...
    def check_rows(self, ids: NDArray[np.int32], offsets: NDArray[np.int64]) -> list[tuple[int, str]]: ...

@final
class Crystals:
    def __new__(
        cls, items: list[tuple[_Triple, NDArray[np.float64], list[int], NDArray[np.float64]]]
    ) -> Self: ...
    def __len__(self) -> int: ...

def encode_patches(
    tokenizer: Tokenizer,
    crystals: Crystals,
    density: NDArray[np.float32],
    places: NDArray[np.int64],
    tokens: NDArray[np.int32],
    values: NDArray[np.float32],
    *,
    guess: tuple[NDArray[np.float32], NDArray[np.int32]] | None = None,
) -> NDArray[np.int64]: ...
def annotate_rows(
    places: NDArray[np.int64],
    spans: NDArray[np.int64],
    weights: NDArray[np.float64],
    tokens: NDArray[np.int32],
    values: NDArray[np.float32],
    segments: NDArray[np.int32],
    positions: NDArray[np.int32],
    weight: NDArray[np.float32],
    *,
    guess: NDArray[np.int32] | None = None,
) -> None: ...
def ask_next_tokens(
    tokenizer: Tokenizer,
    tokens: NDArray[np.int32],
    targets: NDArray[np.int32],
    weight: NDArray[np.float32],
    values: NDArray[np.float32],
    segments: NDArray[np.int32],
    *,
    equal: bool,
    preamble: float,
) -> None: ...
def ask_masked(
    tokenizer: Tokenizer,
    tokens: NDArray[np.int32],
    targets: NDArray[np.int32],
    weight: NDArray[np.float32],
    segments: NDArray[np.int32],
    keys: NDArray[np.uint64],
    limits: NDArray[np.uint32],
    *,
    equal: bool,
    mask: int,
) -> None: ...
def ask_from_guess(
    tokenizer: Tokenizer,
    tokens: NDArray[np.int32],
    targets: NDArray[np.int32],
    weight: NDArray[np.float32],
    guess: NDArray[np.int32],
    *,
    equal: bool,
) -> None: ...
def random_bits(keys: NDArray[np.uint64], n: int) -> NDArray[np.uint32]: ...
def keys_of(key: int, numbers: NDArray[np.int64]) -> NDArray[np.uint64]: ...
def permute(positions: NDArray[np.int64], n: int, keys: list[int]) -> NDArray[np.int64]: ...
def inspect(
    tokenizer: Tokenizer,
    crystals: Crystals,
    density: NDArray[np.float32],
    extents: NDArray[np.float64],
    *,
    max_clipped: float,
    max_negative: float,
) -> list[
    tuple[tuple[str, str] | None, tuple[int, float, float, float, float, tuple[int, int, int]] | None]
]: ...

@final
class Patch:
    @property
    def grid_shape(self) -> _Triple: ...
    @property
    def lattice(self) -> NDArray[np.float64] | None: ...
    @property
    def atomic_numbers(self) -> NDArray[np.int32]: ...
    @property
    def frac_coords(self) -> NDArray[np.float64]: ...
    @property
    def patch_shape(self) -> _Triple: ...
    @property
    def offset(self) -> _Triple | None: ...
    @property
    def density(self) -> NDArray[np.float64]: ...

def sample_offsets(
    name: str,
    replacement: bool,
    grid_shape: _Triple,
    patch_shape: _Triple,
    density: NDArray[np.float32] | None,
    n: int,
    *,
    seed: int,
    task_id: str,
    epoch: int,
) -> NDArray[np.int32]: ...
def tiling(grid_shape: _Triple, patch_shape: _Triple) -> tuple[int, int]: ...
def coverage_histogram(
    grid_shape: _Triple, patch_shape: _Triple, offsets: NDArray[np.int64]
) -> NDArray[np.int64]: ...
def cell_volume(matrix: NDArray[np.float64]) -> float: ...

@final
class Promolecule:
    @staticmethod
    def splines(
        cutoff: float, inner: float, atomic_numbers: list[int], coefficients: NDArray[np.float64]
    ) -> Promolecule: ...
    @staticmethod
    def analytic(form: str, electrons: dict[int, float]) -> Promolecule: ...
    def or_else(self, other: Promolecule) -> Promolecule: ...
    def evaluate(
        self,
        lattice: NDArray[np.float64],
        atomic_numbers: list[int],
        frac_coords: NDArray[np.float64],
        grid_shape: _Triple,
        *,
        electrons: float | None,
        clip: bool,
    ) -> NDArray[np.float64]: ...
    def evaluate_patch(
        self,
        lattice: NDArray[np.float64],
        atomic_numbers: list[int],
        frac_coords: NDArray[np.float64],
        grid_shape: _Triple,
        offset: _Triple,
        patch_shape: _Triple,
    ) -> NDArray[np.float64]: ...
    def radial(self, atomic_number: int, distances: NDArray[np.float64]) -> NDArray[np.float64]: ...
    @property
    def electrons(self) -> dict[int, float]: ...

def valence_electrons(atomic_number: int) -> int: ...

@final
class EnvironmentBasis:
    def __new__(
        cls, cutoff: float, inner: float, radial: int, l_max: int, core: float, reach: float = 1.0
    ) -> Self: ...
    def by_site(
        self,
        lattice: NDArray[np.float64],
        atomic_numbers: list[int],
        frac_coords: NDArray[np.float64],
        points: NDArray[np.float64],
        promolecule: Promolecule | None = None,
        factors: NDArray[np.float32] | None = None,
        scales: list[float] | None = None,
    ) -> NDArray[np.float32]: ...
    def contracted(
        self,
        lattice: NDArray[np.float64],
        atomic_numbers: list[int],
        frac_coords: NDArray[np.float64],
        points: NDArray[np.float64],
        weights: NDArray[np.float32],
        channels: list[int],
        promolecule: Promolecule | None = None,
        factors: NDArray[np.float32] | None = None,
        scales: list[float] | None = None,
    ) -> NDArray[np.float32]: ...

@final
class Readout:
    def __new__(
        cls,
        channels: list[int],
        fixed: list[str],
        mixing: list[NDArray[np.float32]],
        layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]],
    ) -> Self: ...
    def read(self, sums: NDArray[np.float32], guess: NDArray[np.float32]) -> NDArray[np.float32]: ...
    def around(
        self,
        basis: EnvironmentBasis,
        lattice: NDArray[np.float64],
        atomic_numbers: list[int],
        frac_coords: NDArray[np.float64],
        points: NDArray[np.float64],
        weights: NDArray[np.float32],
        channels: list[int],
        guess: NDArray[np.float32],
        promolecule: Promolecule | None = None,
        factors: NDArray[np.float32] | None = None,
        scales: list[float] | None = None,
    ) -> NDArray[np.float32]: ...

def quantiles(
    share: NDArray[np.float32],
    place: NDArray[np.float32],
    width: NDArray[np.float32],
    edges: NDArray[np.float32],
    of: NDArray[np.float32],
) -> NDArray[np.int32]: ...

@final
class NormalEquations:
    def __new__(cls, cutoff: float, inner: float, splines: int) -> Self: ...
    def add(
        self,
        density: NDArray[np.float32],
        unit: str,
        lattice: NDArray[np.float64],
        atomic_numbers: list[int],
        frac_coords: NDArray[np.float64],
        *,
        loss: str,
        floor: float,
        previous: tuple[list[int], NDArray[np.float64]] | None = None,
    ) -> None: ...
    def merge(self, other: NormalEquations) -> None: ...
    def solve(
        self, *, ridge: float, smooth: float, electrons: dict[int, float]
    ) -> tuple[list[int], NDArray[np.float64]]: ...
    @property
    def materials(self) -> int: ...
    @property
    def voxels(self) -> int: ...

@final
class RawMaterial:
    @property
    def task_id(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def density(self) -> NDArray[np.float32]: ...
    @property
    def lattice(self) -> NDArray[np.float64]: ...
    @property
    def atomic_numbers(self) -> NDArray[np.int32]: ...
    @property
    def frac_coords(self) -> NDArray[np.float64]: ...
    @property
    def source(self) -> dict[str, Any]: ...

def read(path: str) -> RawMaterial: ...
def read_bytes(data: bytes, source: str) -> RawMaterial: ...
def read_group(files: dict[str, bytes], source: str) -> RawMaterial: ...
def task_id(path: str) -> str: ...
def zarr_chunk(values: bytes, level: int) -> bytes: ...
def parse_structure(
    text: str, source: str
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.float64]]: ...

@final
class ShardRun:
    def __new__(
        cls,
        tokenizer: Tokenizer,
        entries: list[tuple[str, str]],
        reader: Callable[[int], dict[str, bytes] | bytes | None] | None,
        *,
        seed: int,
        epoch: int,
        patches: list[int],
        sampler: tuple[str, bool],
        draw: tuple[
            Callable[[str, _Triple, _Triple, NDArray[np.float32] | None, int], NDArray[np.int64]], bool
        ]
        | None,
        directory: str | PathLike[str],
        metadata: list[tuple[str, str]],
        encoding: str,
        compression_level: int,
        skip_errors: bool,
        max_clipped: float,
        max_negative: float,
        strict: bool,
        threads: int,
        identity: str,
        run_id: str = "0",
    ) -> Self: ...
    def run(self, plan: list[tuple[str, int, int]]) -> bool: ...
    def progress(self) -> list[tuple[str, int]]: ...
    def cancel(self) -> None: ...
