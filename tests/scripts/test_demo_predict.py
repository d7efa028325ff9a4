"""The demo of the model in the package: crystals nobody trained on, told by their POSCARs alone."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import tomat
from places import DATA, REPOSITORY
from tomat.prediction.structures import read_crystal

sys.path.insert(0, str(REPOSITORY / "scripts"))
import demo_predict


def test_its_crystals_are_held_out_and_of_the_models_kind() -> None:
    split = json.loads((DATA / "rho_gga" / "split.json").read_text())
    names = (DATA / "rho_gga" / "mp_filelist.txt").read_text().split()
    trained = {names[index] for index in split["train"]}
    found = [path.stem for path in demo_predict.held_out()]
    assert len(found) == 7
    assert not set(found) & trained
    assert all(name.startswith(("qe-", "qev-")) for name in found)


def test_a_poscar_tells_the_crystal(tmp_path: Path) -> None:
    for path in demo_predict.held_out():
        material = tomat.read(path)
        demo_predict.write_poscar(material, tmp_path / f"{path.stem}.vasp")
        crystal = read_crystal(tmp_path / f"{path.stem}.vasp")
        np.testing.assert_array_equal(crystal.atomic_numbers, material.atomic_numbers)
        np.testing.assert_allclose(crystal.lattice, material.lattice, atol=1e-9)
        np.testing.assert_allclose(crystal.frac_coords, material.frac_coords, atol=1e-9)


@pytest.mark.parametrize(("mine", "theirs"), [(1.0, 2.0), (2.0, 1.0)])
def test_it_fails_where_the_model_is_not_better(
    mine: float, theirs: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def errors(truths: list[Path], model: str) -> list[float]:
        return [theirs if model == "promolecule" else mine] * len(truths)

    monkeypatch.setattr(demo_predict, "run", lambda _: None)
    monkeypatch.setattr(demo_predict, "errors", errors)
    monkeypatch.setattr(demo_predict, "ROOT", tmp_path)
    monkeypatch.setattr(demo_predict, "OUT", tmp_path / "out")
    if mine < theirs:
        demo_predict.main()
    else:
        with pytest.raises(SystemExit, match="not better"):
            demo_predict.main()
