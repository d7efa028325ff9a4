"""A model of a codec without a unit of its own is read back in the unit it was trained in."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("levanter")
import tiny
import tomat
from tomat._seal import sealed
from tomat.lm.checkpoint import open_checkpoint
from tomat.lm.decode.opening import open_predictor
from tomat.lm.record import NOTE, SEAL
from tomat.lm.train import train


def test_a_log_codec_from_training_to_prediction(tmp_path: Path) -> None:
    data = ("--data.codec", "fp16_1token", "--data.unit", "e_per_A3")
    config = tiny.config(tmp_path, *data, "--validation", "null", kind="guess", steps=1)
    run = Path(train(config).files.root)
    note = json.loads((run / NOTE).read_text())
    assert note["tokenizer"]["unit"] == note["data"]["unit"] == "e_per_A3"
    predictor = open_predictor(str(run))
    assert predictor.tokenizer.unit == "e_per_A3"
    material = tomat.read(tiny.DATA / "label" / "qe-0039.zarr")
    predicted = tomat.predict(material, predictor, grid=(6, 6, 6)).material
    assert predicted.unit == "e_per_A3"
    # The model starts as what passes its guess on: read as rho * V_cell, it would have 1 / V of the electrons.
    assert predicted.n_electrons == pytest.approx(material.n_electrons, rel=0.5)
    assert not np.isclose(material.volume, 1.0, rtol=3)
    # The same files with the unit taken out, or another one: no guess is made.
    for path in [run / NOTE, *run.glob(f"checkpoints/*/{NOTE}")]:
        stated = json.loads(path.read_text())
        del stated["tokenizer"]["unit"]
        path.write_text(json.dumps(sealed(stated, SEAL)))
    with pytest.raises(ValueError, match="states no unit"):
        open_checkpoint(str(run))
