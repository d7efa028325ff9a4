"""Relative codecs: bins of the difference from a starting density, in units that grow with it.

``x = (rho - g) / s(g)`` with ``s(g) = offset + scale_factor * sqrt(max(g, 0))``, all densities in electrons per cubic
angstrom. Where the starting density ``g`` is close, a few hundred bins of ``x`` lose less than thousands of bins of
``rho``; an error in ``x`` costs ``s(g)`` as much in ``rho``. One level is exactly zero: the starting density itself.

Values alone mean nothing here, so that every method takes the starting density, and refuses to work without it. Rows
of tokens do not hold one: :class:`tomat.PatchTokenizer` refuses these codecs.

A file is a NumPy ``.npz``, its name ending in ``.rel.npz``, with ``levels`` (float32, n), ``inner_edges`` (float32,
n - 1), ``ends``, ``offset`` and ``scale_factor`` (float64), and ``about``, as for Lloyd-Max codecs with two digests.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, override

import numpy as np

from tomat._npz import (
    DIGEST,
    Npz,
    about_bytes,
    bundled_file,
    bundled_names,
    check_digest,
    check_hash,
    npz_bytes,
)
from tomat.codec.base import Codec
from tomat.storage.files import open_bytes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tomat.material import Unit

_SHAPES = {"levels": 1, "inner_edges": 1, "ends": 1, "offset": 0, "scale_factor": 0}
_NUMBERS = {"levels": "<f4", "inner_edges": "<f4", "ends": "<f8", "offset": "<f8", "scale_factor": "<f8"}
#: Largest total size of the members in bytes; a codec of 1,024 levels takes 9 kB.
_LARGEST = 1 << 24
#: Version of written files; all versions up to it can be read.
FORMAT_VERSION = 1


class RelativeCodec(Codec):
    """Fitted bins of ``(rho - g) / s(g)``, one token per voxel.

    Args:
        levels: (n,) what bins decode to, in units of ``s(g)``; float32 numbers, ascending, one of them exactly 0.
        inner_edges: (n - 1,) the edges between them, in float32.
        ends: lowest and highest value told apart; values beyond are put in the outermost bins.
        offset: of ``s(g) = offset + scale_factor * sqrt(max(g, 0))``, in electrons per cubic angstrom.
        scale_factor: of the same, in the square root of that unit.
        about: how it was made; stored in the file.

    Raises:
        ValueError: lengths that do not fit, numbers that do not ascend or are not finite, no level at zero, a scale
            that is not positive.
    """

    kind = "relative"
    suffix = ".rel.npz"
    needs_guess: ClassVar[bool] = True
    name: str = "relative"
    #: (n,) float64, ascending.
    levels: NDArray[np.float64]
    #: (n + 1,) float64: the inner edges between the two ends.
    edges: NDArray[np.float64]
    offset: float
    scale_factor: float
    about: dict[str, Any]
    #: Id of the level that is exactly zero.
    zero: int

    def __new__(
        cls,
        levels: ArrayLike,
        inner_edges: ArrayLike,
        ends: ArrayLike,
        *,
        offset: float,
        scale_factor: float,
        about: dict[str, Any] | None = None,
    ) -> Self:
        """Check the arrays and build the lookup table."""
        points = np.array(levels, dtype=np.float32).reshape(-1)
        inner = np.array(inner_edges, dtype=np.float32).reshape(-1)
        low, high = np.array(ends, dtype=np.float64).reshape(-1)
        _check(points, inner, float(low), float(high))
        if not (np.isfinite([offset, scale_factor]).all() and offset > 0.0 and scale_factor >= 0.0):
            raise ValueError(f"offset {offset} and scale_factor {scale_factor}: give offset > 0 and >= 0")
        given: dict[str, Any] = {
            "boundaries": inner,
            "recon_points": points,
            "clip_max": float(high),
            "clip_min": float(low),
            "unit": "e_per_A3",
        }
        codec = super().__new__(cls, "lmq", given)
        codec.levels = points.astype(np.float64)
        codec.edges = np.concatenate([[low], inner.astype(np.float64), [high]])
        codec.levels.flags.writeable = codec.edges.flags.writeable = False
        codec.offset, codec.scale_factor = float(offset), float(scale_factor)
        codec.zero = int(np.flatnonzero(points == 0.0)[0])
        codec.about = dict(about or {})
        return codec

    @override
    @classmethod
    def knows(cls, name: str) -> bool:
        return name.endswith(cls.suffix) or name in bundled_relative_codecs()

    @override
    @classmethod
    def load(cls, name: str | Path) -> Self:
        """A codec by bundled name (``rel-256``), path or URL.

        Raises:
            KeyError: neither a bundled name nor a path.
            FileNotFoundError: no such file.
            ValueError: not a file of a relative codec, or its content does not match its digests.
        """
        text = str(name)
        bundled = bundled_file("codecs", f"{text}{cls.suffix}")
        if "/" not in text and bundled.is_file():
            codec = cls._from_npz(bundled.read_bytes(), text)
        elif "/" in text or "." in text or Path(text).exists():
            codec = cls._from_npz(open_bytes(text), text)
        else:
            raise KeyError(f"unknown relative codec {text!r}; known: {', '.join(bundled_relative_codecs())}")
        codec.name = Path(text).name.removesuffix(cls.suffix)
        return codec

    @classmethod
    def _from_npz(cls, data: bytes, source: str) -> Self:
        try:
            members, about = _read_npz(data)
            stated = about.pop("hash")
            codec = cls(
                members["levels"],
                members["inner_edges"],
                members["ends"],
                offset=float(members["offset"]),
                scale_factor=float(members["scale_factor"]),
                about=about,
            )
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{source}: not a file of a relative codec: {error}") from error
        check_hash(stated, codec.hash, source)
        return codec

    @override
    def to_bytes(self) -> bytes:
        """The content of the ``.rel.npz`` file."""
        members = self._members()
        about = {**self.about, "format_version": FORMAT_VERSION, "hash": self.hash}
        return npz_bytes(members | {"about": about_bytes(members, about)})

    def _members(self) -> dict[str, NDArray[Any]]:
        values: dict[str, Any] = {
            "levels": self.levels,
            "inner_edges": self.edges[1:-1],
            "ends": self.edges[[0, -1]],
            "offset": self.offset,
            "scale_factor": self.scale_factor,
        }
        return {name: np.asarray(values[name], dtype=kind) for name, kind in _NUMBERS.items()}

    @override
    @property
    def hash(self) -> str:
        """SHA-256, in hexadecimal, of all numbers that encoding and decoding depend on."""
        hasher = hashlib.sha256(b"tomat relative codec 1\n")
        for name, array in self._members().items():
            hasher.update(f"{name} {array.size}\n".encode() + array.tobytes())
        return hasher.hexdigest()

    @override
    @property
    def unit(self) -> Unit:
        """``e_per_A3``."""
        return "e_per_A3"

    @override
    @property
    def guess(self) -> str | None:
        stated = self.about.get("guess")
        return stated if isinstance(stated, str) else None

    @override
    @property
    def meta(self) -> dict[str, Any]:
        size = {"n_bins": self.sizes[0], "unit": self.unit}
        return {"kind": self.kind, **size, "offset": self.offset, "scale_factor": self.scale_factor}

    @override
    @property
    def facts(self) -> dict[str, Any]:
        scale = f"{self.offset:g} + {self.scale_factor:g} sqrt(g)"
        shown = {"unit": self.unit, "range": f"g + ({self.edges[0]:.4g} to {self.edges[-1]:.4g}) s(g)"}
        return {**shown, "method": self.kind, "s(g)": scale, **self.about}

    def scale(self, guess: ArrayLike) -> NDArray[np.float64]:
        """``s(g)`` of a starting density of any shape, float64, in electrons per cubic angstrom.

        Raises:
            ValueError: a value that is not finite.
        """
        density = np.asarray(guess, dtype=np.float64)
        if not np.isfinite(density).all():
            raise ValueError(f"codec {self.name}: the starting density holds values that are not finite")
        return self.offset + self.scale_factor * np.sqrt(np.maximum(density, 0.0))

    def relative(self, values: ArrayLike, guess: ArrayLike | None) -> NDArray[np.float64]:
        """``(values - guess) / s(guess)``, float64, of the shape of both.

        Raises:
            ValueError: no starting density, one of another shape, or one that is not finite.
        """
        density = self._given(guess, np.shape(values))
        return (np.asarray(values, dtype=np.float64) - density) / self.scale(density)

    @override
    def encode(self, values: ArrayLike, guess: ArrayLike | None = None) -> NDArray[np.int32]:
        """Ids, int32, of densities in electrons per cubic angstrom, both of the shape of ``guess``.

        Raises:
            ValueError: no starting density, one of another shape or not finite, or a value that is NaN.
        """
        x = self.relative(values, guess)
        return super().encode(x.ravel())[:, 0].reshape(x.shape)

    @override
    def decode(self, components: ArrayLike, guess: ArrayLike | None = None) -> NDArray[np.float64]:
        """Densities, float64, of ids: ``guess + s(guess) * levels[ids]``, of the shape of both.

        Raises:
            IndexError: an id outside its range.
            ValueError: no starting density, one of another shape or not finite.
        """
        density = self._given(guess, np.shape(components))
        levels = super().decode(np.asarray(components).reshape(-1, 1)).reshape(density.shape)
        return density + self.scale(density) * levels

    @override
    def roundtrip(self, values: ArrayLike, guess: ArrayLike | None = None) -> NDArray[np.float64]:
        return self.decode(self.encode(values, guess), guess)

    @override
    def clips(self, values: ArrayLike, guess: ArrayLike | None = None) -> NDArray[np.bool_]:
        x = self.relative(values, guess)
        return np.asarray((x < self.edges[0]) | (x > self.edges[-1]), np.bool_)

    @override
    def clipping(self, values: ArrayLike) -> tuple[int, float, float, float, float, int] | None:
        raise self._no_guess()

    @override
    def bins(self) -> tuple[NDArray[np.float64], NDArray[np.int32] | None]:
        """:attr:`edges`, which are bins of ``(rho - g) / s(g)``, not of densities."""
        return self.edges, None

    @override
    def outside_bin(self, values: NDArray[np.float64], decoded: NDArray[np.float64]) -> int:
        raise self._no_guess()

    def _given(self, guess: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
        if guess is None:
            raise self._no_guess()
        density = np.asarray(guess, dtype=np.float64)
        if density.shape != shape:
            raise ValueError(
                f"codec {self.name}: values of shape {shape} with a starting density of shape {density.shape}; give "
                "both at the same points"
            )
        return density

    def _no_guess(self) -> ValueError:
        return ValueError(
            f"codec {self.name} is relative to a starting density, and none was given; give the starting density in "
            "electrons per cubic angstrom at the same points, or take a codec of densities (tomat codec list)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.to_bytes(), self.name)

    def __repr__(self) -> str:
        return (
            f"RelativeCodec({self.sizes[0]} levels from {self.levels[0]:.4g} to {self.levels[-1]:.4g}, "
            f"offset={self.offset:g}, scale_factor={self.scale_factor:g})"
        )


def bundled_relative_codecs() -> list[str]:
    """Names of the bundled relative codecs, by size."""

    def size(name: str) -> int:
        number = name.rpartition("-")[2]
        return int(number.removesuffix("k")) * (1024 if number.endswith("k") else 1)

    return sorted(bundled_names("codecs", RelativeCodec.suffix), key=size)


def _rebuild(data: bytes, name: str) -> RelativeCodec:
    codec = RelativeCodec._from_npz(data, name)
    codec.name = name
    return codec


def _check(levels: NDArray[np.float32], inner: NDArray[np.float32], low: float, high: float) -> None:
    if len(levels) < 3 or len(inner) != len(levels) - 1:
        raise ValueError(
            f"{len(levels)} levels with {len(inner)} inner edges; give three levels or more, and an edge between two"
        )
    if not (np.isfinite(levels).all() and np.isfinite(inner).all() and np.isfinite([low, high]).all()):
        raise ValueError("levels, edges or ends are not finite")
    if np.count_nonzero(levels == 0.0) != 1:
        raise ValueError("no level, or more than one, is exactly zero")
    if not ((levels[:-1] < inner).all() and (inner <= levels[1:]).all()):
        raise ValueError("levels and edges do not ascend in turn: each edge lies between two levels")
    if not (low < inner[0] and inner[-1] < high):
        raise ValueError(f"the ends {low:g} and {high:g} do not lie outside the inner edges")


def _read_npz(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    archive = Npz(data, _LARGEST)
    missing = [name for name in (*_SHAPES, "about") if name not in archive]
    if missing:
        raise ValueError(f"no member {', '.join(missing)}")
    members = {name: archive[name] for name in _SHAPES}
    for name, array in members.items():
        if array.ndim != _SHAPES[name] or array.dtype != _NUMBERS[name]:
            raise ValueError(f"member {name} is {array.dtype} of {array.ndim} axes, not {_NUMBERS[name]}")
    if members["ends"].shape != (2,):
        raise ValueError("member ends is not two numbers")
    about: Any = json.loads(archive["about"].tobytes())
    if not isinstance(about, dict) or not {DIGEST, "hash", "format_version"} <= about.keys():
        raise ValueError(f"member about lacks format_version, hash or {DIGEST}; fetch it again")
    version = about["format_version"]
    if version not in range(1, FORMAT_VERSION + 1):
        raise ValueError(f"version {version}; this tomat reads versions up to {FORMAT_VERSION}, update it")
    check_digest(archive, about)
    return members, {key: value for key, value in about.items() if key not in (DIGEST, "format_version")}
