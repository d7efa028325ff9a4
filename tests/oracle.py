"""A slow reference of the token format, written from the format page and from nothing else.

One Python loop per thing, no shortcuts: it is there to be read beside the format page and to be compared with
the package. Scalars go through `math`, not NumPy, because the vectorised log10 of some processors differs in
the last bit from the C library's, and a bin edge may lie there.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]
Floats = NDArray[np.float64]

MAX_INT = 1023
N_ELEMENTS = 118
LENGTH_STEP = 0.05  # angstrom
ANGLE_STEP = 0.2  # degrees
DEFAULT_PAD_TO = 8192
DEFAULT_FALLBACK: tuple[Shape, ...] = ((18, 19, 19),)

SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm "
    "Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No "
    "Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og "
).split()

LEGACY_SPECIALS = (
    "[PAD] [BOS] [EOS] [ATOMS_START] [ATOMS_END] [POS_START] [POS_END] [GRID_START] [GRID_END] [SHAPE_START] "
    "[SHAPE_END] [OFFSET_START] [OFFSET_END] [HI_START] [HI_END] [DENS_START] [DENS_END] [NL]"
).split()
SPECIALS = {"legacy": LEGACY_SPECIALS, "lattice": [*LEGACY_SPECIALS, "[LATTICE_START]", "[LATTICE_END]"]}


class SequenceError(ValueError):
    """A token list that is not a sequence of its layout."""

    def __init__(self, block: str, position: int, problem: str) -> None:
        super().__init__(f"block {block}, position {position}: {problem}")


# --- codecs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Log:
    """Log-uniform codec, section 2.1."""

    log_min: float
    log_max: float
    bits: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return (2 * 2 ** self.bits[0], *(2**b for b in self.bits[1:]))

    @property
    def top(self) -> int:
        """The largest magnitude level, 2^B - 1."""
        return int(2 ** sum(self.bits)) - 1

    def level(self, v: float) -> int:
        """The magnitude level `n` of a value."""
        m = abs(v)
        if m < 1e-15:
            return 0
        clipped = min(max(math.log10(m) if m < math.inf else math.inf, self.log_min), self.log_max)
        return math.trunc((clipped - self.log_min) / (self.log_max - self.log_min) * self.top)

    def encode(self, v: float) -> tuple[int, ...]:
        n = self.level(v)
        parts = []
        for b in reversed(self.bits):
            parts.append(n % 2**b)
            n //= 2**b
        parts.reverse()
        if not v >= 0:
            parts[0] += 2 ** self.bits[0]
        return tuple(parts)

    def decode(self, parts: Sequence[int]) -> float:
        negative = parts[0] >= 2 ** self.bits[0]
        n = parts[0] % 2 ** self.bits[0]
        for b, part in zip(self.bits[1:], parts[1:], strict=True):
            n = n * 2**b + part
        value = math.pow(10.0, n / self.top * (self.log_max - self.log_min) + self.log_min) if n else 0.0
        return -value if negative else value


@dataclass(frozen=True)
class LloydMax:
    """Lloyd-Max codec, section 2.2. Both tuples hold float32 values."""

    boundaries: tuple[float, ...]
    recon_points: tuple[float, ...]
    clip_max: float
    clip_min: float = 0.0  # below zero in signed codecs, which the format page does not have

    @property
    def sizes(self) -> tuple[int, ...]:
        return (len(self.recon_points),)

    def encode(self, v: float) -> tuple[int, ...]:
        return (bisect.bisect_right(self.boundaries, min(max(v, self.clip_min), self.clip_max)),)

    def decode(self, parts: Sequence[int]) -> float:
        return self.recon_points[parts[0]]


Codec = Log | LloydMax

POSITION_CODEC = Log(-4.0, 0.0, (8, 8, 8))
LOG_BITS = {"tomol_3byte": (8, 8, 8), "two_token_9_12": (8, 12), "fp16_1token": (15,)}
NAMED_LOG_CODECS = {name: Log(-4.127, 4.967, bits) for name, bits in LOG_BITS.items()}


# --- vocabulary ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vocabulary:
    """Regions in order, section 3."""

    kind: str
    density: Codec
    specials: dict[str, int] = field(init=False)
    starts: dict[str, int] = field(init=False)
    total_size: int = field(init=False)

    def __post_init__(self) -> None:
        names = SPECIALS[self.kind]
        sizes = {
            "special": len(names),
            "atom": N_ELEMENTS,
            "int": MAX_INT + 1,
            "position": sum(POSITION_CODEC.sizes),
            "density": sum(self.density.sizes),
        }
        ends = list(itertools.accumulate(sizes.values()))
        object.__setattr__(self, "specials", {name: i for i, name in enumerate(names)})
        object.__setattr__(self, "starts", dict(zip(sizes, [0, *ends], strict=False)))
        object.__setattr__(self, "total_size", ends[-1])

    def name(self, token: int) -> str:
        """The printed form of a token id."""
        if not 0 <= token < self.total_size:
            raise IndexError(f"token {token} is outside 0 to {self.total_size - 1}")
        region = [r for r, start in self.starts.items() if start <= token][-1]
        n = token - self.starts[region]
        match region:
            case "special":
                return SPECIALS[self.kind][n]
            case "atom":
                return SYMBOLS[n]
            case "int":
                return str(n)
        return f"{region[0]}{n}"

    def word(self, region: str, codec: Codec, v: float) -> list[int]:
        """The tokens of one number in a codec region; each component has its own offset."""
        offsets = [0, *itertools.accumulate(codec.sizes)]
        return [self.starts[region] + o + part for o, part in zip(offsets, codec.encode(v), strict=False)]


# --- layouts ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """One row of the table in section 4."""

    vocabulary: str
    blocks: tuple[str, ...]
    patch_size: int
    patch_frame: bool  # positions relative to the patch origin


LAYOUTS = {
    "v1": Layout("legacy", ("GRID", "ATOMS", "POS", "SHAPE", "OFFSET", "HI", "DENS"), 14, False),
    "v2": Layout("legacy", ("GRID", "ATOMS", "POS", "SHAPE", "OFFSET", "HI", "DENS"), 14, False),
    "v2-lat": Layout(
        "lattice", ("GRID", "LATTICE", "ATOMS", "POS", "SHAPE", "OFFSET", "HI", "DENS"), 14, False
    ),
    "v3": Layout("lattice", ("GRID", "LATTICE", "ATOMS", "POS", "DENS"), 19, True),
}
FALLBACK_BLOCKS = ("GRID", "LATTICE", "ATOMS", "POS", "SHAPE", "DENS")


@dataclass(frozen=True)
class Patch:
    """What a row decodes to; the same attributes as the package's `Patch`."""

    grid_shape: Shape
    lattice: Floats | None
    atomic_numbers: list[int]
    frac_coords: Floats
    patch_shape: Shape
    offset: Shape | None
    density: Floats


