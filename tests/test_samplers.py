"""The samplers: equal to a slow reference, distributed as they say, and found by name."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

import oracle
import sampler_oracle
import tomat
from tomat import sampling
from tomat.sampling import Electrons, Tiling, Uniform, load_sampler

U64 = st.integers(0, 2**64 - 1)
GRIDS = st.tuples(*[st.integers(1, 6)] * 3)
PATCHES = st.tuples(*[st.integers(1, 9)] * 3)
SAMPLERS = [Uniform(), Uniform(False), Electrons(), Electrons(False), Tiling()]
every = pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)


def density(grid: oracle.Shape, seed: int = 0) -> NDArray[np.float32]:
    """Both signs, empty places, ten orders of magnitude."""
    rng = np.random.default_rng(seed)
    values = rng.lognormal(0.0, 4.0, grid) * rng.choice([-0.1, 0.0, 1.0, 1.0], grid)
    return values.astype(np.float32)


@settings(max_examples=60)
@given(GRIDS, PATCHES, st.integers(0, 12), U64, st.text(max_size=9), U64, st.booleans())
def test_electrons_equal_the_oracle(
    grid: oracle.Shape, patch: oracle.Shape, n: int, seed: int, task_id: str, epoch: int, replacement: bool
) -> None:
    rho = density(grid, seed)
    got = Electrons(replacement).offsets(grid, patch, rho, n, seed=seed, task_id=task_id, epoch=epoch)
    assert got.dtype == np.int32
    expected = sampler_oracle.electrons(
        rho, patch, n, seed=seed, task_id=task_id, epoch=epoch, replacement=replacement
    )
    np.testing.assert_array_equal(got, np.reshape(expected, (n, 3)))


@given(GRIDS, PATCHES, st.integers(0, 60), U64, st.text(max_size=9), U64)
def test_tiling_and_uniform_without_replacement_equal_the_oracle(
    grid: oracle.Shape, patch: oracle.Shape, n: int, seed: int, task_id: str, epoch: int
) -> None:
    got = Tiling().offsets(grid, patch, None, n, seed=seed, task_id=task_id, epoch=epoch)
    expected = sampler_oracle.tiling(grid, patch, n, seed=seed, task_id=task_id, epoch=epoch)
    np.testing.assert_array_equal(got, np.reshape(expected, (n, 3)))
    got = Uniform(False).offsets(grid, patch, None, n, seed=seed, task_id=task_id, epoch=epoch)
    expected = sampler_oracle.uniform_once(grid, n, seed=seed, task_id=task_id, epoch=epoch)
    np.testing.assert_array_equal(got, np.reshape(expected, (n, 3)))


@every
def test_the_key_decides_and_nothing_else(sampler: sampling.Sampler) -> None:
    grid, patch = (9, 10, 11), (4, 4, 4)
    rho = density(grid)

    def drawn(n: int = 40, seed: int = 1, task_id: str = "mp-1", epoch: int = 0) -> list[list[int]]:
        offsets = sampling.draw(
            sampler, grid, patch, rho, n, seed=seed, task_id=task_id, epoch=epoch
        ).tolist()
        return [list(map(int, row)) for row in offsets]

    base = drawn()
    assert drawn() == base
    assert all(drawn(n) == base[:n] for n in range(0, 40, 7))
    assert base not in (drawn(seed=2), drawn(task_id="mp-2"), drawn(epoch=1))


@pytest.mark.parametrize("replacement", [True, False])
def test_electrons_are_drawn_in_proportion_to_what_the_patch_holds(replacement: bool) -> None:
    """Chi-square over all origins against brute-force sums, patches that wrap more than once included."""
    for grid, patch in (((4, 5, 3), (2, 2, 2)), ((3, 4, 5), (7, 2, 11))):
        rho = np.abs(density(grid, 3)) ** np.float32(0.25)
        held = np.array(
            [
                sampler_oracle.held(rho, patch, o).sum(dtype=np.float64)
                for o in itertools.product(*map(range, grid))
            ]
        )
        counts = np.zeros(60)
        for seed in range(1 if replacement else 20_000):
            n = 20_000 if replacement else 1
            drawn = Electrons(replacement).offsets(grid, patch, rho, n, seed=seed, task_id="mp-149")
            counts += np.bincount(np.ravel_multi_index(drawn.T, grid), minlength=60)
        assert stats.chisquare(counts, 20_000 * held / held.sum()).pvalue > 1e-4


def test_without_replacement_is_successive_sampling() -> None:
    """The second of two origins has the probability left when the first is taken out, also from a rebuilt table."""
    grid = (4, 1, 1)
    rho = np.array([100.0, 1.0, 2.0, 3.0], dtype=np.float32).reshape(grid)
    counts = np.zeros((4, 4))
    n = 6_000
    for seed in range(n):
        first, second = (
            Electrons(False).offsets(grid, (1, 1, 1), rho, 2, seed=seed, task_id="x")[:, 0].tolist()
        )
        counts[first, second] += 1
    p = rho.ravel() / rho.sum()
    expected = np.array([[p[i] * p[j] / (1 - p[i]) if i != j else 0 for j in range(4)] for i in range(4)])
    likely = expected * n > 5
    assert counts[~likely & (expected == 0)].sum() == 0
    rest = n - counts[likely].sum()
    observed = [*counts[likely], rest]
    assert (
        stats.chisquare(observed, [*(n * expected[likely]), n * (1 - expected[likely].sum())]).pvalue > 1e-4
    )


@given(st.tuples(*[st.integers(1, 30)] * 3), st.integers(1, 9), U64)
def test_tiling_covers_nothing_twice_before_everything_once(grid: oracle.Shape, p: int, seed: int) -> None:
    patch = (p, p, p)
    disjoint, whole = sampling.tiles(grid, patch)
    assert whole == np.prod([-(-n // p) for n in grid])
    assert disjoint == np.prod([max(n // p, 1) for n in grid])
    drawn = Tiling().offsets(grid, patch, None, whole, seed=seed, task_id="x")
    start = tomat.coverage_histogram(grid, patch, drawn[:disjoint])
    alone = tomat.coverage_histogram(grid, patch, drawn[:1])
    assert len(start) <= len(alone), "a voxel is covered more often than one patch does it"
    full = tomat.coverage_histogram(grid, patch, drawn)
    assert full[0] == 0, "a pass leaves nothing out"
    assert len(np.unique(drawn, axis=0)) == whole, "no origin twice in a pass"
    if all(n % p == 0 for n in grid):
        assert full.tolist() == [0, np.prod(grid)]


def test_every_voxel_has_the_same_expectation_in_a_part_of_a_tiling() -> None:
    grid, patch = (5, 4, 7), (2, 3, 2)
    counts = np.zeros(grid)
    for seed in range(3000):
        for o in Tiling().offsets(grid, patch, None, 5, seed=seed, task_id="x"):
            counts[np.ix_(*[(o[a] + np.arange(patch[a])) % grid[a] for a in range(3)])] += 1
    assert counts.sum() == 3000 * 5 * 12
    # Counts of a voxel are sums of 3,000 draws of 0 or 1 patches: five standard deviations.
    assert np.abs(counts - counts.mean()).max() < 5 * np.sqrt(counts.mean())


def test_a_real_density(data: Path) -> None:
    """Patches drawn by electrons hold more of them: the mean is that of the squared box sums, by brute force."""
    material = tomat.read(data / "rho_gga" / "label" / "qe-0003.zarr")
    rho, patch = material.density, (5, 5, 5)
    sums = np.abs(rho).astype(np.float64)
    for axis in range(3):
        sums = sum((np.roll(sums, -k, axis=axis) for k in range(5)), np.zeros_like(sums))
    drawn = Electrons().offsets(rho.shape, patch, rho, 4000, seed=0, task_id="x")
    got = sums[tuple(drawn.T)]
    mean = (sums**2).sum() / sums.sum()
    spread = np.sqrt((sums**3).sum() / sums.sum() - mean**2)
    assert abs(got.mean() - mean) < 5 * spread / np.sqrt(4000)
    assert mean > sums.mean() * 1.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4, 4, 4), (2, 2, 2), None, 3), "needs the density"),
        (((4, 4, 4), (2, 2, 2), np.ones((4, 4, 5)), 3), "shape"),
        (((4, 4, 4), (2, 2, 2), np.full((4, 4, 4), np.nan), 3), "finite"),
        (((4, 4, 0), (2, 2, 2), np.ones((4, 4, 4)), 3), "above zero"),
        (((4, 4, 4), (2, 0, 2), np.ones((4, 4, 4)), 3), "above zero"),
        (((4, 4, 4), (2, 2, 2), np.ones((4, 4, 4)), -1), "n = -1"),
    ],
)
def test_what_cannot_be_drawn(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Electrons().offsets(*arguments, seed=0, task_id="mp-1")  # type: ignore[arg-type]


# --- by name ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "sampler", "canonical"),
    [
        ("uniform", Uniform(), "uniform"),
        (" uniform:replacement=true", Uniform(), "uniform"),
        ("uniform:replacement=false", Uniform(False), "uniform:replacement=false"),
        ("electrons: replacement = false", Electrons(False), "electrons:replacement=false"),
        ("tiling", Tiling(), "tiling"),
    ],
)
def test_names(spec: str, sampler: sampling.Sampler, canonical: str) -> None:
    named = load_sampler(spec)
    assert (named.sampler, named.spec, named.source) == (sampler, canonical, None)
    assert load_sampler(named.spec) == named
    assert isinstance(named.sampler, sampling.Sampler)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("unifrom", KeyError, "unknown sampler 'unifrom'; known: uniform, electrons, tiling"),
        ("uniform:replacement", ValueError, "option=value"),
        ("uniform:replacement=perhaps", ValueError, "true or false"),
        ("tiling:replacement=false", ValueError, "replacement"),
        ("", KeyError, "known: uniform"),
    ],
)
def test_names_that_are_none(spec: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_sampler(spec)


PLUGIN = '''
from dataclasses import dataclass
import numpy as np

@dataclass(frozen=True)
class Corner:
    """Origins along the diagonal."""
    step: int = 1
    needs_density = False

    def offsets(self, grid_shape, patch_shape, density, n, *, seed, task_id, epoch):
        assert density is None or self.needs_density
        return (np.arange(n)[:, None] * self.step % np.array(grid_shape)).astype(np.int32)


class Peak:
    """The place of the largest density, again and again; no dataclass, no options."""
    needs_density = True

    def offsets(self, grid_shape, patch_shape, density, n, *, seed, task_id, epoch):
        assert density.shape == grid_shape and density.dtype == np.float32
        return np.tile(np.unravel_index(density.argmax(), density.shape), (n, 1))


class Outside(Peak):
    def offsets(self, grid_shape, *_, **__):
        return np.array([grid_shape])


class Broken(Peak):
    def offsets(self, *_, **__):
        return 1 / 0


def nothing(**_):
    return object()
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with samplers, as pip would leave it."""
    place = tmp_path / "site"
    info = place / "tomat_corner-1.2.dist-info"
    info.mkdir(parents=True)
    (place / "tomat_corner.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tomat-corner\nVersion: 1.2\n")
    names = {
        "corner": "Corner",
        "peak": "Peak",
        "outside": "Outside",
        "broken": "Broken",
        "nothing": "nothing",
    }
    entries = "".join(f"{name} = tomat_corner:{made}\n" for name, made in names.items())
    (info / "entry_points.txt").write_text(f"[tomat.samplers]\n{entries}gone = tomat_corner:Gone\n")
    monkeypatch.syspath_prepend(str(place))
    return place


