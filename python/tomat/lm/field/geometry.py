"""The sums of ``tomat._core.EnvironmentBasis`` as matrix products over points and atom images, for GPUs and TPUs.

Shapes: ``points`` (n, 3) Cartesian in the cell, ``images`` padded to a fixed count, so that one program serves many
crystals. Formulas are those of crates/tomat-core/src/environment.rs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

_EXACT = jax.lax.Precision.HIGHEST


class Images(NamedTuple):
    """Images of atoms near a cell: positions (images, 3) in angstrom, float32, and sites (images,), int32.

    Padding lies farther than any cutoff from everything, at site 0.
    """

    positions: jax.Array
    sites: jax.Array


class Own(NamedTuple):
    """Each atom's own density: values (sites, nodes) at equal distances from 0 to the cutoff, and factors (points,)."""

    values: jax.Array
    factors: jax.Array


@dataclass(frozen=True)
class Basis:
    """Radial and angular functions; arguments as ``EnvironmentBasis`` has them, lengths in angstrom."""

    cutoff: float
    inner: float
    radial: int
    l_max: int
    core: float
    reach: float = 1.0

    def radial_functions(self, square: jax.Array, scales: jax.Array) -> jax.Array:
        """Splines under the window (points, images, radial): squared distances (points, images), scales (images,)."""
        end = math.log1p((self.cutoff * self.reach / self.inner) ** 2)
        u = jnp.log1p(square * (scales / self.inner) ** 2) * (self.radial / end)
        away = jnp.abs(u[..., None] - (jnp.arange(self.radial) - 1.0))
        middle = (4.0 - 6.0 * away**2 + 3.0 * away**3) / 6.0
        values = jnp.where(away < 1.0, middle, jnp.maximum(2.0 - away, 0.0) ** 3 / 6.0)
        share = jnp.minimum(square / self.cutoff**2, 1.0)
        window = jnp.where(u < self.radial, (1.0 - share) ** 3, 0.0)
        return values * window[..., None]

    def own_density(self, square: jax.Array, values: jax.Array) -> jax.Array:
        """Tapered densities: squared distances (points, images), values (images, nodes), to (points, images)."""
        intervals = values.shape[-1] - 1
        x = jnp.sqrt(square) * (intervals / self.cutoff)
        first = jnp.clip(jnp.floor(x).astype(jnp.int32) - 1, 0, intervals - 3)
        t = x - first
        # Lagrange's cubic through four nodes.
        weights = (
            -(t - 1) * (t - 2) * (t - 3) / 6,
            t * (t - 2) * (t - 3) / 2,
            -t * (t - 1) * (t - 3) / 2,
            t * (t - 1) * (t - 2) / 6,
        )
        image = jnp.arange(values.shape[0])
        value = sum(w * values[image, first + i] for i, w in enumerate(weights))
        share = jnp.minimum(square / self.cutoff**2, 1.0)
        return jnp.where(share < 1.0, value * (1.0 - share**4) ** 3, 0.0)

    def functions(
        self, points: jax.Array, images: Images, scales: jax.Array, own: Own | None
    ) -> tuple[jax.Array, jax.Array]:
        """Radial (points, images, radial) and angular functions (points, images, angular); scales (sites,)."""
        d = images.positions - points[:, None]
        square = jnp.sum(d * d, -1)
        radial = self.radial_functions(square, scales[images.sites])
        if own is not None:
            density = self.own_density(square, own.values[images.sites]) * own.factors[:, None]
            radial = jnp.concatenate((radial, density[..., None]), -1)
        direction = d * jax.lax.rsqrt(square + self.core**2)[..., None]
        return radial, solid_harmonics(direction)[..., : (self.l_max + 1) ** 2]


