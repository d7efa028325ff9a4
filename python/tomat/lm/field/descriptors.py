"""Descriptors of a place in a crystal that do not depend on which elements are there: what spherical atoms add up to.

Smoothed densities, a Laplacian and neutral-atom potentials of the promolecule are sums over atoms of radial functions.
Each function is fitted by those that the core sums anyway, so that a descriptor is one more sum with fixed weights.
What a network learns of them carries over to elements that it has seen little of, see docs/models.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomat.lm.field.elements import stretches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat import _core
    from tomat.lm.field.config import FieldShape
    from tomat.promolecule import UnscaledPromolecule

    type Floats = NDArray[np.float64]

#: e^2 / (4 pi epsilon_0) in eV angstrom.
_COULOMB = 14.39964548
#: Radii in angstrom and wave numbers in 1/angstrom of the transforms; distances at which functions are fitted.
_RADII, _WAVES = np.linspace(0.0, 12.0, 601), np.linspace(0.01, 20.0, 1000)
_FITTED = 240
#: Relative size of the ridge of a fit: some splines can hardly be told apart at the fitted distances.
_RIDGE = 1e-6


@dataclass(frozen=True)
class Descriptor:
    """A radial function of every element, in wave numbers: transforms (elements, waves) of densities to others.

    Attributes:
        kind: ``density`` (e/A^3), ``laplacian`` (e/A^5) or ``potential`` (eV, of the electrons and a nucleus that makes
            the atom neutral).
        width: standard deviation in angstrom of the Gaussian that smooths it; of a potential, the nucleus too.
    """

    kind: str
    width: float

    def transform(self, density: Floats) -> Floats:
        """The function's transform (elements, waves) from that of the density in electrons."""
        square = _WAVES**2
        smooth = np.exp(-0.5 * square * self.width**2)
        if self.kind == "density":
            return density * smooth
        if self.kind == "laplacian":
            return -square * density * smooth
        # The first wave number is as good as zero.
        return 4 * np.pi * _COULOMB * (density - density[:, :1]) * smooth / square


#: In the order of the sums.
DESCRIPTORS = (
    Descriptor("density", 0.35),
    Descriptor("density", 0.7),
    Descriptor("density", 1.0),
    Descriptor("laplacian", 0.3),
    Descriptor("potential", 0.35),
    Descriptor("potential", 0.7),
)


def fixed_weights(
    shape: FieldShape, promolecule: UnscaledPromolecule, basis: _core.EnvironmentBasis
) -> NDArray[np.float32]:
    """Weights (119, functions, descriptors) of the core's radial functions by atomic number; row 0 is zero.

    Args:
        shape: of the model.
        promolecule: radial densities of the elements.
        basis: the core's functions.
    """
    elements = np.arange(1, 119)
    wave = np.sinc(np.outer(_WAVES, _RADII) / np.pi)
    radial = np.stack([promolecule.radial(int(z), _RADII) for z in elements])
    density = 4 * np.pi * (_RADII[1] - _RADII[0]) * (radial * _RADII**2) @ wave.T
    distances = np.linspace(0.0, shape.cutoff, _FITTED, endpoint=False)
    back = (_WAVES[1] - _WAVES[0]) / (2 * np.pi**2) * _WAVES[:, None] ** 2
    back = back * np.sinc(np.outer(_WAVES, distances) / np.pi)
    wanted = np.stack([part.transform(density) @ back for part in DESCRIPTORS], axis=-1)
    weights = np.zeros((119, shape.functions, len(DESCRIPTORS)), np.float32)
    # Far from an atom there are more points.
    root = np.sqrt(distances + 0.1)[:, None]
    for z in elements:
        functions = root * _functions(basis, shape, int(z), distances)
        normal = functions.T @ functions
        normal += _RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
        weights[z, : shape.radial] = np.linalg.solve(normal, functions.T @ (root * wanted[z - 1]))
    return weights


def _functions(basis: _core.EnvironmentBasis, shape: FieldShape, z: int, distances: Floats) -> Floats:
    """The core's radial functions (distances, radial) of an atom alone in a large cell."""
    edge = 4 * shape.cutoff
    points = np.zeros((len(distances), 3))
    points[:, 2] = distances / edge
    sums = basis.by_site(np.eye(3) * edge, [z], np.zeros((1, 3)), points, None, None, stretches([z]))
    return np.asarray(sums[0, :, :, 0], np.float64)