@pytest.mark.usefixtures("plugin")
def test_samplers_of_other_packages() -> None:
    named = load_sampler("corner:step=2")
    assert (named.spec, named.source) == ("corner:step=2", "tomat-corner 1.2")
    assert load_sampler("corner:step=1").spec == "corner"
    assert "corner" in sampling.known_samplers()
    drawn = sampling.draw(named.sampler, (5, 6, 7), (2, 2, 2), None, 4, seed=0, task_id="x")
    assert drawn.tolist() == [[0, 0, 0], [2, 2, 2], [4, 4, 4], [1, 0, 6]]
    with pytest.raises(KeyError, match=f"known: {', '.join(sampling.SAMPLERS)}, broken, corner"):
        load_sampler("cornre")
    with pytest.raises(ValueError, match=r"tomat-corner 1.2 cannot be loaded: AttributeError"):
        load_sampler("gone")
    with pytest.raises(ValueError, match="no needs_density"):
        load_sampler("nothing")
    with pytest.raises(ValueError, match="size"):
        load_sampler("corner:size=3")
    with pytest.raises(ValueError, match=r"x: .*outside the grid"):
        sampling.draw(load_sampler("outside").sampler, (5, 6, 7), (2, 2, 2), None, 1, seed=0, task_id="x")
    with pytest.raises(ValueError, match=r"not integers \(2, 3\)"):
        sampling.draw(load_sampler("outside").sampler, (5, 6, 7), (2, 2, 2), None, 2, seed=0, task_id="x")


def test_two_packages_with_one_name(plugin: Path) -> None:
    info = plugin / "other-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[tomat.samplers]\ncorner = tomat_corner:Corner\nuniform = x:y\n")
    with pytest.raises(ValueError, match=r"called 'corner': .*other 0.1"):
        load_sampler("corner")
    with pytest.raises(ValueError, match=r"called 'uniform': tomat, other 0.1"):
        load_sampler("uniform")
