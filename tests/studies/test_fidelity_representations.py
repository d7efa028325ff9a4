"""Ways of writing a density down: token counts by hand, and the facts the study rests on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import tomat
from tomat import metrics
from tomat.material import Material
from training.studies.fidelity.representations import (
    Field,
    Quantiser,
    Representation,
    Written,
    direct,
    downsampled,
    fourier,
    voxel_cutoff,
)

CELL = np.array([[3.0, 0.0, 0.0], [-1.5, 2.6, 0.0], [0.0, 0.3, 4.0]])


def made(seed: int, shape: tuple[int, int, int] = (6, 5, 8), *, negatives: bool = True) -> Material:
    rng = np.random.default_rng(seed)
    values = 10.0 ** rng.uniform(-3, 3, shape)
    if negatives:
        values[rng.random(shape) < 0.1] *= -1
    return Material.of(f"made-{seed}", values, "chgcar", CELL, [14], [[0.0, 0.0, 0.0]])


def write(way: Representation, material: Material, parameter: float = float("nan")) -> Written:
    return way.prepare(Field.of(material))(parameter)


def nmae(written: Written, material: Material) -> float:
    return metrics.nmae(written.values, material.density)


@pytest.fixture(scope="module")
def smooth(data: Path) -> list[Material]:
    """Norm-conserving densities."""
    return [tomat.read(path) for path in sorted((data / "rho_gga" / "label").glob("qe*"))]


# --- direct -------------------------------------------------------------------------------------------------


def test_direct_is_exact() -> None:
    material = made(0)
    got = write(direct(), material)
    np.testing.assert_array_equal(got.values, material.density)
    assert (got.numbers, got.tokens) == (240, 240)


@pytest.mark.parametrize("name", ["lmq-16k", "two_token_9_12", "tomol_3byte"])
def test_direct_through_a_codec(name: str) -> None:
    """What the codec itself says, in the unit it wants."""
    codec = tomat.load_codec(name)
    material = made(1)
    got = write(direct(Quantiser.of(codec, "chgcar")), material)
    expected = codec.decode(codec.encode(material.density.ravel()))
    np.testing.assert_array_equal(got.values.ravel(), expected)
    assert got.tokens == 240 * len(codec.sizes)
    other = write(direct(Quantiser.of(codec, "chgcar")), material.in_unit("e_per_A3"))
    np.testing.assert_allclose(other.values * material.volume, got.values, rtol=2e-3, atol=0.1)


def test_unit_of_a_codec() -> None:
    """A codec in e/A^3 sees e/A^3."""
    codec = tomat.LloydMaxCodec([1.0], [0.5, 1.5], 2.0, unit="e_per_A3")
    material = made(2, negatives=False)
    got = write(direct(Quantiser.of(codec, "chgcar")), material)
    expected = np.where(material.in_unit("e_per_A3").density >= 1.0, 1.5, 0.5) * material.volume
    np.testing.assert_allclose(got.values, expected, rtol=1e-12)


def test_unsigned_codec_on_both_signs_takes_a_sign() -> None:
    codec = tomat.LloydMaxCodec([1.0], [0.5, 1.5], 2.0)
    values, tokens = Quantiser.of(codec, "chgcar").through(np.array([-3.0, 0.0, 0.2, -0.2]), 1.0, signed=True)
    np.testing.assert_array_equal(values, [-1.5, 0.0, 0.5, -0.5])
    assert tokens == 8
    values, tokens = Quantiser.of(codec, "chgcar").through(np.array([-3.0, 0.2]), 1.0, signed=False)
    np.testing.assert_array_equal(values, [0.5, 0.5])
    assert tokens == 2
    log = Quantiser.of(tomat.load_codec("two_token_9_12"), "chgcar")
    values, tokens = log.through(np.array([-3.0]), 2.0, signed=True)
    assert values[0] == pytest.approx(-3.0, rel=1e-4)
    assert tokens == 2


# --- voxel cutoff -------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0), st.floats(1e-3, 1e3), st.floats(1e-6, 1.0))
def test_cutoff_loses_the_mass_it_drops(seed: int, fraction: float, threshold: float, mass: float) -> None:
    material = made(seed)
    sizes = np.sort(np.abs(material.density.ravel().astype(np.float64)))[::-1]
    for by, parameter in (("fraction", fraction), ("threshold", threshold), ("mass", mass)):
        got = write(voxel_cutoff(by, (parameter,)), material, parameter)
        assert got.tokens == 2 * got.numbers
        kept = got.values != 0
        assert kept.sum() == got.numbers
        np.testing.assert_array_equal(got.values[kept], material.density[kept])
        dropped = sizes[got.numbers :].sum() / sizes.sum()
        assert nmae(got, material) == pytest.approx(dropped, rel=1e-12, abs=1e-15)
        if by == "fraction":
            assert got.numbers == round(fraction * sizes.size)
        elif by == "threshold":
            assert got.numbers == np.count_nonzero(sizes / material.volume >= threshold)
        else:
            assert dropped <= 1 - mass + 1e-12
            fewer = sizes[: got.numbers - 1].sum()
            assert fewer < mass * sizes.sum() * (1 + 1e-12)


def test_cutoff_of_nothing_and_of_all() -> None:
    zero = Material.of("zero", np.zeros((2, 2, 2)), "chgcar", CELL, [1], [[0, 0, 0]])
    assert write(voxel_cutoff("mass", ()), zero, 0.9).tokens == 0
    assert write(voxel_cutoff("threshold", ()), zero, 0.1).tokens == 0
    steps = Material.of(
        "steps", np.reshape([1, 2, 3, 2, 0, -2], (1, 2, 3)), "e_per_A3", CELL, [1], [[0, 0, 0]]
    )
    assert write(voxel_cutoff("threshold", ()), steps, 2.0).numbers == 4
    material = made(3)
    for by in ("fraction", "mass"):
        got = write(voxel_cutoff(by, ()), material, 1.0)
        np.testing.assert_array_equal(got.values, material.density)
    with pytest.raises(ValueError, match="choose one of fraction, threshold, mass"):
        voxel_cutoff("size", ())


# --- Fourier ------------------------------------------------------------------------------------------------


def test_full_fourier_is_exact(smooth: list[Material]) -> None:
    for material in [*smooth, made(4)]:
        got = write(fourier("fraction", ()), material, 1.0)
        assert got.tokens == got.numbers == material.density.size
        assert nmae(got, material) < 2e-15


def test_fourier_beats_the_cutoff_by_two_orders(smooth: list[Material]) -> None:
    """At the same share of real numbers kept, smooth densities; the mean over materials, as the tables have it."""
    assert len(smooth) >= 14
    low_pass, cutoff = fourier("fraction", ()), voxel_cutoff("fraction", ())
    for share, times in ((0.1, 100.0), (0.2, 300.0), (0.3, 1000.0)):
        pairs = [(write(low_pass, m, share), write(cutoff, m, share), m) for m in smooth]
        assert all(a.numbers <= b.numbers + 1 for a, b, _ in pairs)
        fourier_error = np.mean([nmae(a, m) for a, _, m in pairs])
        cutoff_error = np.mean([nmae(b, m) for _, b, m in pairs])
        assert fourier_error * times < cutoff_error


def test_fourier_keeps_the_electrons(smooth: list[Material]) -> None:
    """G = 0 is always kept: the low-pass has the number of electrons to rounding."""
    for g_max in (1e-9, 5.0, 15.0):
        got = write(fourier("g_max", ()), smooth[0], g_max)
        assert abs(metrics.electron_error(got.values, smooth[0].density).relative) < 1e-12
    assert write(fourier("g_max", ()), smooth[0], 1e-9).tokens == 1


def test_fourier_through_a_codec(smooth: list[Material]) -> None:
    """Each real number has the codec's tokens and error: the sum of the parts, by Parseval."""
    codec = Quantiser.of(tomat.load_codec("two_token_9_12"), "chgcar")
    material = smooth[0]
    exact, coded = fourier("g_max", ()), fourier("g_max", (), codec)
    a, b = write(exact, material, 8.0), write(coded, material, 8.0)
    assert b.numbers == a.numbers
    assert b.tokens == 2 * a.tokens
    # A half step of the log codec is 1e-5 of a number, and at most 10^-4.127 where it is below its range.
    rms = np.sqrt(np.mean((a.values - b.values) ** 2))
    scale = np.sqrt(np.mean(a.values**2))
    assert 0.0 < rms < 2e-5 * scale + 10**-4.127 * np.sqrt(2 * a.numbers)
    with pytest.raises(ValueError, match="choose one of g_max, fraction"):
        fourier("index", ())