def lattice_bins(lattice: Sequence[float]) -> list[int]:
    """Six ints; Python's `round` takes halves to even."""
    bins = [round(x / LENGTH_STEP) for x in lattice[:3]] + [round(x / ANGLE_STEP) for x in lattice[3:]]
    for x, b in zip(lattice, bins, strict=True):
        if not 0 <= b <= MAX_INT:
            raise ValueError(f"lattice parameter {x} needs bin {b}, outside 0 to {MAX_INT}")
    return bins


def lattice_parameters(matrix: Sequence[Sequence[float]]) -> list[float]:
    """a, b, c, alpha, beta, gamma of rows a, b, c; plain sums (Python's `sum` compensates)."""

    def dot(u: Sequence[float], v: Sequence[float]) -> float:
        return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]

    lengths = [math.sqrt(dot(row, row)) for row in matrix]
    angles = []
    for j, k in ((1, 2), (2, 0), (0, 1)):
        cosine = dot(matrix[j], matrix[k]) / (lengths[j] * lengths[k])
        angles.append(math.acos(min(max(cosine, -1.0), 1.0)) * 180.0 / math.pi)
    return [*lengths, *angles]


@dataclass(frozen=True)
class Tokenizer:
    """Encode and decode of whole rows, section 4."""

    layout: str
    codec: Codec
    patch_size: int | None = None
    pad_to: int = DEFAULT_PAD_TO
    fallback_shapes: tuple[Shape, ...] = DEFAULT_FALLBACK

    @property
    def row(self) -> Layout:
        return LAYOUTS[self.layout]

    @property
    def cube(self) -> Shape:
        p = self.patch_size or self.row.patch_size
        return (p, p, p)

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.row.vocabulary, self.codec)

    def blocks(self, shape: Shape) -> tuple[str, ...]:
        return FALLBACK_BLOCKS if self.layout == "v3" and shape != self.cube else self.row.blocks

    def length(self, n_atoms: int, shape: Shape) -> int:
        content = {"GRID": 3, "LATTICE": 6, "SHAPE": 3, "OFFSET": 3, "HI": 3}
        content |= {"ATOMS": n_atoms, "POS": 9 * n_atoms}
        content["DENS"] = math.prod(shape) * len(self.codec.sizes)
        return 2 + sum(2 + content[block] for block in self.blocks(shape))

    def shape_for(self, n_atoms: int) -> Shape:
        for shape in (self.cube, *self.fallback_shapes):
            if self.length(n_atoms, shape) <= self.pad_to:
                return shape
        raise ValueError(f"no patch shape fits {n_atoms} atoms into {self.pad_to} tokens")

    def encode(
        self,
        density: NDArray[np.floating],
        lattice: Sequence[float],
        atomic_numbers: Sequence[int],
        frac_coords: Sequence[Sequence[float]],
        offset: Shape,
        *,
        padded: bool = True,
    ) -> list[int]:
        """One patch as tokens; `offset` lies inside the grid."""
        grid = density.shape
        shape = self.shape_for(len(atomic_numbers))
        v = self.vocabulary

        def ints(values: Iterable[int]) -> list[int]:
            return [v.starts["int"] + x for x in values]

        tokens = [v.specials["[BOS]"]]
        for block in self.blocks(shape):
            tokens.append(v.specials[f"[{block}_START]"])
            match block:
                case "GRID":
                    tokens += ints(grid)
                case "LATTICE":
                    tokens += ints(lattice_bins(lattice))
                case "ATOMS":
                    tokens += [v.starts["atom"] + z - 1 for z in atomic_numbers]
                case "POS":
                    for atom in frac_coords:
                        for x, o, n in zip(atom, offset, grid, strict=True):
                            f = x % 1.0
                            f = (f - o / n) % 1.0 if self.row.patch_frame else f
                            tokens += v.word("position", POSITION_CODEC, f)
                case "SHAPE":
                    tokens += ints(shape)
                case "OFFSET":
                    tokens += ints(offset)
                case "HI":
                    tokens += ints((o + s - 1) % n for o, s, n in zip(offset, shape, grid, strict=True))
                case "DENS":
                    for i, j, k in itertools.product(*map(range, shape)):
                        at = tuple((o + d) % n for o, d, n in zip(offset, (i, j, k), grid, strict=True))
                        tokens += v.word("density", self.codec, float(density[at]))
            tokens.append(v.specials[f"[{block}_END]"])
        tokens.append(v.specials["[EOS]"])
        return tokens + [v.specials["[PAD]"]] * (self.pad_to - len(tokens) if padded else 0)

    def decode(self, ids: Sequence[int]) -> Patch:
        """Strict decode: every block, count, region and the tail are checked."""
        return _Reader(self, [int(i) for i in ids]).read()


