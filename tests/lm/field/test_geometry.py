"""The sums in JAX are those of the core."""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from tomat import _core
from tomat.lm.field import geometry

ARGUMENTS = (5.0, 0.5, 20, 3, 0.3, 2.0)
BASIS = geometry.Basis(*ARGUMENTS)
CHANNELS = (12, 6, 4, 2)
CELLS = {
    "one atom": (np.diag([2.0, 2.0, 2.0]), 1),
    "left-handed": (np.array([[3.0, 0.5, 0.0], [0.0, 0.3, 4.0], [0.2, 3.5, 0.0]]), 3),
    "200 atoms": (np.array([[12.0, 0.0, 1.0], [-3.0, 11.0, 0.0], [0.5, 1.0, 13.0]]), 200),
    "slab": (np.diag([3.0, 3.0, 24.0]), 2),
}


class Case:
    """A cell with atoms, points and one padded list of images, and the functions of both sides on it."""

    def __init__(self, name: str) -> None:
        rng = np.random.default_rng(len(name))
        self.lattice, sites = CELLS[name]
        self.frac = rng.uniform(-1, 2, (sites, 3))
        if name == "slab":
            self.frac[:, 2] *= 0.05
        self.points = rng.uniform(-1, 2, (37, 3))
        self.z = [[8, 14, 26][i % 3] for i in range(sites)]
        self.scales = np.array([[0.8, 1.0, 1.6][i % 3] for i in range(sites)])
        self.factors = rng.uniform(0.5, 2, 37).astype(np.float32)
        self.native = _core.Promolecule.analytic("slater", {8: 6.0, 14: 4.0, 26: 8.0})
        self.weights = rng.normal(size=(sites, 21, sum(CHANNELS))).astype(np.float32)
        needed = len(geometry.images_near(self.lattice, self.frac, 5.0).sites)
        self.images = geometry.images_near(self.lattice, self.frac, 5.0, needed + 13)

    def core(self, channels: tuple[int, ...] | None = None) -> NDArray[np.float32]:
        basis = _core.EnvironmentBasis(*ARGUMENTS)
        crystal = (self.lattice, self.z, self.frac, self.points)
        scales = self.scales.tolist()
        if channels is None:
            return basis.by_site(*crystal, self.native, self.factors, scales)
        return basis.contracted(*crystal, self.weights, list(channels), self.native, self.factors, scales)

    def arguments(self) -> tuple[jax.Array, geometry.Images, jax.Array]:
        points = jnp.asarray(geometry.place(self.lattice, self.points))
        return points, self.images, jnp.asarray(self.scales, jnp.float32)

    def own(self) -> geometry.Own:
        nodes = np.linspace(0, 5.0, 2049)
        values = np.stack([self.native.radial(z, nodes) for z in self.z]).astype(np.float32)
        return geometry.Own(jnp.asarray(values), jnp.asarray(self.factors))


@pytest.fixture(params=CELLS)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def assert_equal(found: jax.Array, expected: NDArray[np.float32]) -> None:
    assert found.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0.1
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=1e-5 * scale)


def test_sums_of_each_atom(case: Case) -> None:
    found = jax.jit(functools.partial(geometry.by_site, BASIS))(*case.arguments(), case.own())
    assert_equal(found, case.core())


def test_contracted_sums(case: Case) -> None:
    def sums(*arguments: jax.Array | geometry.Images, own: geometry.Own) -> jax.Array:
        points, images, scales, weights = arguments
        return geometry.contracted(BASIS, points, images, scales, weights, CHANNELS, own, block=16)  # type: ignore[arg-type]

    found = jax.jit(sums)(*case.arguments(), jnp.asarray(case.weights), own=case.own())
    assert_equal(found, case.core(CHANNELS))


def test_too_many_images_are_an_error() -> None:
    with pytest.raises(ValueError, match="count is 3"):
        geometry.images_near(np.eye(3) * 3, np.zeros((1, 3)), 5.0, 3)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_compiles_for_a_tpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    monkeypatch.setenv("TPU_LOG_DIR", str(Path(tempfile.gettempdir()) / "tpu_logs"))
    from jax.experimental import topologies
    from jax.sharding import SingleDeviceSharding

    chip = topologies.get_topology_desc("v6e:2x2", platform="tpu").devices[0]

    def shape(*axes: int, dtype: type = jnp.float32) -> Any:
        made: Any = jax.ShapeDtypeStruct
        return made(axes, dtype, sharding=SingleDeviceSharding(chip))

    images = geometry.Images(shape(512, 3), shape(512, dtype=jnp.int32))
    work = functools.partial(geometry.contracted, BASIS, channels=(64, 24, 16, 8))
    lowered = jax.jit(work).lower(shape(1024, 3), images, shape(24), shape(24, 20, 112))
    memory = lowered.compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 2**30
