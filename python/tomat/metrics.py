r"""Error metrics between a predicted and a true density; the package defines them only here.

Every function takes ``(predicted, true)``, two finite arrays of one shape and unit; sums are in float64. d is predicted
- true; sums and means run over the voxels of the grid. As these have equal volumes, only metrics in electrons and eV
depend on the unit, and only those of a whole cell (``electron_error``, ``coulomb_energy``) on the number of cells.
Metrics of potential, energy and gradient need the lattice; those by atom also the atoms.

Special cases:

- Negative voxels (PAW densities have some): ``nmae``, ``relative_mae``, ``electron_error`` and ``chi_square`` use them
  as they are; ``hellinger`` and ``jensen_shannon`` compare probability distributions and clip them to zero.
- Zero or tiny voxels: ``chi_square`` and ``relative_mae`` divide by a voxel, but by no less than ``eps`` times the mean
  of \|true\|.
- A zero divisor: a true density that is zero everywhere (for ``chi_square``: whose sum is not positive) gives 0 for an
  equal prediction and infinity otherwise. A distribution without mass has distance 0 from another one without mass and
  distance 1 from any other.
- NaN or infinity: ``ValueError``.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomat import reciprocal
from tomat._statistics import Statistics, statistics, weighted_mean

__all__ = [
    "EPS",
    "FRACTION",
    "INTERVALS",
    "UNITS",
    "CoulombEnergy",
    "ElectronError",
    "Metrics",
    "Partition",
    "Statistics",
    "Unit",
    "charge_error",
    "chi_square",
    "coulomb_energy",
    "coverage",
    "electron_error",
    "gradient_error",
    "hartree_error",
    "hellinger",
    "inside",
    "jensen_shannon",
    "measure",
    "nemd",
    "nmae",
    "nmae_of_sums",
    "relative_mae",
    "statistics",
    "weighted_mean",
]

#: Smallest divisor of a voxel's error, in units of the mean of \|true\|.
EPS = 1e-6
#: Central intervals of predicted distributions, by the probability they should have.
INTERVALS = {"inside_50": 0.5, "inside_90": 0.9}


class ElectronError(NamedTuple):
    """Predicted minus true number of electrons, absolute and relative to the true number."""

    electrons: float
    relative: float


class CoulombEnergy(NamedTuple):
    """Coulomb energy of an error with itself: eV per cell, and meV per electron."""

    energy: float
    per_electron: float


class Partition(Protocol):
    """Divides the electrons of a cell among its atoms, see :mod:`tomat.hirshfeld`."""

    def charges(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean over the grid of ``values`` (nx, ny, nz) times each atom's weight, (n_atoms,).

        Values in the ``chgcar`` unit give electrons.
        """


class Metrics(NamedTuple):
    """All metrics of one material; None for those that need a lattice or atoms that were not given."""

    nmae: float
    chi_square: float
    hellinger: float
    jensen_shannon: float
    relative_mae: float
    electron_error: float
    electron_error_relative: float
    hartree_error: float | None = None
    coulomb_energy: float | None = None
    coulomb_energy_per_electron: float | None = None
    gradient_error: float | None = None
    charge_error: float | None = None


class Unit(NamedTuple):
    """How numbers are shown: times ``factor``, with the unit ``name``; differences in ``points``."""

    name: str
    factor: float
    points: str

    @classmethod
    def of(cls, name: str) -> Self:
        """A unit in which numbers are kept and shown alike."""
        return cls(name, 1.0, name)


#: Fractions are shown in per cent.
FRACTION = Unit("%", 100.0, "points")
#: The units of :class:`Metrics`.
UNITS: dict[str, Unit] = {
    **dict.fromkeys(Metrics._fields, FRACTION),
    "electron_error": Unit.of("electrons"),
    "hartree_error": Unit.of("meV"),
    "coulomb_energy": Unit.of("eV"),
    "coulomb_energy_per_electron": Unit.of("meV"),
    "charge_error": Unit.of("electrons"),
}


def nmae(predicted: ArrayLike, true: ArrayLike) -> float:
    r"""Normalised mean absolute error, sum \|d\| / sum \|true\|; 0.01 is "one per cent".

    The field's headline metric: for a non-negative density, the absolute error integrated over the cell, per electron.
    A prediction of zero everywhere scores 1.

    P. B. Jorgensen and A. Bhowmik, npj Comput. Mater. 8, 183 (2022), where it is called epsilon_mae;
    T. Koker, K. Quigley, E. Taw, K. Tibbetts, L. Li, npj Comput. Mater. 10, 161 (2024).
    """
    p, t = _pair(predicted, true)
    return nmae_of_sums(float(np.abs(p - t).sum()), float(np.abs(t).sum()))


