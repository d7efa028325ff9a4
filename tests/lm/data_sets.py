"""Small training sets made of the real densities, one of each layout and codec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs import ROOT, sound
from tomat.lm.data import DataConfig

SEED = 3
PATCHES = 5


@dataclass(frozen=True)
class Case:
    """A layout with a codec: one token a voxel or two, either unit, patches that wrap more than once."""

    layout: str
    codec: str
    patch_size: int
    pad_to: int

    def write(self, out: Path) -> Path:
        """The dataset directory of all densities."""
        options = {
            "layout": self.layout,
            "codec": self.codec,
            "patch-size": self.patch_size,
            "pad-to": self.pad_to,
            "patches-per-material": PATCHES,
            "seed": SEED,
        }
        sound(ROOT, "--out", out, *(part for name, value in options.items() for part in (f"--{name}", value)))
        return out

    def on_the_fly(self, **changes: Any) -> DataConfig:
        """The same rows, cut from the densities."""
        settings: dict[str, Any] = {
            "densities": (str(ROOT),),
            "layout": self.layout,
            "codec": self.codec,
            "patch_size": self.patch_size,
            "pad_to": self.pad_to,
            "patches_per_material": PATCHES,
            "seed": SEED,
            # Densities of two kinds, and one starting density for all of them: it need not be a good one here.
            "max_guess_nmae": None,
        }
        return DataConfig(**settings | changes)


CASES = {
    "v1": Case("v1", "two_token_9_12", 5, 512),
    "v2-lat": Case("v2-lat", "l1-4k-e_per_A3", 6, 512),
    "v3": Case("v3", "lmq-16k", 6, 512),
}