def solid_harmonics(v: jax.Array) -> jax.Array:
    """Real solid harmonics (..., 16) of vectors (..., 3) up to l = 3, in Racah's normalisation."""
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    flat = x * x + y * y
    r3, r3_8, r5_8, r15 = math.sqrt(3), math.sqrt(3 / 8), math.sqrt(5 / 8), math.sqrt(15)
    columns = (
        jnp.ones_like(x),
        y,
        z,
        x,
        r3 * x * y,
        r3 * y * z,
        z * z - 0.5 * flat,
        r3 * x * z,
        0.5 * r3 * (x * x - y * y),
        r5_8 * y * (3 * x * x - y * y),
        r15 * x * y * z,
        r3_8 * y * (4 * z * z - flat),
        0.5 * z * (2 * z * z - 3 * flat),
        r3_8 * x * (4 * z * z - flat),
        0.5 * r15 * z * (x * x - y * y),
        r5_8 * x * (x * x - 3 * y * y),
    )
    return jnp.stack(columns, -1)


def place(lattice: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Fractional points (n, 3) as Cartesian ones in the cell, angstrom."""
    return ((points - np.floor(points)) @ lattice).astype(np.float32)


def images_near(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    cutoff: float,
    count: int | None = None,
) -> Images:
    """The images that lie within ``cutoff`` angstrom of the cell, padded to ``count``.

    Raises:
        ValueError: there are more than ``count``.
    """
    reach = cutoff * np.linalg.norm(np.linalg.inv(lattice), axis=0)
    # One more cell on each side than the reach: atoms lie anywhere in theirs.
    ranges = [np.arange(-math.ceil(r) - 1, math.ceil(r) + 2) for r in reach]
    shifts = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 3)
    frac = (frac_coords - np.floor(frac_coords))[:, None] + shifts
    kept = np.all((frac >= -reach) & (frac <= 1 + reach), axis=-1)
    sites, _ = np.nonzero(kept)
    positions = frac[kept] @ lattice
    count = len(sites) if count is None else count
    if len(sites) > count:
        raise ValueError(
            f"{len(sites)} atom images lie within {cutoff} angstrom of the cell; count is {count}"
        )
    # Squared distances of padding stay finite in float32, and beyond any cutoff.
    padded = np.full((count, 3), 1e6, np.float32)
    padded[: len(sites)] = positions
    numbers = np.zeros(count, np.int32)
    numbers[: len(sites)] = sites
    return Images(jnp.asarray(padded), jnp.asarray(numbers))


def by_site(
    basis: Basis, points: jax.Array, images: Images, scales: jax.Array, own: Own | None = None
) -> jax.Array:
    """Sums (sites, points, radial, angular) for each atom apart; with ``own``, one more radial function."""
    radial, angular = basis.functions(points, images, scales, own)
    of_site = jax.nn.one_hot(images.sites, scales.shape[0], axis=0)
    return jnp.einsum("si,pin,pim->spnm", of_site, radial, angular, precision=_EXACT)


def contracted(
    basis: Basis,
    points: jax.Array,
    images: Images,
    scales: jax.Array,
    weights: jax.Array,
    channels: tuple[int, ...],
    own: Own | None = None,
    *,
    block: int = 128,
) -> jax.Array:
    """Sums (points, sum of (2 l + 1) channels[l]) with weights (sites, radial, channels), ``block`` points at a time.

    For each l all channels of the first m, then of the next. Each image multiplies (block, radial) by (radial,
    channels); each point then (m, images) by (images, channels).
    """
    of_images = weights[images.sites]
    n = points.shape[0]
    blocks = -(-n // block)

    def cut(x: jax.Array) -> jax.Array:
        padding = [(0, blocks * block - n)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding).reshape(blocks, block, *x.shape[1:])

    def sums(part: tuple[jax.Array, jax.Array | None]) -> jax.Array:
        here = None if own is None or part[1] is None else Own(own.values, part[1])
        radial, angular = basis.functions(part[0], images, scales, here)
        values = jnp.einsum("pin,ink->pik", radial, of_images, precision=_EXACT)
        out, start = [], 0
        for degree, count in enumerate(channels):
            of_l = values[..., start : start + count]
            y = angular[..., degree**2 : (degree + 1) ** 2]
            out.append(jnp.einsum("pim,pik->pmk", y, of_l, precision=_EXACT).reshape(block, -1))
            start += count
        return jnp.concatenate(out, -1)

    parts = (cut(points), None if own is None else cut(own.factors))
    found: jax.Array = jax.lax.map(sums, parts)
    return found.reshape(blocks * block, -1)[:n]