class _Reader:
    """Walks one token list from the left."""

    def __init__(self, tokenizer: Tokenizer, ids: list[int]) -> None:
        self.t, self.v, self.ids, self.at = tokenizer, tokenizer.vocabulary, ids, 0

    def special(self, block: str, name: str) -> None:
        if self.at >= len(self.ids) or self.ids[self.at] != self.v.specials[name]:
            raise SequenceError(block, self.at, f"{name} expected")
        self.at += 1

    def content(self, block: str) -> list[int]:
        """The tokens of a block, its two specials consumed."""
        self.special(block, f"[{block}_START]")
        first, end = self.at, self.v.specials[f"[{block}_END]"]
        while self.at < len(self.ids) and self.ids[self.at] != end:
            self.at += 1
        self.special(block, f"[{block}_END]")
        return self.ids[first : self.at - 1]

    def region(self, block: str, tokens: list[int], starts: Iterator[tuple[int, int]]) -> list[int]:
        """Token ids as numbers within the (start, size) each must lie in."""
        out = []
        for i, (token, (start, size)) in enumerate(zip(tokens, starts, strict=False)):
            if not start <= token < start + size:
                position = self.at - 1 - len(tokens) + i
                raise SequenceError(block, position, f"id {token} is outside {start} to {start + size - 1}")
            out.append(token - start)
        return out

    def ints(self, block: str, count: int) -> list[int]:
        tokens = self.content(block)
        if len(tokens) != count:
            raise SequenceError(block, self.at, f"{len(tokens)} ints, {count} expected")
        return self.region(block, tokens, itertools.repeat((self.v.starts["int"], MAX_INT + 1)))

    def triple(self, block: str) -> Shape:
        x, y, z = self.ints(block, 3)
        return (x, y, z)

    def words(self, block: str, region: str, codec: Codec, count: int) -> list[float]:
        tokens, k = self.content(block), len(codec.sizes)
        if len(tokens) != count * k:
            raise SequenceError(block, self.at, f"{len(tokens)} tokens, {count * k} expected")
        firsts = itertools.accumulate([self.v.starts[region], *codec.sizes[:-1]])
        parts = self.region(block, tokens, itertools.cycle(list(zip(firsts, codec.sizes, strict=True))))
        return [codec.decode(parts[i : i + k]) for i in range(0, len(parts), k)]

    def read(self) -> Patch:
        layout, v = self.t.row, self.v
        self.special("BOS", "[BOS]")
        grid = self.triple("GRID")
        if 0 in grid:
            raise SequenceError("GRID", self.at, f"grid {grid} has an empty axis")
        lattice = None
        if "LATTICE" in layout.blocks:
            bins = self.ints("LATTICE", 6)
            lattice = np.array([b * LENGTH_STEP for b in bins[:3]] + [b * ANGLE_STEP for b in bins[3:]])
        atoms = self.content("ATOMS")
        if not atoms:
            raise SequenceError("ATOMS", self.at, "no atoms")
        numbers = [
            n + 1 for n in self.region("ATOMS", atoms, itertools.repeat((v.starts["atom"], N_ELEMENTS)))
        ]
        frac = np.array(self.words("POS", "position", POSITION_CODEC, 3 * len(atoms))).reshape(-1, 3)
        shape, offset = self.t.cube, None
        here = self.ids[self.at] if self.at < len(self.ids) else None
        if "SHAPE" in layout.blocks or here == v.specials["[SHAPE_START]"]:
            shape = self.triple("SHAPE")
            if 0 in shape:
                raise SequenceError("SHAPE", self.at, f"shape {shape} is empty")
        if "OFFSET" in layout.blocks:
            offset = self.triple("OFFSET")
            if any(o >= n for o, n in zip(offset, grid, strict=True)):
                raise SequenceError("OFFSET", self.at, f"offset {offset} lies outside the grid {grid}")
            hi = self.triple("HI")
            if any(h != (o + s - 1) % n for h, o, s, n in zip(hi, offset, shape, grid, strict=True)):
                problem = f"{hi} contradicts GRID {grid}, OFFSET {offset}, SHAPE {shape}"
                raise SequenceError("HI", self.at, problem)
        values = np.array(self.words("DENS", "density", self.t.codec, math.prod(shape)), dtype=np.float64)
        self.special("EOS", "[EOS]")
        while self.at < len(self.ids):
            self.special("PAD", "[PAD]")
        return Patch(grid, lattice, numbers, frac, shape, offset, values.reshape(shape))


