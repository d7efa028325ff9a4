"""Electron densities of crystals as token sequences.

>>> import tomat
>>> tokenizer = tomat.PatchTokenizer("v3")
>>> tokenizer.vocabulary.total_size
18570
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tomat._core import __version__

if TYPE_CHECKING:
    from tomat.codec import LloydMaxCodec, LogCodec, RelativeCodec, bundled_codecs, load_codec
    from tomat.fitting import Sketch, fit_codec
    from tomat.lm.decode.opening import predict
    from tomat.material import UNITS, Material, read
    from tomat.sampling import coverage_histogram, sample_offsets
    from tomat.tokenizer import LAYOUTS, Layout, Patch, PatchTokenizer, Vocabulary

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

#: Modules and what of them is here. Each is imported when one of its names is first used: `tomat --help` takes a third
#: as long without NumPy.
_NAMES = {
    "codec": ("LloydMaxCodec", "LogCodec", "RelativeCodec", "bundled_codecs", "load_codec"),
    "fitting": ("Sketch", "fit_codec"),
    "lm.decode.opening": ("predict",),
    "material": ("UNITS", "Material", "read"),
    "sampling": ("coverage_histogram", "sample_offsets"),
    "tokenizer": ("LAYOUTS", "Layout", "Patch", "PatchTokenizer", "Vocabulary"),
}
_HOMES = {name: f"tomat.{module}" for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value  # not asked for again
        return value
    if name in _NAMES:
        return import_module(f"tomat.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
