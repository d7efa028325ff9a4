"""A kind of codec that is a class and a place in ``KINDS`` is tokenized with, stored and read like those there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, override

import numpy as np
import pytest

import tomat
from places import DATA
from tomat import codec as codecs
from tomat._seal import sealed
from tomat.codec.base import Codec
from tomat.dataset import open_dataset, resolve_inputs
from tomat.dataset.config import TokenizeConfig
from tomat.dataset.verify import verify_dataset
from tomat.engine import tokenize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class SquareRoot(Codec):
    """Equal steps of the square root; the core is given its bins."""

    kind = "sqrt"
    suffix = ".sqrt.json"
    n: int
    clip_max: float

    def __new__(cls, n: int, clip_max: float) -> Self:
        steps = np.linspace(0.0, np.sqrt(clip_max), 2 * n + 1) ** 2
        bins = {
            "boundaries": steps[2:-1:2].astype(np.float32),
            "recon_points": steps[1::2].astype(np.float32),
            "clip_min": 0.0,
            "clip_max": clip_max,
            "unit": "e_per_A3",
        }
        codec = super().__new__(cls, "lmq", bins)
        codec.n, codec.clip_max = n, clip_max
        return codec

    @override
    @classmethod
    def knows(cls, name: str) -> bool:
        return name.endswith(cls.suffix)

    @override
    @classmethod
    def load(cls, name: str | Path) -> Self:
        return cls.from_parameters(json.loads(Path(name).read_text()))

    @override
    @classmethod
    def from_parameters(cls, stored: Mapping[str, Any]) -> Self:
        return cls(stored["n_bins"], stored["clip_max"])

    @override
    def to_bytes(self) -> bytes:
        return json.dumps(sealed(self.meta, "sha256")).encode()

    @override
    @property
    def parameters(self) -> dict[str, Any]:
        return {"n_bins": self.n, "clip_max": self.clip_max}

    @override
    def outside_bin(self, values: NDArray[np.float64], decoded: NDArray[np.float64]) -> int:
        root = np.sqrt(self.clip_max) / self.n
        inside = np.abs(np.sqrt(np.clip(values, 0.0, self.clip_max)) - np.sqrt(decoded)) <= 0.5001 * root
        return int(np.count_nonzero(~inside))


def test_a_new_kind_goes_all_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "KINDS", (SquareRoot, *codecs.KINDS))
    made = SquareRoot(1024, 1e4)
    made.save(tmp_path / "mine.sqrt.json")
    loaded = tomat.load_codec(tmp_path / "mine.sqrt.json")
    assert (loaded.hash, loaded.meta) == (made.hash, {"kind": "sqrt", "n_bins": 1024, "clip_max": 1e4})

    config = TokenizeConfig(codec=str(tmp_path / "mine.sqrt.json"), patch_size=5, patches_per_material=2)
    entries = resolve_inputs([DATA / "rho_gga"], limit=2)
    assert tokenize(config, entries, tmp_path / "out", threads=1).rows == 4
    dataset = open_dataset(tmp_path / "out")
    assert isinstance(dataset.tokenizer.density_codec, SquareRoot)
    assert verify_dataset(tmp_path / "out", source=entries).is_sound

    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert meta["vocab"]["density_codec"]["kind"] == "sqrt"