def nmae_of_sums(error: float, true: float) -> float:
    r"""``nmae`` from sum \|d\| and sum \|true\|."""
    return _ratio(error, true)


def nemd(expected_error: ArrayLike, true: ArrayLike) -> float:
    r"""Normalised earth mover's distance, sum E\|v - true\| / sum \|true\|, of a prediction that is a distribution.

    In each voxel, v follows the distribution predicted by the model; the earth mover's (Wasserstein-1) distance between
    that distribution and the true value is the expected absolute error E\|v - true\|. For a point prediction ``nemd``
    equals ``nmae``. If the estimate is the mean of the distribution, ``nemd`` is at least the ``nmae`` (Jensen's
    inequality); the excess is the model's uncertainty.

    Args:
        expected_error: E\|v - true\| in each voxel, in the unit of ``true``; never negative.
        true: true density, of the same shape.

    Raises:
        ValueError: different shapes, or an expected error that is negative or not finite.
    """
    e, t = _pair(expected_error, true)
    if (e < 0.0).any():
        raise ValueError(f"an expected error of {float(e.min()):g}; it is never negative")
    return _ratio(float(e.sum()), float(np.abs(t).sum()))


def inside(pit: ArrayLike, probability: float) -> NDArray[np.bool_]:
    """Whether the true density lies in the central interval of this probability, in each voxel.

    Args:
        pit: in each voxel the predicted probability of less than the truth, within [0, 1].
        probability: of the interval.
    """
    return np.asarray(np.abs(np.asarray(pit, dtype=np.float64) - 0.5) <= probability / 2)


def coverage(pit: ArrayLike, probability: float) -> float:
    """Share of voxels whose true density lies in the central interval of this probability; arguments as :func:`inside`.

    Equal to the probability if the predicted distributions are calibrated (Gneiting, Balabdaoui and Raftery, J. R.
    Stat. Soc. B 69, 243 (2007)).
    """
    return float(inside(pit, probability).mean())


def chi_square(predicted: ArrayLike, true: ArrayLike, *, eps: float = EPS) -> float:
    r"""Pearson's chi-square: sum(d^2 / max(true, floor)) / sum true, with floor = eps * mean \|true\|.

    With both densities normalised it is Pearson's chi-square divergence. It penalises errors where the density is
    small: noise in vacuum counts far more than in ``nmae``.

    K. Pearson, Phil. Mag. 50, 157 (1900).
    """
    p, t = _pair(predicted, true)
    floor = _floor(t, eps)
    difference = p - t
    if floor == 0.0:
        return 0.0 if not difference.any() else math.inf
    total = float((difference * difference / np.maximum(t, floor)).sum())
    return _ratio(total, max(float(t.sum()), 0.0))


def hellinger(predicted: ArrayLike, true: ArrayLike) -> float:
    """Hellinger distance sqrt(1/2 sum (sqrt p - sqrt q)^2), each density normalised to 1; in [0, 1].

    Symmetric, and defined for zero voxels without an ``eps``. Independent of the number of electrons; see
    :func:`electron_error`.

    E. Hellinger, J. reine angew. Math. 136, 210 (1909).
    """
    p, q = (_distribution(values) for values in _pair(predicted, true))
    if p is None or q is None:
        return 0.0 if p is q else 1.0
    # sqrt p - sqrt q without its cancellation where p is close to q.
    roots = np.sqrt(p) + np.sqrt(q)
    difference = np.divide(p - q, roots, out=np.zeros_like(roots), where=roots > 0)
    return min(1.0, math.sqrt(0.5 * float((difference * difference).sum())))


def jensen_shannon(predicted: ArrayLike, true: ArrayLike) -> float:
    """Jensen-Shannon distance of the two densities, each normalised to 1; base 2, so in [0, 1].

    The square root of the divergence 1/2 KL(p, m) + 1/2 KL(q, m) with m = (p + q) / 2, as SciPy's ``jensenshannon``.
    It is summed as 1/2 m h(u) with u = (p - q) / (p + q) and h = (1 + u) ln(1 + u) + (1 - u) ln(1 - u)
    = 2 u artanh(u) + ln(1 - u^2), which is stable: the two Kullback-Leibler sums would cancel for densities closer than
    1e-8.

    J. Lin, IEEE Trans. Inf. Theory 37, 145 (1991); D. M. Endres and J. E. Schindelin, ibid. 49, 1858 (2003).
    """
    p, q = (_distribution(values) for values in _pair(predicted, true))
    if p is None or q is None:
        return 0.0 if p is q else 1.0
    both = p + q
    u = np.divide(p - q, both, out=np.zeros_like(both), where=both > 0)
    h = np.full_like(u, 2.0 * math.log(2.0))
    inside = np.abs(u) < 1.0
    v = u[inside]
    h[inside] = 2.0 * v * np.arctanh(v) + np.log1p(-v * v)
    divergence = 0.25 * float((both * h).sum()) / math.log(2.0)
    return min(1.0, math.sqrt(max(divergence, 0.0)))


