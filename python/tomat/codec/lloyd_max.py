"""Lloyd-Max codecs: fitted bins.

A codec file is a NumPy ``.npz`` with ``boundaries`` (float32, n - 1), ``recon_points`` (float32, n) and ``clip_max``.
Files written by tomat also hold ``unit``, ``about`` (JSON: how it was fitted), ``clip_min`` for a signed codec, and for
a fitted one its other reconstruction points: ``recon_points_mean`` if ``recon_points`` are medians, else
``recon_points_median`` (see ``about["points"]``). ``about`` has two digests: ``hash``, of everything that decoding
depends on, and ``content_sha256``, of all members and ``about`` itself. Nothing is ever unpickled; other members of old
files are ignored.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Self, override

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomat._npz import (
    DIGEST,
    Npz,
    PickledError,
    about_bytes,
    bundled_file,
    bundled_names,
    check_digest,
    check_hash,
    npz_bytes,
)
from tomat.codec.base import Codec
from tomat.material import Unit
from tomat.storage.files import open_bytes

_REQUIRED = ("boundaries", "recon_points", "clip_max")
_OPTIONAL = ("clip_min", "recon_points_mean", "recon_points_median")
#: Largest total size of the members in bytes; a codec of 65,536 bins takes 1 MB.
_LARGEST = 1 << 26
#: Version of written files; all versions up to it can be read.
FORMAT_VERSION = 1
#: Bundled names that are another codec.
ALIASES = {"lmq-16k": "l1-16k"}


class LloydMaxCodec(Codec):
    """Fitted bins, one token per voxel.

    A value is clipped to ``[clip_min, clip_max]``; its bin is the number of boundaries at or below it; a bin decodes to
    its reconstruction point.

    Args:
        boundaries: (n - 1,) float32, strictly ascending.
        recon_points: (n,) float32.
        clip_max: upper end of the range.
        unit: of the densities it was fitted to, ``chgcar`` (rho * V_cell, electrons) or ``e_per_A3`` (electrons per
            cubic angstrom).
        clip_min: lower end of the range: 0, or negative for a signed codec.
        about: how it was made; stored in the file.
        recon_points_mean: (n,) float32, the mean of the values in each bin, if known.
        recon_points_median: (n,) float32, their median, if known.

    Raises:
        ValueError: lengths that do not fit, boundaries that do not ascend, numbers that are not finite, an unknown
            unit.
    """

    kind = "lmq"
    suffix = ".npz"
    name: str = "lmq"
    boundaries: NDArray[np.float32]
    recon_points: NDArray[np.float32]
    clip_min: float
    clip_max: float
    about: dict[str, Any]
    recon_points_mean: NDArray[np.float32] | None
    recon_points_median: NDArray[np.float32] | None

    def __new__(
        cls,
        boundaries: ArrayLike,
        recon_points: ArrayLike,
        clip_max: float,
        *,
        unit: str = "chgcar",
        clip_min: float = 0.0,
        about: dict[str, Any] | None = None,
        recon_points_mean: ArrayLike | None = None,
        recon_points_median: ArrayLike | None = None,
    ) -> Self:
        """Check the arrays and build the lookup tables."""
        given: dict[str, Any] = {
            "boundaries": np.array(boundaries, dtype=np.float32).reshape(-1),
            "recon_points": np.array(recon_points, dtype=np.float32).reshape(-1),
            "clip_max": float(clip_max),
            "clip_min": float(clip_min),
            "unit": unit,
        }
        codec = super().__new__(cls, "lmq", given)
        codec.boundaries, codec.recon_points = given["boundaries"], given["recon_points"]
        # The core has its own copy.
        codec.boundaries.flags.writeable = codec.recon_points.flags.writeable = False
        codec.clip_min, codec.clip_max = given["clip_min"], given["clip_max"]
        codec.about = dict(about or {})
        n = codec.sizes[0]
        codec.recon_points_mean = _points("recon_points_mean", recon_points_mean, n)
        codec.recon_points_median = _points("recon_points_median", recon_points_median, n)
        return codec

    @override
    @property
    def unit(self) -> Unit:
        return self.unit_for()

    @override
    @classmethod
    def knows(cls, name: str) -> bool:
        return "/" in name or "." in name or name in bundled_codecs() or Path(name).exists()

    @override
    @classmethod
    def load(cls, name: str | Path) -> Self:
        text = str(name)
        bundled = bundled_file("codecs", f"{ALIASES.get(text, text)}.npz")
        if "/" not in text and bundled.is_file():
            codec = cls._from_npz(bundled.read_bytes(), text)
            codec.name = text
            return codec
        if not cls.knows(text):
            raise KeyError(f"unknown codec {text!r}; known: {', '.join(bundled_codecs())}")
        codec = cls._from_npz(open_bytes(text), text)
        codec.name = Path(text).stem
        return codec

    @classmethod
    def _from_npz(cls, data: bytes, source: str) -> Self:
        members, about = _read_npz(data, source)
        unit = str(about.pop("unit", "chgcar"))
        stated = about.get("hash")
        try:
            clip_max = float(members["clip_max"].reshape(()))
            codec = cls(
                members["boundaries"],
                members["recon_points"],
                clip_max,
                unit=unit,
                clip_min=float(members["clip_min"].reshape(())) if "clip_min" in members else 0.0,
                about=about,
                recon_points_mean=members.get("recon_points_mean"),
                recon_points_median=members.get("recon_points_median"),
            )
            if about.get("points") == "mean":
                codec.recon_points_mean = codec.recon_points
            if about.get("points") == "median":
                codec.recon_points_median = codec.recon_points
        except (ValueError, KeyError) as error:
            raise ValueError(f"{source}: not a codec file: {error}") from error
        if stated is not None:
            check_hash(stated, codec.hash, source)
        return codec

    @override
    def to_bytes(self) -> bytes:
        about = {**self.about, "format_version": FORMAT_VERSION, "hash": self.hash}
        members: dict[str, Any] = {
            "boundaries": self.boundaries,
            "recon_points": self.recon_points,
            "clip_max": np.float64(self.clip_max),
        }
        if self.clip_min < 0.0:
            members["clip_min"] = np.float64(self.clip_min)
        for points in ("mean", "median"):
            array = getattr(self, f"recon_points_{points}")
            # Not those that recon_points hold already.
            if array is not None and about.get("points") != points:
                members[f"recon_points_{points}"] = array
        members["unit"] = np.frombuffer(self.unit.encode(), dtype=np.uint8)
        return npz_bytes(members | {"about": about_bytes(members, about)})

    @override
    @property
    def meta(self) -> dict[str, Any]:
        meta = {"kind": self.kind, "n_bins": self.sizes[0], "clip_max": self.clip_max, "unit": self.unit}
        return meta | ({"clip_min": self.clip_min} if self.clip_min < 0.0 else {})

    @override
    @property
    def facts(self) -> dict[str, Any]:
        made = {key: value for key, value in self.about.items() if key != "hash"}
        return {"unit": self.unit, "range": f"{self.clip_min:.4g} to {self.clip_max:.4g}", **made}

    @override
    def bins(self) -> tuple[NDArray[np.float64], NDArray[np.int32] | None]:
        inner = self.boundaries.astype(np.float64)
        low, high = min(self.clip_min, *inner[:1]), max(self.clip_max, *inner[-1:])
        return np.concatenate([[low], inner, [high]]), None

    @override
    def outside_bin(self, values: NDArray[np.float64], decoded: NDArray[np.float64]) -> int:
        clipped = np.clip(values, self.clip_min, self.clip_max)
        bins = np.searchsorted(self.boundaries.astype(np.float64), clipped, side="right")
        return int(np.count_nonzero(self.recon_points.astype(np.float64)[bins] != decoded))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.to_bytes(), self.name)

    def __repr__(self) -> str:
        below = f"clip_min={self.clip_min:g}, " if self.clip_min < 0.0 else ""
        return f"LloydMaxCodec({self.sizes[0]} bins, {below}clip_max={self.clip_max:g}, unit={self.unit!r})"


def bundled_codecs() -> list[str]:
    """Names of the bundled Lloyd-Max codecs with aliases, by size."""
    files = bundled_names("codecs")
    return sorted([*files, *(alias for alias, name in ALIASES.items() if name in files)], key=_by_size)


def _by_size(name: str) -> tuple[str, int, str]:
    """``l1-1k`` before ``l1-16k`` before ``l1-1k-e_per_A3`` before ``l1-1k-e_per_A3-1e4``."""
    method, _, rest = name.partition("-")
    size, _, unit_and_range = rest.partition("-")
    number = size.removesuffix("k")
    return (unit_and_range, int(number) if number.isdigit() else 0, method)


def _rebuild(data: bytes, name: str) -> LloydMaxCodec:
    codec = LloydMaxCodec._from_npz(data, name)
    codec.name = name
    return codec


def _points(name: str, values: ArrayLike | None, n: int) -> NDArray[np.float32] | None:
    if values is None:
        return None
    array = np.ascontiguousarray(values, dtype=np.float32)
    if array.shape != (n,) or not np.isfinite(array).all():
        raise ValueError(f"{name} have shape {array.shape}; give ({n},) finite numbers, one a bin")
    return array


def _read_npz(data: bytes, source: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    try:
        archive = Npz(data, _LARGEST)
    except ValueError as error:
        raise ValueError(f"{source}: not a codec file (.npz): {error}") from error
    missing = [name for name in _REQUIRED if name not in archive]
    if missing:
        raise ValueError(
            f"{source}: no member {', '.join(missing)}; a codec file holds {', '.join(_REQUIRED)}"
        )
    try:
        members = {name: archive[name] for name in _REQUIRED}
        for name in _OPTIONAL:
            # Old files may hold objects under such a name.
            with contextlib.suppress(KeyError, PickledError):
                members[name] = archive[name]
        about = _about(archive)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}: {error}") from error
    for name, array in members.items():
        if array.dtype.kind not in "fiu":
            raise ValueError(f"{source}: member {name} has dtype {array.dtype}, not numbers")
    return members, about


def _about(archive: Npz) -> dict[str, Any]:
    """The ``about`` record with the unit; in files written by tomat nothing may be missing."""
    about: Any = json.loads(archive["about"].tobytes()) if "about" in archive else {}
    if not isinstance(about, dict):
        raise ValueError("member about is not a JSON object")
    version = about.get("format_version", FORMAT_VERSION)
    if not isinstance(version, int) or version not in range(FORMAT_VERSION + 1):
        raise ValueError(
            f"a codec file of version {version}; this tomat reads versions up to {FORMAT_VERSION}, update it"
        )
    if about.keys() & {"format_version", "hash", DIGEST}:
        absent = [] if "unit" in archive else ["unit"]
        absent += [name for name in ("format_version", "hash") if name not in about]
        if absent:
            raise ValueError(
                f"no {', '.join(absent)} in it, which every file written by tomat has; fetch it again"
            )
    check_digest(archive, about)
    about.pop(DIGEST, None)
    about.pop("unit", None)
    if "unit" in archive:
        about["unit"] = archive["unit"].tobytes().decode()
    return about
