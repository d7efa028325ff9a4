"""Electron densities of crystals as token sequences.

>>> import tomat
>>> tokenizer = tomat.PatchTokenizer("v3")
>>> tokenizer.vocabulary.total_size
18570
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tomat._core import __version__
from tomat.codec import LloydMaxCodec, LogCodec, RelativeCodec, bundled_codecs, load_codec
from tomat.fitting import Sketch, fit_codec
from tomat.material import UNITS, Material, read
from tomat.sampling import coverage_histogram, sample_offsets
from tomat.tokenizer import LAYOUTS, Layout, Patch, PatchTokenizer, Vocabulary

if TYPE_CHECKING:
    from tomat.lm.decode.opening import predict

__all__ = [
    "LAYOUTS",
    "UNITS",
    "Layout",
    "LloydMaxCodec",
    "LogCodec",
    "Material",
    "Patch",
    "PatchTokenizer",
    "RelativeCodec",
    "Sketch",
    "Vocabulary",
    "__version__",
    "bundled_codecs",
    "coverage_histogram",
    "fit_codec",
    "load_codec",
    "predict",
    "read",
    "sample_offsets",
]


def __getattr__(name: str) -> Any:
    """``predict``, with what it needs, when it is first used."""
    if name == "predict":
        from tomat.lm.decode.opening import predict

        return predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