def relative_mae(predicted: ArrayLike, true: ArrayLike, *, eps: float = EPS) -> float:
    r"""Mean over voxels of \|d\| / max(\|true\|, floor), with floor = eps * mean \|true\|.

    ``nmae`` weighs a voxel by its density; here all voxels count the same, so that interstitial regions and vacuum
    dominate. It is the mean absolute percentage error (MAPE) as a fraction.
    """
    p, t = _pair(predicted, true)
    floor = _floor(t, eps)
    difference = np.abs(p - t)
    if floor == 0.0:
        return 0.0 if not difference.any() else math.inf
    return float((difference / np.maximum(np.abs(t), floor)).mean())


def electron_error(
    predicted: ArrayLike, true: ArrayLike, *, unit: str = "chgcar", volume: float | None = None
) -> ElectronError:
    r"""Predicted minus true number of electrons in the cell, and that over \|true number\|.

    The number of electrons is the integral of the density: the mean over the grid in the ``chgcar`` unit
    (rho * V_cell), the mean times the cell volume in ``e_per_A3``.

    Args:
        predicted: predicted density.
        true: true density.
        unit: the unit of both.
        volume: cell volume in cubic angstrom; needed for ``e_per_A3`` only.

    Raises:
        ValueError: an unknown unit, or ``e_per_A3`` without a positive volume.
    """
    p, t = _pair(predicted, true)
    factor = _to_electrons(unit, volume)
    electrons = float((p - t).mean()) * factor
    of = abs(float(t.mean())) * factor
    return ElectronError(electrons, math.copysign(_ratio(abs(electrons), of), electrons))


def hartree_error(
    predicted: ArrayLike, true: ArrayLike, lattice: ArrayLike, *, unit: str = "chgcar"
) -> float:
    r"""Mean of \|V_H\[d\]\| in meV, weighted by the true density: sum(\|V_H\| \|true\|) / sum \|true\|.

    V_H is the Coulomb potential that d makes, V_H(G) = 4 pi e^2 d(G) / G^2 without G = 0
    (:func:`tomat.reciprocal.hartree_potential`). Long waves of d count most: a density can have a small ``nmae`` and a
    large Hartree error, and the bands that a DFT code finds from it follow the latter. The same for a supercell.

    Args:
        predicted: predicted density (nx, ny, nz).
        true: true density, of the same shape.
        lattice: (3, 3), rows a, b, c in angstrom.
        unit: the unit of both densities.

    Raises:
        ValueError: densities that are not three-dimensional, a lattice without volume, or an unknown unit.
    """
    p, t = _pair(predicted, true)
    _, potential = _potential(p, t, lattice, unit)
    weight = np.abs(t)
    total = float(weight.sum())
    error = np.abs(potential) * (weight if total > 0.0 else 1.0)
    return 1000.0 * _ratio(float(error.sum()), total)


def coulomb_energy(
    predicted: ArrayLike, true: ArrayLike, lattice: ArrayLike, *, unit: str = "chgcar"
) -> CoulombEnergy:
    r"""Coulomb energy of d with itself, 1/2 integral of d V_H\[d\] over the cell, never negative.

    In eV per cell, and in meV per electron of \|true\|, which is the same for a supercell. Arguments and errors as for
    :func:`hartree_error`.
    """
    p, t = _pair(predicted, true)
    difference, potential = _potential(p, t, lattice, unit)
    volume = abs(float(np.linalg.det(reciprocal.cell_of(lattice))))
    # Rounding may leave the energy of no error at -1e-30.
    energy = max(0.0, 0.5 * volume * float((difference * potential).mean()))
    electrons = float(np.abs(t).mean()) * _to_electrons(unit, volume)
    return CoulombEnergy(energy, 1000.0 * _ratio(energy, electrons))


def gradient_error(predicted: ArrayLike, true: ArrayLike, lattice: ArrayLike) -> float:
    r"""sum \|grad d\| / sum \|grad true\|, gradients from the Fourier components.

    What a gradient-corrected functional sees of the error. Densities in any one unit.

    Raises:
        ValueError: densities that are not three-dimensional, or a lattice without volume.
    """
    p, t = _pair(predicted, true)
    error, of = (float(reciprocal.gradient_norm(values, lattice).sum()) for values in (p - t, t))
    return _ratio(error, of)


