"""Codecs: a density value to token components and back, and the files they live in.

A codec file is a NumPy ``.npz`` with ``boundaries`` (float32, n - 1), ``recon_points`` (float32, n) and
``clip_max``; files made here also hold ``unit``, ``about`` (JSON: how it was fitted, and its content hash), for a
signed codec ``clip_min``, and for a fitted one the other points a bin can decode to: ``recon_points_mean`` where
``recon_points`` are medians, ``recon_points_median`` where they are means (``about["points"]`` says which).
Nothing is ever unpickled: other members of old files are left alone. Files made here carry two digests in ``about``:
``hash`` (what densities become) and ``content_sha256`` (every member and ``about`` itself).
"""

from __future__ import annotations

import contextlib
import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, override

import numpy as np

from tomat import _core
from tomat._npz import DIGEST, Npz, PickledError, about_bytes, check_digest, npz_bytes
from tomat._seal import check_seal, sealed
from tomat.storage.files import open_bytes, write_atomically

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tomat.material import Unit

    type Codec = LogCodec | LloydMaxCodec

__all__ = ["LOG_CODECS", "LloydMaxCodec", "LogCodec", "bundled_codecs", "load_codec"]

#: Log codecs of the format page, by name.
LOG_CODECS = ("two_token_9_12", "tomol_3byte", "fp16_1token")

#: Members every reader of codec files uses.
_REQUIRED = ("boundaries", "recon_points", "clip_max")
#: Members that may be there.
_OPTIONAL = ("clip_min", "recon_points_mean", "recon_points_median")
#: The largest sum of members a file may hold, in bytes; a codec of 65,536 bins takes 1 MB.
_LARGEST = 1 << 26
#: Bits of one component of a log codec, at most.
_MOST_BITS = 32
#: Version of what ``save`` writes; readers take all up to it.
FORMAT_VERSION = 1
#: Key of a log codec's file that holds its digest, and all that such a file may hold.
_SEAL = "sha256"
_LOG_KEYS = {"kind", "log_min", "log_max", "token_mag_bits", _SEAL}

#: Beside the bundled codecs: what each loses on unseen crystals, with the hash of the codec that was measured.
FLOORS = "floors.json"

#: Bundled names that stand for another file's codec.
ALIASES = {"lmq-16k": "l1-16k"}


class DensityCodec(_core.DensityCodec):
    """What both codecs can do: values to token components, and back."""

    name: str = "codec"

    @override
    def encode(self, values: ArrayLike) -> NDArray[np.int32]:
        """Components of ``values`` (n,), float32 or float64, as int32 (n, k); k is 1 for Lloyd-Max codecs.

        Raises:
            ValueError: a value is NaN.
        """
        return super().encode(_float_vector(values))

    @override
    def decode(self, components: ArrayLike) -> NDArray[np.float64]:
        """Values, float64 (n,), of components (n, k).

        Raises:
            IndexError: a component outside its range; the message names the row.
            ValueError: not k columns.
        """
        return super().decode(_component_matrix(components, len(self.sizes)))

    @override
    def unit_for(self, stated: str | None = None) -> Unit:
        """The unit of the values it encodes: its own, or for a log codec the one stated, ``chgcar`` where none is.

        Raises:
            KeyError: an unknown unit.
            ValueError: a unit that is not the codec's own.
        """
        try:
            unit = super().unit_for(stated)
        except ValueError as error:
            raise ValueError(f"codec {self.name} {error}") from error
        return "chgcar" if unit == "chgcar" else "e_per_A3"

    @override
    def clipping(self, values: ArrayLike) -> tuple[int, float, float, float, float, int] | None:
        """What of ``values`` (n,) lies beyond :attr:`range`; None where nothing does. :mod:`tomat.clipping` names it.

        Returns:
            The number of values, the sums of what they have above and below the range, the sum of ``|v|`` over all, the
            value that loses most, and its index.

        Raises:
            ValueError: a value is NaN.
        """
        return super().clipping(_float_vector(values))

    def roundtrip(self, values: ArrayLike) -> NDArray[np.float64]:
        """What ``values`` (any shape) come back as after encoding, float64.

        Raises:
            ValueError: a value is NaN.
        """
        array = np.asarray(values)
        return self.decode(self.encode(array.ravel())).reshape(array.shape)


