"""Electron densities of crystals as token sequences.

>>> import tomat
>>> tokenizer = tomat.PatchTokenizer("v3")
>>> tokenizer.vocabulary.total_size
18570
"""

from __future__ import annotations

from tomat._core import __version__
from tomat.codec import LloydMaxCodec, LogCodec, bundled_codecs, load_codec
from tomat.fitting import Sketch, fit_codec
from tomat.material import UNITS, Material, read
from tomat.prediction.api import predict
from tomat.sampling import coverage_histogram, sample_offsets
from tomat.tokenizer import LAYOUTS, Layout, Patch, PatchTokenizer, Vocabulary

if TYPE_CHECKING:
    from tomat.prediction.api import predict

__all__ = [
    "LAYOUTS",
    "UNITS",
    "Layout",
    "LloydMaxCodec",
    "LogCodec",
    "Material",
    "Patch",
    "PatchTokenizer",
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


def __dir__() -> list[str]:
    """The public names."""
    return __all__