# --- sampling -----------------------------------------------------------------------------------------------


def sample_offsets(grid: Shape, n: int, *, seed: int, task_id: str, epoch: int = 0) -> NDArray[np.int32]:
    """Uniform origins; patch `i` depends on (seed, epoch, i, task_id) and on nothing else."""
    rows = []
    for i in range(n):
        message = b"tomat.uniform.1\0"
        message += b"".join(x.to_bytes(8, "little") for x in (seed, epoch, i)) + task_id.encode()
        digest = hashlib.sha256(message).digest()
        draws = [int.from_bytes(digest[8 * axis : 8 * axis + 8], "little") for axis in range(3)]
        rows.append([(u * points) >> 64 for u, points in zip(draws, grid, strict=True)])
    return np.array(rows, dtype=np.int32).reshape(n, 3)


def coverage_histogram(grid: Shape, patch: Shape, offsets: Iterable[Sequence[int]]) -> NDArray[np.int64]:
    """`h[k]` grid voxels are covered exactly `k` times, repeats inside a wrapping patch included."""
    count = np.zeros(grid, dtype=np.int64)
    for offset in offsets:
        for d in itertools.product(*map(range, patch)):
            at = tuple((int(o) + i) % n for o, i, n in zip(offset, d, grid, strict=True))
            count[at] += 1
    return np.bincount(count.ravel())