class LogCodec(DensityCodec, _core.LogCodec):
    """Equal steps of log10|v| between ``log_min`` and ``log_max``, the sign on the first component.

    Args:
        log_min: lower end of the range of magnitudes, base 10; smaller ones clip to it.
        log_max: upper end, base 10.
        bits: magnitude bits of each component, most significant first. Component 0 takes ``2 * 2**bits[0]``
            values, component j ``2**bits[j]``.

    Raises:
        ValueError: an empty range, or bits that are none or too many (20 a component, 32 in all).
    """

    name: str = "log"

    def __new__(cls, log_min: float, log_max: float, bits: tuple[int, ...] | list[int]) -> Self:
        """Check the parameters and build the codec."""
        if any(not 0 <= n <= _MOST_BITS for n in bits):
            raise ValueError(f"bits {str(list(bits))[:60]} of a log codec must be 0 to {_MOST_BITS} each")
        try:
            low, high = float(log_min), float(log_max)
        except OverflowError as error:
            raise ValueError("the range of a log codec is beyond float64") from error
        return super().__new__(cls, low, high, list(bits))

    @classmethod
    def load(cls, name: str) -> Self:
        """The log codec of a name: ``two_token_9_12``, ``tomol_3byte`` or ``fp16_1token``.

        Raises:
            KeyError: no such name.
        """
        parameters = _core.named_log_codec(name)
        if parameters is None:
            raise KeyError(f"unknown log codec {name!r}; known: {', '.join(LOG_CODECS)}")
        codec = cls(*parameters)
        codec.name = name
        return codec

    def save(self, path: str | Path) -> None:
        """Write the parameters as JSON text to ``path``; :func:`load_codec` reads it."""
        write_atomically(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the file that :meth:`save` writes."""
        content = sealed({"kind": "log", **self.parameters}, _SEAL)
        return (json.dumps(content, indent=1) + "\n").encode()

    @property
    def parameters(self) -> dict[str, Any]:
        """``log_min``, ``log_max`` and ``token_mag_bits``, as ``meta.json`` holds them."""
        return {"log_min": self.log_min, "log_max": self.log_max, "token_mag_bits": self.bits}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by parameters."""
        return _rebuild_log, (self.log_min, self.log_max, self.bits, self.name)

    def __repr__(self) -> str:
        """Shows the parameters."""
        return f"LogCodec({self.log_min}, {self.log_max}, {self.bits})"


class LloydMaxCodec(DensityCodec, _core.LloydMaxCodec):
    """Fitted bins, one token a voxel.

    A value is clipped to ``[clip_min, clip_max]``; its bin is the number of boundaries at or below it; a bin decodes to
    its reconstruction point.

    Args:
        boundaries: (n - 1,) float32, strictly ascending.
        recon_points: (n,) float32.
        clip_max: the largest value told apart.
        unit: the convention of the densities it was fitted to, ``chgcar`` (rho * V_cell, electrons) or ``e_per_A3``
            (electrons per cubic angstrom).
        clip_min: the smallest value told apart: 0, or below it for a signed codec.
        about: how it was made; kept in the file.
        recon_points_mean: (n,) float32, the mean of the values in each bin, where known.
        recon_points_median: (n,) float32, their median, where known.

    Raises:
        ValueError: lengths that do not fit, boundaries that do not ascend, numbers that are not finite, an unknown
            unit.
    """

    name: str = "lmq"
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
        codec = super().__new__(
            cls,
            np.ascontiguousarray(boundaries, dtype=np.float32).reshape(-1),
            np.ascontiguousarray(recon_points, dtype=np.float32).reshape(-1),
            float(clip_max),
            unit,
            float(clip_min),
        )
        codec.about = dict(about or {})
        n = codec.sizes[0]
        codec.recon_points_mean = _points("recon_points_mean", recon_points_mean, n)
        codec.recon_points_median = _points("recon_points_median", recon_points_median, n)
        return codec

    def with_points(self, points: str) -> Self:
        """The same bins decoding to their ``mean`` (least squared error) or ``median`` (least absolute error).

        Raises:
            ValueError: another word, or points that are not known for this codec.
        """
        known = {"mean": self.recon_points_mean, "median": self.recon_points_median}
        chosen = known.get(points)
        if chosen is None:
            there = ", ".join(name for name, array in known.items() if array is not None) or "neither"
            raise ValueError(f"points {points!r}: choose mean or median; codec {self.name} knows {there}")
        codec = type(self)(
            self.boundaries,
            chosen,
            self.clip_max,
            unit=self.unit,
            clip_min=self.clip_min,
            about={**self.about, "points": points},
            recon_points_mean=self.recon_points_mean,
            recon_points_median=self.recon_points_median,
        )
        codec.about.pop("hash", None)
        codec.name = f"{self.name}-{points}"
        return codec

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """A codec by bundled name (``l1-16k-e_per_A3-1e4``), path or URL.

        Raises:
            KeyError: neither a bundled name nor a path.
            FileNotFoundError: no such file.
            ValueError: a file that is not a codec, or whose content hash is not the one it states.
        """
        text = str(name)
        bundled = resources.files("tomat").joinpath("codecs", f"{ALIASES.get(text, text)}.npz")
        if "/" not in text and bundled.is_file():
            codec = cls._from_npz(bundled.read_bytes(), text)
            codec.name = text
            return codec
        if "/" not in text and "." not in text and not Path(text).exists():
            known = ", ".join([*bundled_codecs(), *LOG_CODECS])
            raise KeyError(f"unknown codec {text!r}; known: {known}, or give the path of an .npz file")
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
        if stated is not None and stated != codec.hash:
            raise ValueError(
                f"{source}: the arrays do not match the content hash in the file (it says {stated}, they give "
                f"{codec.hash}); the file is damaged or was edited, fetch it again"
            )
        return codec

    def save(self, path: str | Path) -> None:
        """Write ``path`` as ``.npz``: the three members the field's readers use, ``unit``, ``about`` and what is known.

        The bytes depend on the codec alone.
        """
        write_atomically(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the file that :meth:`save` writes."""
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
            # What recon_points already say is not written twice.
            if array is not None and about.get("points") != points:
                members[f"recon_points_{points}"] = array
        members["unit"] = np.frombuffer(self.unit.encode(), dtype=np.uint8)
        return npz_bytes(members | {"about": about_bytes(members, about)})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by arrays."""
        return _rebuild_lloyd_max, (self.to_bytes(), self.name)

    def __repr__(self) -> str:
        """Shows size, range and unit."""
        below = f"clip_min={self.clip_min:g}, " if self.clip_min < 0.0 else ""
        return f"LloydMaxCodec({self.sizes[0]} bins, {below}clip_max={self.clip_max:g}, unit={self.unit!r})"


def load_codec(name: str | Path) -> Codec:
    """A codec of either kind: a log codec or bundled codec by name, or a file by path or URL.

    Raises:
        KeyError: an unknown name; the message lists the known ones.
        OSError: the file cannot be read.
        ValueError: the file is not a codec.
    """
    text = str(name)
    if text in LOG_CODECS:
        return LogCodec.load(text)
    if text.endswith(".json"):
        return _log_codec_file(text)
    return LloydMaxCodec.load(text)


def bundled_codecs() -> list[str]:
    """Names of the Lloyd-Max codecs in the package, aliases included, by size."""
    folder = resources.files("tomat").joinpath("codecs")
    files = [entry.name.removesuffix(".npz") for entry in folder.iterdir() if entry.name.endswith(".npz")]
    return sorted([*files, *(alias for alias, name in ALIASES.items() if name in files)], key=_by_size)


def bundled_floor(codec: Codec) -> float | None:
    """Mean NMAE of a codec of the package on crystals it was not fitted to, as a fraction; None where not measured."""
    path = resources.files("tomat").joinpath("codecs", FLOORS)
    measured = json.loads(path.read_text()) if path.is_file() else {}
    of = measured.get(ALIASES.get(codec.name, codec.name))
    return float(of["nmae_mean"]) if of and of["hash"] == codec.hash else None


def _by_size(name: str) -> tuple[str, int, str]:
    """``l1-1k`` before ``l1-16k`` before ``l1-1k-e_per_A3`` before ``l1-1k-e_per_A3-1e4``."""
    method, _, rest = name.partition("-")
    size, _, unit_and_range = rest.partition("-")
    number = size.removesuffix("k")
    return (unit_and_range, int(number) if number.isdigit() else 0, method)


def _log_codec_file(path: str) -> LogCodec:
    try:
        stored = json.loads(open_bytes(path))
        if not isinstance(stored, dict):
            raise ValueError("not a JSON object")
        unknown = stored.keys() - _LOG_KEYS
        if unknown:
            raise ValueError(f"unknown keys {', '.join(sorted(unknown))}; fetch it again")
        if _SEAL in stored:
            check_seal(stored, _SEAL, "it")
        codec = LogCodec(stored["log_min"], stored["log_max"], stored["token_mag_bits"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: not a log codec file: {error}") from error
    codec.name = Path(path).stem
    return codec


def _rebuild_log(log_min: float, log_max: float, bits: list[int], name: str) -> LogCodec:
    codec = LogCodec(log_min, log_max, bits)
    codec.name = name
    return codec


def _rebuild_lloyd_max(data: bytes, name: str) -> LloydMaxCodec:
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


def _float_vector(values: ArrayLike) -> NDArray[np.float32] | NDArray[np.float64]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"values have shape {array.shape}; give one axis (array.ravel())")
    if array.dtype.kind == "f" and array.dtype.itemsize <= 4:
        return np.ascontiguousarray(array, dtype=np.float32)
    return np.ascontiguousarray(array, dtype=np.float64)


def _component_matrix(components: ArrayLike, k: int) -> NDArray[np.int32]:
    array = np.asarray(components)
    if array.ndim != 2 or array.shape[1] != k:
        raise ValueError(f"components have shape {array.shape}; give (n, {k})")
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"components have dtype {array.dtype}; give integers")
    limits = np.iinfo(np.int32)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise IndexError(f"components from {array.min()} to {array.max()} do not fit int32")
    return np.ascontiguousarray(array, dtype=np.int32)


def _read_npz(data: bytes, source: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The required members and the ``about`` record; object arrays are never touched."""
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
            # Old files may hold objects under such a name, and are read all the same.
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
    """The record of how the codec was made, with its unit; in files of this program nothing of it may be missing."""
    about: Any = json.loads(archive["about"].tobytes()) if "about" in archive else {}
    if not isinstance(about, dict):
        raise ValueError("member about is not a JSON object")
    version = about.get("format_version", FORMAT_VERSION)
    if not isinstance(version, int) or version not in range(FORMAT_VERSION + 1):
        raise ValueError(
            f"a codec file of version {version}; this tomat reads versions up to {FORMAT_VERSION}, update it"
        )
    if about.keys() & {"format_version", "hash", DIGEST}:
        absent = [name for name in ("unit",) if name not in archive] + [
            name for name in ("format_version", "hash") if name not in about
        ]
        if absent:
            raise ValueError(
                f"no {', '.join(absent)} in it, which a file of this program has; fetch it again"
            )
    check_digest(archive, about)
    about.pop(DIGEST, None)
    about.pop("unit", None)
    if "unit" in archive:
        about["unit"] = archive["unit"].tobytes().decode()
    return about
