"""Hypothesis strategies for everything the tokenizer takes, in one place.

Large arrays come from a drawn seed instead of drawn elements: the interesting values are mixed in by hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import oracle
from oracle import Codec, LloydMax, Log, Shape

LARGEST_FLOAT32_BITS = 0x7F000000  # stay clear of infinity

SPECIAL_VALUES = (
    *(0.0, -0.0, 1e-15, 9.999999e-16, 1.0000001e-15, -1e-15, 1e-45, -1e-45, 1.1754942e-38, 1.1754944e-38),
    *(10**-4.127, 10**4.967, 1.0, -1.0, -27.0, 2000.0, 9e4, -9e4, 3.4e38, -3.4e38),
)
SPECIAL_COORDINATES = (
    *(0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 1 / 3, 2 / 3, -1e-17, 1e-17, 1e-16, 1e-15, 1e-5, 1e-4),
    *(0.99999999, 1.25, -0.25, 0.9999999999999999, 1e-300, 0.1, 0.2, 0.3),
)

seeds = st.integers(0, 2**32 - 1)


def grids(largest: int = 9) -> st.SearchStrategy[Shape]:
    """Grid shapes; small enough that patches of `shapes` often wrap more than once."""
    axis = st.integers(1, largest)
    return st.tuples(axis, axis, axis)


def shapes(largest: int = 7) -> st.SearchStrategy[Shape]:
    """Patch shapes, cubes and not."""
    return grids(largest)


def offsets_in(grid: Shape) -> st.SearchStrategy[Shape]:
    """Patch origins inside a grid."""
    nx, ny, nz = grid
    return st.tuples(st.integers(0, nx - 1), st.integers(0, ny - 1), st.integers(0, nz - 1))


# --- codecs -------------------------------------------------------------------------------------------------


@st.composite
def log_codecs(draw: st.DrawFn) -> Log:
    """The named ones and others of one to four components."""
    if draw(st.booleans()):
        return draw(st.sampled_from(list(oracle.NAMED_LOG_CODECS.values())))
    bits = draw(st.lists(st.integers(1, 8), min_size=1, max_size=4).filter(lambda b: sum(b) <= 24))
    log_min = draw(st.one_of(st.floats(-12.0, 2.0), st.floats(-20.0, -14.0)))
    return Log(log_min, log_min + draw(st.floats(0.5, 16.0)), tuple(bits))


def ascending_float32(n: int, start_bits: int, seed: int, widest_step: int) -> NDArray[np.float32]:
    """`n` strictly ascending float32, made on the integers behind them: a step of 1 is the next float."""
    room = (LARGEST_FLOAT32_BITS - start_bits) // n
    steps = np.random.default_rng(seed).integers(1, max(2, min(widest_step, room)), size=n)
    return np.asarray(start_bits + np.cumsum(steps) - 1, dtype=np.uint32).view(np.float32)


@st.composite
def lloyd_max_codecs(draw: st.DrawFn, largest: int = 3000) -> LloydMax:
    """Two bins to thousands; boundaries from denormals to 1e38, from far apart to neighbouring float32.

    Reconstruction points lie at the lower edge of their bin: a decoded value is in the bin it came from.
    """
    n = draw(st.one_of(st.integers(1, 4), st.integers(1, largest)))
    start = draw(st.one_of(st.integers(0, 4), st.integers(0, 0x3F800000)))
    widest = draw(st.sampled_from([2, 3, 50, 10_000, 2**22]))
    boundaries = ascending_float32(n, start, draw(seeds), widest)
    last = float(boundaries[-1])
    clip_max = draw(
        st.sampled_from([last, math.nextafter(last, math.inf), last * 1.5 + 1.0, last * 0.75 + 1e-30])
    )
    points = np.concatenate([np.zeros(1, dtype=np.float32), boundaries])
    return LloydMax(tuple(boundaries.tolist()), tuple(points.tolist()), max(clip_max, 1e-30))


def codecs() -> st.SearchStrategy[Codec]:
    """Density codecs of both kinds."""
    return st.one_of(log_codecs(), lloyd_max_codecs())


def edges(codec: Codec) -> NDArray[np.float64]:
    """Values on which an encoder can go wrong: bin edges and the floats next to each, as float64."""
    if isinstance(codec, LloydMax):
        at = np.asarray(codec.boundaries[:200] + codec.boundaries[-200:], dtype=np.float64)
        at = np.append(at, codec.clip_max)
    else:
        levels = np.unique(np.linspace(0, codec.top, 300).astype(np.int64))
        exponent = levels / codec.top * (codec.log_max - codec.log_min) + codec.log_min
        at = np.array([math.pow(10.0, float(e)) for e in exponent])
        at = np.concatenate([at, -at])
    return np.concatenate([at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf)])


# --- densities, atoms, lattices -----------------------------------------------------------------------------


def values(
    seed: int, n: int, dtype: type[np.floating[Any]], extra: NDArray[np.float64] | None = None
) -> NDArray[Any]:
    """`n` finite values: heavy-tailed, with zeros, negatives, denormals, huge values and `extra` in it."""
    rng = np.random.default_rng(seed)
    out = 10.0 ** rng.uniform(-6, 5, size=n)
    pool = np.concatenate([np.array(SPECIAL_VALUES), np.zeros(0) if extra is None else extra])
    special = rng.random(n) < 0.4
    out[special] = rng.choice(pool, size=int(special.sum()))
    out[rng.random(n) < 0.1] *= -1
    largest = float(np.finfo(np.float32).max)
    return np.asarray(np.clip(out, -largest, largest), dtype=dtype)


def densities(shape: Shape, extra: NDArray[np.float64] | None = None) -> st.SearchStrategy[NDArray[Any]]:
    """Densities of one shape, float32 or float64."""
    dtypes: list[type[np.floating[Any]]] = [np.float32, np.float64]
    return st.builds(
        lambda seed, dtype: values(seed, math.prod(shape), dtype, extra).reshape(shape),
        seeds,
        st.sampled_from(dtypes),
    )


def coordinates() -> st.SearchStrategy[float]:
    """Fractional coordinates, inside the cell and outside."""
    return st.one_of(st.sampled_from(SPECIAL_COORDINATES), st.floats(-3.0, 3.0))


def beside(x: float) -> st.SearchStrategy[float]:
    """`x` or one of the floats next to it: on a patch origin, the last bit decides between 0 and 1."""
    return st.sampled_from([x, math.nextafter(x, -math.inf), math.nextafter(x, math.inf), x + 1.0])


@st.composite
def atoms(draw: st.DrawFn, most: int = 6) -> tuple[list[int], list[list[float]]]:
    """Atomic numbers and as many fractional coordinates."""
    numbers = draw(st.lists(st.integers(1, 118), min_size=1, max_size=most))
    triple = st.lists(coordinates(), min_size=3, max_size=3)
    return numbers, draw(st.lists(triple, min_size=len(numbers), max_size=len(numbers)))


@st.composite
def lattices(draw: st.DrawFn) -> list[float]:
    """Six lattice parameters: free, on a half-bin tie, and of the common cells. Angles always span a cell."""
    if draw(st.integers(0, 3)) == 0:
        a = draw(st.floats(0.5, 50.0))
        angles = draw(
            st.sampled_from([[60.0] * 3, [90.0, 90.0, 120.0], [90.0] * 3, [59.999999999999986] * 3])
        )
        return [a, a, draw(st.floats(0.5, 50.0)), *angles]
    length = st.one_of(st.floats(0.5, 51.0), st.integers(10, 1020).map(lambda k: (k + 0.5) * 0.05))
    angle = st.one_of(st.floats(61.0, 119.0), st.integers(305, 594).map(lambda k: (k + 0.5) * 0.2))
    return [draw(s) for s in (length, length, length, angle, angle, angle)]


# --- whole cases --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One material, a tokenizer and the patches asked of it."""

    tokenizer: oracle.Tokenizer
    density: NDArray[Any]
    lattice: list[float]
    atomic_numbers: list[int]
    frac_coords: list[list[float]]
    offsets: list[Shape]

    @property
    def grid(self) -> Shape:
        nx, ny, nz = self.density.shape
        return (nx, ny, nz)

    def rows(self, *, padded: bool = True) -> list[list[int]]:
        """The oracle's rows."""
        material = (self.density, self.lattice, self.atomic_numbers, self.frac_coords)
        return [self.tokenizer.encode(*material, offset, padded=padded) for offset in self.offsets]


