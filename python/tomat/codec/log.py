"""Log codecs: equal steps of log10|v|, stored as JSON with a digest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, override

import numpy as np
from numpy.typing import NDArray

from tomat import _core
from tomat._seal import check_seal, sealed
from tomat.codec.base import Codec
from tomat.storage.files import open_bytes

#: Names of the log codecs in docs/format.md.
LOG_CODECS = ("two_token_9_12", "tomol_3byte", "fp16_1token")

#: Bits of one component, at most.
_MOST_BITS = 32
#: Key of the digest in a file, and all allowed keys.
_SEAL = "sha256"
_KEYS = {"kind", "log_min", "log_max", "token_mag_bits", _SEAL}
#: Relative tolerance of bin edges, since log10 and 10^x differ between platforms in their last bits.
_SLACK = 1e-9


class LogCodec(Codec):
    """Equal steps of log10|v| between ``log_min`` and ``log_max``, with the sign in the first component.

    Args:
        log_min: log10 of the smallest magnitude; smaller ones are clipped to it.
        log_max: log10 of the largest magnitude.
        bits: magnitude bits of each component, most significant first. Component 0 takes ``2 * 2**bits[0]``
            values, component j ``2**bits[j]``.

    Raises:
        ValueError: an empty range, no bits, or too many (20 per component, 32 in all).
    """

    kind = "log"
    suffix = ".json"
    name: str = "log"
    log_min: float
    log_max: float
    bits: list[int]

    def __new__(cls, log_min: float, log_max: float, bits: Sequence[int]) -> Self:
        """Check the parameters and build the codec."""
        if any(not 0 <= n <= _MOST_BITS for n in bits):
            raise ValueError(f"bits {str(list(bits))[:60]} of a log codec must be 0 to {_MOST_BITS} each")
        try:
            low, high = float(log_min), float(log_max)
        except OverflowError as error:
            raise ValueError("the range of a log codec is beyond float64") from error
        codec = super().__new__(cls, "log", {"log_min": low, "log_max": high, "bits": list(bits)})
        codec.log_min, codec.log_max, codec.bits = low, high, list(bits)
        return codec

    @override
    @classmethod
    def knows(cls, name: str) -> bool:
        return name in LOG_CODECS or name.endswith(cls.suffix)

    @override
    @classmethod
    def load(cls, name: str | Path) -> Self:
        text = str(name)
        parameters = _core.named_log_codec(text)
        if parameters is not None:
            codec = cls(*parameters)
        elif text.endswith(cls.suffix):
            codec = cls._from_json(open_bytes(text), text)
        else:
            raise KeyError(f"unknown log codec {text!r}; known: {', '.join(LOG_CODECS)}")
        codec.name = Path(text).stem
        return codec

    @classmethod
    def _from_json(cls, data: bytes, source: str) -> Self:
        try:
            stored = json.loads(data)
            if not isinstance(stored, dict):
                raise ValueError("not a JSON object")
            unknown = stored.keys() - _KEYS
            if unknown:
                raise ValueError(f"unknown keys {', '.join(sorted(unknown))}; fetch it again")
            if _SEAL in stored:
                check_seal(stored, _SEAL, "it")
            return cls.from_parameters(stored)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{source}: not a log codec file: {error}") from error

    @override
    @classmethod
    def from_parameters(cls, stored: Mapping[str, Any]) -> Self:
        missing = [name for name in ("log_min", "log_max", "token_mag_bits") if name not in stored]
        if missing:
            raise ValueError(f"no {missing[0]!r} in it")
        return cls(stored["log_min"], stored["log_max"], stored["token_mag_bits"])

    @override
    def to_bytes(self) -> bytes:
        return (json.dumps(sealed(self.meta, _SEAL), indent=1) + "\n").encode()

    @override
    @property
    def parameters(self) -> dict[str, Any]:
        return {"log_min": self.log_min, "log_max": self.log_max, "token_mag_bits": self.bits}

    @override
    @property
    def facts(self) -> dict[str, Any]:
        low, high = 10**self.log_min, 10**self.log_max
        return {"unit": "any", "range": f"+-{low:.3g} to +-{high:.4g}", **self.parameters}

    @override
    def bins(self) -> tuple[NDArray[np.float64], NDArray[np.int32] | None]:
        # Components m and n/2 + m have the same magnitude and opposite signs; a bin extends from its point outwards.
        n = self.sizes[0]
        half = n // 2
        points = self.decode(np.arange(half, dtype=np.int32)[:, None])
        magnitudes = np.append(points[1:], 10.0**self.log_max)
        edges = np.concatenate([-magnitudes[::-1], [0.0], magnitudes])
        return edges, np.concatenate([np.arange(n - 1, half - 1, -1), np.arange(half)]).astype(np.int32)

    @override
    def outside_bin(self, values: NDArray[np.float64], decoded: NDArray[np.float64]) -> int:
        step = (self.log_max - self.log_min) / (2.0 ** sum(self.bits) - 1)
        low, high = 10.0**self.log_min, 10.0**self.log_max
        sign_differs = (values < 0) != np.signbit(decoded)
        magnitude = np.clip(np.abs(values), low, high)
        shown = np.where(decoded == 0, low, np.abs(decoded))
        inside = (shown <= magnitude * (1 + _SLACK)) & (magnitude <= shown * 10**step * (1 + _SLACK))
        return int(np.count_nonzero(~inside | sign_differs))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.log_min, self.log_max, self.bits, self.name)

    def __repr__(self) -> str:
        return f"LogCodec({self.log_min}, {self.log_max}, {self.bits})"


def _rebuild(log_min: float, log_max: float, bits: list[int], name: str) -> LogCodec:
    codec = LogCodec(log_min, log_max, bits)
    codec.name = name
    return codec