def test_fourier_does_not_depend_on_the_choice_of_cell(smooth: list[Material]) -> None:
    """A supercell has the same density, so the same |G|: as many coefficients a cell, the same error."""
    material = next(m for m in smooth if m.density.size < 20_000)
    big = material.supercell((2, 1, 1))
    one, two = write(fourier("g_max", ()), material, 12.0), write(fourier("g_max", ()), big, 12.0)
    assert nmae(two, big) == pytest.approx(nmae(one, material), rel=1e-6)


# --- coarse grids -------------------------------------------------------------------------------------------


def test_downsampling_of_a_band_limited_density(smooth: list[Material]) -> None:
    """Exact for what the coarse grid holds; and what it took is the coarse grid."""
    for material in smooth[:4]:
        limited = write(downsampled(()), material, 2.0)
        assert limited.tokens == np.prod([round(n / 2) for n in material.grid_shape])
        again = Material.of("again", limited.values, "chgcar", material.lattice, [1], [[0, 0, 0]])
        # Only the float32 of the material is lost.
        assert nmae(write(downsampled(()), again, 2.0), again) < 1e-6
        assert nmae(write(downsampled(()), material, 1.0), material) == 0.0


def test_downsampling_through_a_codec(smooth: list[Material]) -> None:
    codec = Quantiser.of(tomat.load_codec("tomol_3byte"), "chgcar")
    plain, coded = write(downsampled(()), smooth[0], 1.5), write(downsampled((), codec), smooth[0], 1.5)
    assert coded.tokens == 3 * plain.tokens
    assert 0 < metrics.nmae(coded.values, plain.values) < 1e-5


# --- differences --------------------------------------------------------------------------------------------


def test_field_of_a_difference() -> None:
    material = made(5)
    reference: NDArray[np.float64] = np.ones(material.grid_shape)
    field = Field.of(material, reference)
    assert field.signed
    assert not Field.of(material).signed
    np.testing.assert_array_equal(field.values, material.density.astype(np.float64) - 1.0)
    assert field.per("e_per_A3") == pytest.approx(1 / material.volume)
