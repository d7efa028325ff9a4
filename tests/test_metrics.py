"""Metrics against SciPy, against numbers worked out by hand, and their mathematical properties."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import chisquare

from tomat import metrics, reciprocal

PAIRWISE: list[Callable[[Any, Any], float]] = [
    metrics.nmae,
    metrics.chi_square,
    metrics.hellinger,
    metrics.jensen_shannon,
    metrics.relative_mae,
    lambda p, t: metrics.electron_error(p, t).electrons,
]


def density(seed: int, shape: tuple[int, ...] = (6, 5, 4)) -> NDArray[np.float64]:
    return np.asarray(10.0 ** np.random.default_rng(seed).uniform(-3, 2, shape))


@st.composite
def pairs(draw: st.DrawFn, *, signed: bool = False) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 40))
    both = 10.0 ** rng.uniform(-9, 4, (2, n))
    both[rng.random((2, n)) < draw(st.sampled_from([0.0, 0.3, 0.9]))] = 0.0
    if signed:
        both[rng.random((2, n)) < 0.2] *= -1
    if draw(st.booleans()):
        both[1] = both[0] * (1 + draw(st.sampled_from([1e-3, 1e-9, 1e-15])) * rng.standard_normal(n))
        both[1] = both[1] if signed else np.abs(both[1])
    return both[0], both[1]


# --- by hand ------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    true = np.array([1.0, 3.0, 0.0, 4.0])
    predicted = np.array([2.0, 3.0, 1.0, 2.0])
    assert metrics.nmae(predicted, true) == 4.0 / 8.0
    # Floor: a tenth of the mean 2. 1/1 + 0/3 + 1/0.2 + 4/4 over 8.
    assert metrics.chi_square(predicted, true, eps=0.1) == pytest.approx(7.0 / 8.0, rel=1e-15)
    # 1/1, 0, 1/0.2, 2/4 over 4 voxels.
    assert metrics.relative_mae(predicted, true, eps=0.1) == pytest.approx(6.5 / 4, rel=1e-15)
    # 1 - sum sqrt(p q) = 1 - (sqrt 2 + 3 + 0 + sqrt 8) / 8.
    assert metrics.hellinger(predicted, true) == pytest.approx(
        math.sqrt(1 - (3 + 3 * math.sqrt(2)) / 8), rel=1e-14
    )
    assert metrics.electron_error([1.0, 3.0], [2.0, 6.0]) == (-2.0, -0.5)
    assert metrics.electron_error([1.0, 3.0], [2.0, 6.0], unit="e_per_A3", volume=10.0) == (-20.0, -0.5)


def test_negative_voxels() -> None:
    true = np.array([-1.0, 2.0, 3.0])
    predicted = np.array([1.0, 2.0, 3.0])
    assert metrics.nmae(predicted, true) == 2.0 / 6.0
    assert metrics.relative_mae(predicted, true) == pytest.approx(2.0 / 3.0)
    # The floor stands in for -1: 4 / (0.5 * 2) over the sum 4.
    assert metrics.chi_square(predicted, true, eps=0.5) == pytest.approx(1.0)
    # Clipped: the same as from [0, 2, 3].
    assert metrics.hellinger(predicted, true) == metrics.hellinger(predicted, [0.0, 2.0, 3.0])
    assert metrics.jensen_shannon(predicted, true) == metrics.jensen_shannon(predicted, [0.0, 2.0, 3.0])
    assert metrics.electron_error(predicted, true).relative == pytest.approx(0.5)


def test_nothing_to_divide_by() -> None:
    zero, one = np.zeros(3), np.ones(3)
    for metric in PAIRWISE:
        assert metric(zero, zero) == 0.0
    assert metrics.nmae(one, zero) == math.inf
    assert metrics.chi_square(one, zero) == math.inf
    assert metrics.relative_mae(one, zero) == math.inf
    assert metrics.electron_error(one, zero) == (1.0, math.inf)
    assert metrics.electron_error(-one, zero) == (-1.0, -math.inf)
    assert metrics.chi_square([1.0, 1.0], [1.0, -1.0]) == math.inf
    assert metrics.chi_square([1.0, -1.0], [1.0, -1.0]) == 0.0
    for distance in (metrics.hellinger, metrics.jensen_shannon):
        assert distance(one, zero) == distance(zero, one) == 1.0
        assert distance(-one, zero) == 0.0
        assert distance([1.0, 0.0], [0.0, 5.0]) == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(bad: float) -> None:
    for metric in PAIRWISE:
        with pytest.raises(ValueError, match="predicted density holds NaN"):
            metric([1.0, bad], [1.0, 1.0])
        with pytest.raises(ValueError, match="true density holds NaN"):
            metric([1.0, 1.0], [1.0, bad])


def test_arguments_that_do_not_fit() -> None:
    for metric in PAIRWISE:
        with pytest.raises(ValueError, match=r"shape \(2,\), the true one \(1,\)"):
            metric([1.0, 1.0], [1.0])
        with pytest.raises(ValueError, match="nothing to compare"):
            metric([], [])
    with pytest.raises(ValueError, match="unit 'au'"):
        metrics.electron_error([1.0], [1.0], unit="au")
    with pytest.raises(ValueError, match=r"need the cell volume in A\^3; got None"):
        metrics.electron_error([1.0], [1.0], unit="e_per_A3")
    with pytest.raises(ValueError, match="eps 0 must be positive"):
        metrics.chi_square([1.0], [1.0], eps=0)


# --- against SciPy ------------------------------------------------------------------------------------------


@given(pairs())
def test_jensen_shannon_is_scipys(pair: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    p, q = pair
    if p.sum() > 0 and q.sum() > 0:
        # SciPy's sums cancel for equal densities: its distance is good to 1e-8 there, or NaN.
        with np.errstate(invalid="ignore"):
            expected = np.nan_to_num(jensenshannon(p, q, base=2))
        assert metrics.jensen_shannon(p, q) == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_jensen_shannon_of_close_densities_keeps_its_digits() -> None:
    """Second order: the divergence is sum d^2 / (8 p ln 2) for p + d/2 and p - d/2."""
    p = density(0).ravel()
    p /= p.sum()
    step = 1e-11 * p * np.random.default_rng(1).standard_normal(p.size)
    step -= p * step.sum()
    expected = math.sqrt(float((step**2 / p).sum()) / (8 * math.log(2)))
    # Inputs round at 1e-16 of 1e-11 steps: five digits are there to be had.
    assert metrics.jensen_shannon(p + step / 2, p - step / 2) == pytest.approx(expected, rel=1e-4)


def test_chi_square_is_scipys() -> None:
    true, predicted = density(2).ravel(), density(3).ravel()
    predicted *= true.sum() / predicted.sum()
    expected = chisquare(predicted, true).statistic / true.sum()
    assert metrics.chi_square(predicted, true) == pytest.approx(expected, rel=1e-12)


def test_summary_is_numpys() -> None:
    values = density(4).ravel()
    got = metrics.statistics(values)
    assert got == metrics.statistics(iter(values.tolist()))
    assert got.n == values.size
    assert got.mean == pytest.approx(values.mean(), rel=1e-14)
    assert got.median == pytest.approx(np.median(values), rel=1e-14)
    assert got.p99 == pytest.approx(np.percentile(values, 99), rel=1e-14)
    assert got.max == values.max()
    assert metrics.statistics([3.0]) == (1, 3.0, 3.0, 3.0, 3.0)
    assert metrics.statistics([1.0, 2.0, math.inf]) == (3, math.inf, 2.0, math.inf, math.inf)
    with pytest.raises(ValueError, match="no values"):
        metrics.statistics([])
    with pytest.raises(ValueError, match="NaN"):
        metrics.statistics([1.0, math.nan])


# --- properties ---------------------------------------------------------------------------------------------


@given(pairs(signed=True))
def test_bounds(pair: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    p, q = pair
    for distance in (metrics.hellinger, metrics.jensen_shannon):
        assert 0.0 <= distance(p, q) <= 1.0
        assert distance(p, q) == pytest.approx(distance(q, p), rel=1e-12, abs=1e-300)
    for metric in PAIRWISE:
        assert metric(p, p) == 0.0
    assert metrics.nmae(p, q) >= 0.0
    assert metrics.nmae(p, q) >= abs(metrics.electron_error(p, q).electrons) * q.size / max(
        np.abs(q).sum(), 1e-300
    ) * (1 - 1e-12)


@given(pairs())
def test_hellinger_and_jensen_shannon_bound_each_other(
    pair: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """H^2 <= JSD <= H^2 / ln 2: the right side is met by close densities, the left by disjoint ones."""
    h2 = metrics.hellinger(*pair) ** 2
    jsd = metrics.jensen_shannon(*pair) ** 2
    assert h2 * (1 - 1e-6) <= jsd + 1e-28
    assert jsd <= h2 / math.log(2) * (1 + 1e-6) + 1e-28


@given(pairs(), st.integers(-30, 30))
def test_unit_does_not_matter(pair: tuple[NDArray[np.float64], NDArray[np.float64]], power: int) -> None:
    """A factor on both changes nothing but the electrons; powers of two change no digit."""
    p, t = pair
    factor = 2.0**power
    for metric in PAIRWISE[:5]:
        assert metric(p * factor, t * factor) == metric(p, t)
    assert metrics.electron_error(p * factor, t * factor).electrons == (
        metrics.electron_error(p, t).electrons * factor
    )


@given(st.integers(0, 2**32 - 1))
def test_number_of_voxels_does_not_matter(seed: int) -> None:
    """A supercell scores as its cell."""
    p, t = density(seed), density(seed + 1)
    for metric in PAIRWISE:
        big = metric(np.tile(p, (2, 1, 3)), np.tile(t, (2, 1, 3)))
        assert big == pytest.approx(metric(p, t), rel=1e-12)


def test_sums_run_in_float64() -> None:
    """In float32 a million times 1e-4 added to 1e4 would not be seen."""
    true = np.full(1_000_001, 1e-4, dtype=np.float32)
    true[0] = 1e4
    predicted = true.copy()
    predicted[0] = 0.0
    expected = 1e4 / (1e4 + 1_000_000 * float(np.float32(1e-4)))
    assert metrics.nmae(predicted, true) == pytest.approx(expected, rel=1e-12)


# --- potential, energy, gradient, charges -------------------------------------------------------------------

SKEW = np.array([[3.0, 0.2, -0.4], [1.1, 4.0, 0.3], [-0.7, 0.9, 5.0]])


class Halves:
    """Two atoms: the lower and the upper half of the cell along z."""

    def charges(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        half = values.shape[2] // 2
        return np.array([values[..., :half].sum(), values[..., half:].sum()]) / values.size


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_density_wave_in_closed_form(axis: int) -> None:
    """d = A cos(2 pi x / L) makes V = 4 pi e^2 A (L / 2 pi)^2 cos(2 pi x / L): axes of unequal length and points."""
    lengths, shape, amplitude = (3.0, 4.0, 7.0), (36, 48, 60), 0.02
    x = (np.arange(shape[axis]) / shape[axis]).reshape([-1 if i == axis else 1 for i in range(3)])
    true = np.full(shape, 0.5)
    predicted = true + amplitude * np.cos(2 * math.pi * x)
    lattice, volume = np.diag(lengths), 84.0
    height = 4 * math.pi * 14.399645 * amplitude * (lengths[axis] / (2 * math.pi)) ** 2
    mean = np.abs(np.cos(2 * math.pi * x)).mean()
    assert mean == pytest.approx(2 / math.pi, rel=3e-3)
    hartree = metrics.hartree_error(predicted, true, lattice, unit="e_per_A3")
    assert hartree == pytest.approx(1000 * height * mean, rel=1e-6)
    energy = metrics.coulomb_energy(predicted, true, lattice, unit="e_per_A3")
    assert energy.energy == pytest.approx(volume * amplitude * height / 4, rel=1e-6)
    assert energy.per_electron == pytest.approx(1000 * energy.energy / (0.5 * volume), rel=1e-12)
    wave = 1 + np.cos(2 * math.pi * x) + np.zeros(shape)
    assert metrics.gradient_error(1.25 * wave, wave, lattice) == pytest.approx(0.25, rel=1e-12)


def test_the_hartree_error_weighs_by_the_density() -> None:
    """All electrons in one voxel: its potential alone counts."""
    true = np.zeros((6, 5, 4))
    true[1, 2, 3] = 8.0
    predicted = true + density(7) - density(8)
    potential = reciprocal.hartree_potential((predicted - true) / abs(np.linalg.det(SKEW)), SKEW)
    assert metrics.hartree_error(predicted, true, SKEW) == pytest.approx(1000 * abs(potential[1, 2, 3]))


@given(st.integers(0, 2**32 - 1), st.permutations([0, 1, 2]))
def test_cells_units_and_axes_do_not_matter(seed: int, order: list[int]) -> None:
    """The same for a supercell, in either unit, for axes in another order; the energy of a cell adds up."""
    p, t = density(seed), density(seed + 1)
    volume = abs(float(np.linalg.det(SKEW)))

    def numbers(p: Any, t: Any, lattice: Any, unit: str = "chgcar") -> list[float]:
        energy = metrics.coulomb_energy(p, t, lattice, unit=unit)
        hartree = metrics.hartree_error(p, t, lattice, unit=unit)
        return [hartree, energy.per_electron, metrics.gradient_error(p, t, lattice), energy.energy]

    once = numbers(p, t, SKEW)
    assert min(once) > 0.0
    assert numbers(p / volume, t / volume, SKEW, "e_per_A3") == pytest.approx(once, rel=1e-9)
    assert numbers(p.transpose(order), t.transpose(order), SKEW[order]) == pytest.approx(once, rel=1e-9)
    assert numbers(1.5 * p, 1.5 * t, SKEW)[:3] == pytest.approx(
        [1.5 * once[0], 1.5 * once[1], once[2]], rel=1e-9
    )
    # In the chgcar unit, values are electrons times the number of cells.
    tiles = (2, 1, 3)
    big = numbers(6 * np.tile(p, tiles), 6 * np.tile(t, tiles), SKEW * np.array(tiles)[:, None])
    assert big == pytest.approx([*once[:3], 6 * once[3]], rel=1e-9)


def test_long_waves_count_most() -> None:
    """Two errors of one NMAE: that of twice the wave length makes four times the potential."""
    x = np.arange(48).reshape(-1, 1, 1) / 48
    true = np.ones((48, 4, 4))
    long, short = (true + 0.1 * np.cos(2 * math.pi * k * x) for k in (1, 2))
    lattice = np.diag([6.0, 2.0, 2.0])
    assert metrics.nmae(long, true) == pytest.approx(metrics.nmae(short, true), rel=1e-2)
    hartree = [metrics.hartree_error(of, true, lattice) for of in (long, short)]
    assert hartree[0] == pytest.approx(4 * hartree[1], rel=1e-2)


def test_charges_at_the_wrong_atom() -> None:
    true = np.ones((3, 4, 6))
    moved = true.copy()
    moved[..., :3] += 0.2
    moved[..., 3:] -= 0.2
    assert metrics.charge_error(moved, true, Halves()) == pytest.approx(0.1)
    assert metrics.charge_error(moved, true, Halves(), unit="e_per_A3", volume=5.0) == pytest.approx(0.5)
    p, t = density(9), density(10)
    missing = metrics.electron_error(p, t).electrons
    assert metrics.charge_error(p, t, Halves()) >= abs(missing) / 2 * (1 - 1e-12)
    with pytest.raises(ValueError, match="need the cell volume"):
        metrics.charge_error(p, t, Halves(), unit="e_per_A3")


def test_no_error_and_nothing_to_divide_by() -> None:
    t, zero = density(11), np.zeros((6, 5, 4))
    assert metrics.measure(t, t, lattice=SKEW, atoms=Halves())[-5:] == (0.0,) * 5
    assert metrics.measure(zero, zero, lattice=SKEW, atoms=Halves())[-5:] == (0.0,) * 5
    assert metrics.hartree_error(t, zero, SKEW) == math.inf
    assert metrics.gradient_error(t, zero, SKEW) == math.inf
    assert metrics.coulomb_energy(t, zero, SKEW).per_electron == math.inf
    # A uniform background makes no potential.
    assert metrics.hartree_error(t + 1.0, t, SKEW) == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match=r"give \(nx, ny, nz\)"):
        metrics.hartree_error([1.0, 2.0], [1.0, 1.0], SKEW)


def test_measure_is_all_of_them() -> None:
    p, t = density(5), density(6)
    volume = abs(float(np.linalg.det(SKEW)))
    got = metrics.measure(p, t, unit="e_per_A3", lattice=SKEW, atoms=Halves())
    electrons = metrics.electron_error(p, t, unit="e_per_A3", volume=volume)
    of_electrons = dict(zip(("electron_error", "electron_error_relative"), electrons, strict=True))
    energy = metrics.coulomb_energy(p, t, SKEW, unit="e_per_A3")
    of_cell = {
        "hartree_error": metrics.hartree_error(p, t, SKEW, unit="e_per_A3"),
        "coulomb_energy": energy.energy,
        "coulomb_energy_per_electron": energy.per_electron,
        "gradient_error": metrics.gradient_error(p, t, SKEW),
        "charge_error": metrics.charge_error(p, t, Halves(), unit="e_per_A3", volume=volume),
    }
    others = {
        name: getattr(metrics, name)(p, t) for name in got._fields if name not in of_electrons | of_cell
    }
    assert got._asdict() == others | of_electrons | of_cell
    assert others.keys() == {"nmae", "chi_square", "hellinger", "jensen_shannon", "relative_mae"}
    assert list(metrics.UNITS) == list(got._fields)


def test_measure_without_a_lattice_leaves_out_what_needs_it() -> None:
    p, t = density(5).ravel(), density(6).ravel()
    got = metrics.measure(p, t, unit="e_per_A3", volume=3.0)
    assert got[-5:] == (None,) * 5
    assert got.electron_error == metrics.electron_error(p, t, unit="e_per_A3", volume=3.0).electrons
