"""A field model without JAX is the one that was trained, at every point and for everything it can be asked."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("levanter")
import tiny_field
from tomat.crystal import Crystal
from tomat.lm.field.checkpoint import as_open
from tomat.lm.field.inference import FieldInference
from tomat.lm.field.opened import BLOCK, OpenField
from tomat.lm.field.surroundings import FLOOR
from tomat.prediction.options import Sampling

N = BLOCK + 700
SILICON = str(tiny_field.DATA / "label" / "qe-0039.zarr")


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return np.random.default_rng(5).uniform(-1, 2, (N, 3))


def given(opened: OpenField, crystal: Crystal, points: np.ndarray) -> dict[str, np.ndarray]:
    ones = np.ones(len(points), np.float32)
    guess = np.maximum(opened.surroundings.at_points(crystal, points, ones)[:, :, -1, 0].sum(axis=0), FLOOR)
    random = np.random.default_rng(6)
    truth = (guess * random.uniform(0.3, 2.0, N)).astype(np.float32)
    return {"guess": guess, "truth": truth, "drawn": random.uniform(0, 1, N).astype(np.float32)}


@pytest.mark.parametrize("head", ["logistics", "categorical"])
@pytest.mark.parametrize("descriptors", [True, False])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.7, 0.9), Sampling(0.0)])
def test_statistics_are_those_of_the_trained_network(
    head: str, descriptors: bool, sampling: Sampling, points: np.ndarray
) -> None:
    shape = replace(tiny_field.SHAPE, head=head, descriptors=descriptors)
    trained, crystal = tiny_field.random_weights(shape), tiny_field.quartz()
    opened = as_open(trained)
    run = FieldInference(trained.model, trained.surroundings, trained.codec, sampling)
    weights = opened.of_atoms(crystal)
    np.testing.assert_allclose(weights, run.weights(crystal), rtol=0, atol=2e-5 * np.abs(weights).max())
    of = given(opened, crystal, points)
    wanted = ("median", "mean", "mode", "sample", "spread", "expected_error", "pit")
    for names in (wanted, tuple(name for name in wanted if name != "mode")):
        found = opened.at_points(crystal, weights, points, of, sampling, names)
        sums = run.sums(crystal, run.weights(crystal), points, of["guess"])
        expected = run.read(names, sums, of["guess"], of["truth"], of["drawn"])
        for name in names:
            assert found[name].dtype == np.float32
            scale = np.abs(expected[name]).mean()
            off = np.abs(found[name] - expected[name])
            # A value at the edge between two levels may fall to either side.
            aside = off > 1e-4 * np.maximum(np.abs(expected[name]), scale)
            assert aside.mean() < (2e-3 if name in ("median", "mode", "sample") else 1e-9), name
            assert off[~aside].mean() < 1e-5 * scale, name


def test_a_point_does_not_depend_on_the_others(points: np.ndarray) -> None:
    opened, crystal = as_open(tiny_field.random_weights()), tiny_field.quartz()
    weights, of = opened.of_atoms(crystal), given(opened, crystal, points)
    whole = opened.at_points(crystal, weights, points, of, Sampling(), ("median", "spread"))
    some = slice(N - 40, N - 3)
    part = {name: values[some] for name, values in of.items()}
    alone = opened.at_points(crystal, weights, points[some], part, Sampling(), ("median", "spread"))
    for name, values in alone.items():
        # Rounding: the core takes the neighbours of a block of points in the order of their sites.
        np.testing.assert_allclose(values, whole[name][some], rtol=2e-5)


def test_an_export_is_read_without_jax(tmp_path: Path) -> None:
    folder = tiny_field.exported(tmp_path / "model")
    lines = [
        "import sys",
        "import tomat",
        f"found = tomat.predict({SILICON!r}, {folder!r}, grid=(6, 7, 8))",
        "assert found.material.density.shape == (6, 7, 8)",
        "loaded = {'jax', 'jaxlib', 'equinox', 'haliax', 'levanter', 'torch'} & sys.modules.keys()",
        "assert not loaded, loaded",
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\n".join(lines)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["model.safetensors", "codec.rel.npz", "promolecule.npz", "tomat.json"])
def test_damage_is_found(name: str, tmp_path: Path) -> None:
    folder = Path(tiny_field.exported(tmp_path / "model"))
    content = bytearray((folder / name).read_bytes())
    content[-100] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        OpenField.read(str(folder))