def charge_error(
    predicted: ArrayLike,
    true: ArrayLike,
    atoms: Partition,
    *,
    unit: str = "chgcar",
    volume: float | None = None,
) -> float:
    r"""Mean over atoms of \|integral of w d\| in electrons, with the smooth weights w of each atom.

    The charge that sits at the wrong atom. With weights that add up to 1, it is at least \|``electron_error``\| per
    atom.

    Args:
        predicted: predicted density (nx, ny, nz).
        true: true density, of the same shape.
        atoms: the weights, such as :class:`tomat.hirshfeld.Hirshfeld`.
        unit: the unit of both densities.
        volume: cell volume in cubic angstrom; needed for ``e_per_A3`` only.

    Raises:
        ValueError: as :func:`electron_error`, or another grid than that of the weights.
    """
    p, t = _pair(predicted, true)
    return float(np.abs(atoms.charges((p - t) * _to_electrons(unit, volume))).mean())


def measure(
    predicted: ArrayLike,
    true: ArrayLike,
    *,
    unit: str = "chgcar",
    volume: float | None = None,
    lattice: ArrayLike | None = None,
    atoms: Partition | None = None,
) -> Metrics:
    """All metrics of one material.

    Args:
        predicted: predicted density.
        true: true density, of the same shape.
        unit: the unit of both.
        volume: cell volume in cubic angstrom, if there is no ``lattice``; needed for ``e_per_A3`` only.
        lattice: (3, 3), rows in angstrom; None leaves out Hartree error, Coulomb energy and gradient error.
        atoms: None leaves out the charge error.

    Raises:
        ValueError: as the functions of the metrics.
    """
    p, t = _pair(predicted, true)
    if lattice is not None:
        volume = abs(float(np.linalg.det(reciprocal.cell_of(lattice))))
    electrons = electron_error(p, t, unit=unit, volume=volume)
    distances = (hellinger(p, t), jensen_shannon(p, t))
    found = Metrics(nmae(p, t), chi_square(p, t), *distances, relative_mae(p, t), *electrons)
    if lattice is not None:
        energy = coulomb_energy(p, t, lattice, unit=unit)
        found = found._replace(
            hartree_error=hartree_error(p, t, lattice, unit=unit),
            coulomb_energy=energy.energy,
            coulomb_energy_per_electron=energy.per_electron,
            gradient_error=gradient_error(p, t, lattice),
        )
    if atoms is not None:
        found = found._replace(charge_error=charge_error(p, t, atoms, unit=unit, volume=volume))
    return found


def _pair(predicted: ArrayLike, true: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p = np.asarray(predicted, dtype=np.float64)
    t = np.asarray(true, dtype=np.float64)
    if p.shape != t.shape:
        raise ValueError(
            f"the predicted density has shape {p.shape}, the true one {t.shape}; they must be the same"
        )
    if p.size == 0:
        raise ValueError(f"the densities have shape {p.shape}: there is nothing to compare")
    for name, values in (("predicted", p), ("true", t)):
        # The sum is finite unless a value is not or the sum overflows; both make the metrics meaningless.
        if not math.isfinite(float(np.abs(values).sum())):
            raise ValueError(f"the {name} density holds NaN, infinite or overflowing values")
    return p, t


def _to_electrons(unit: str, volume: float | None) -> float:
    """What the mean over the grid is multiplied by to give electrons."""
    if unit not in ("chgcar", "e_per_A3"):
        raise ValueError(f"unit {unit!r} is not one of chgcar, e_per_A3")
    factor = 1.0 if unit == "chgcar" else volume
    if factor is None or not 0.0 < factor < math.inf:
        raise ValueError(f"electrons from a density in e_per_A3 need the cell volume in A^3; got {volume}")
    return factor


def _potential(
    p: NDArray[np.float64], t: NDArray[np.float64], lattice: ArrayLike, unit: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """d in electrons per cubic angstrom, and the potential it makes in eV."""
    volume = abs(float(np.linalg.det(reciprocal.cell_of(lattice))))
    difference = (p - t) * (_to_electrons(unit, volume) / volume)
    return difference, reciprocal.hartree_potential(difference, lattice)


def _distribution(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Non-negative values that sum to 1; None if there is no mass."""
    positive = np.maximum(values, 0.0)
    total = float(positive.sum())
    if total == 0.0:
        return None
    return np.asarray(positive / total)


def _floor(true: NDArray[np.float64], eps: float) -> float:
    if not eps > 0.0:
        raise ValueError(f"eps {eps} must be positive")
    return eps * float(np.abs(true).mean())


def _ratio(error: float, of: float) -> float:
    if of == 0.0:
        return 0.0 if error == 0.0 else math.inf
    return error / of