@st.composite
def tokenizers(draw: st.DrawFn, n_atoms: int, layout: str | None = None) -> oracle.Tokenizer:
    """A tokenizer whose rows hold `n_atoms`, often just so, and often only with a fallback shape."""
    layout = layout or draw(st.sampled_from(sorted(oracle.LAYOUTS)))
    codec = draw(codecs())
    size = draw(st.integers(1, 6))
    fallback = tuple(draw(st.lists(shapes(5).filter(lambda s: s != (size,) * 3), max_size=2)))
    wide = oracle.Tokenizer(layout, codec, size, 10**9, fallback)
    aim = draw(st.sampled_from([wide.cube, *fallback]))
    pad_to = wide.length(n_atoms, aim) + draw(st.sampled_from([0, 0, 1, 57]))
    return oracle.Tokenizer(layout, codec, size, pad_to, fallback)


@st.composite
def cases(draw: st.DrawFn, layout: str | None = None, most_offsets: int = 3) -> Case:
    """A whole encode call."""
    numbers, frac = draw(atoms())
    tokenizer = draw(tokenizers(len(numbers), layout))
    grid = draw(grids())
    offsets = draw(st.lists(offsets_in(grid), min_size=1, max_size=most_offsets))
    if draw(st.booleans()):
        frac[0] = [draw(beside(o / n)) for o, n in zip(offsets[0], grid, strict=True)]
    return Case(
        tokenizer=tokenizer,
        density=draw(densities(grid, edges(tokenizer.codec))),
        lattice=draw(lattices()),
        atomic_numbers=numbers,
        frac_coords=frac,
        offsets=offsets,
    )


@st.composite
def mutated(draw: st.DrawFn, row: list[int], total_size: int) -> list[int]:
    """A row with one to four faults: tokens changed, lost, doubled or swapped, a cut, a moved stretch."""
    row = list(row)
    specials = st.integers(0, 19)
    for _ in range(draw(st.integers(1, 4))):
        if not row:
            break
        i, j = sorted(draw(st.tuples(st.integers(0, len(row) - 1), st.integers(0, len(row) - 1))))
        token = draw(
            st.one_of(specials, st.integers(-2, total_size + 1), st.sampled_from([-(2**31), 2**31 - 1]))
        )
        near = max(-(2**31), min(2**31 - 1, row[i] + draw(st.sampled_from([-1, 1]))))
        match draw(st.sampled_from(["set", "near", "delete", "insert", "swap", "cut", "repeat", "move"])):
            case "set":
                row[i] = token
            case "near":
                row[i] = near
            case "delete":
                del row[i]
            case "insert":
                row.insert(i, token)
            case "swap":
                row[i], row[j] = row[j], row[i]
            case "cut":
                row = row[:i]
            case "repeat":
                row = row[:j] + row[i:]
            case "move":
                row = row[:i] + row[j:] + row[i:j]
    return row
