"""The expected coverage of a material's voxels by patches."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tomat.sampling import Electrons, Tiling, Uniform, tiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.sampling import Sampler

type Shape = tuple[int, int, int]
type Pmf = NDArray[np.float64]


def is_bound(sampler: Sampler) -> bool:
    """Whether :func:`expected_coverage` is an upper bound of the expectation."""
    return isinstance(sampler, Electrons)


def added(a: Pmf, b: Pmf) -> Pmf:
    """The sum of two histograms, of the length of the longer one."""
    width = max(len(a), len(b))
    total: Pmf = np.pad(a, (0, width - len(a))) + np.pad(b, (0, width - len(b)))
    return total


def mean_shares(covered: Pmf, voxels: Pmf) -> dict[str, float]:
    """Coverage of the mean material and of all voxels, from the share ``covered`` of each material's ``voxels``."""
    if not len(covered):
        return {"mean_material": 0.0, "of_all_voxels": 0.0}
    return {"mean_material": float(covered.mean()), "of_all_voxels": float(covered @ voxels / voxels.sum())}


def expected_coverage(grid: Shape, patch: Shape, n: int, sampler: Sampler) -> float | None:
    """The expected fraction of a material's voxels that ``n`` patches cover; None if unknown for the sampler.

    - ``uniform``: ``1 - (1 - p)^n`` with ``p = prod min(P, n_axis) / n_axis``, the probability that a patch covers a
      given voxel; without replacement ``1 - C(N - B, n) / C(N, n)`` with N origins, of which ``B = p N`` cover it.
    - ``tiling``: exact, see :func:`expected_histogram`.
    - ``electrons``: the value of ``uniform``, an upper bound, since the mean of ``1 - (1 - p_v)^n`` over voxels is
      largest if all p_v are equal (Jensen). Unknown without replacement.
    """
    if isinstance(sampler, Tiling):
        return 1.0 - float(_tiling(grid, patch, n)[0])
    if isinstance(sampler, Electrons) and not sampler.replacement:
        return None
    if not isinstance(sampler, Uniform | Electrons):
        return None
    origins = math.prod(grid)
    covering = math.prod(min(p, g) for p, g in zip(patch, grid, strict=True))
    if sampler.replacement:
        return -math.expm1(n * math.log1p(-covering / origins)) if covering < origins else float(n > 0)
    if n > origins - covering or n >= origins:
        return 1.0
    return -math.expm1(_log_choose(origins - covering, n) - _log_choose(origins, n))


def expected_histogram(grid: Shape, patch: Shape, n: int, sampler: Sampler) -> Pmf | None:
    """``h[k]``: the expected number of voxels that ``n`` patches cover exactly k times, float64; None if unknown.

    For ``uniform``, the number of times a patch covers a voxel is the product of those along the axes (on an axis
    shorter than the patch, ``floor(P / n)`` or one more); its distribution is convolved n times, which gives the
    binomial distribution if no axis is shorter. Without replacement, the distribution is hypergeometric, and each round
    over all origins covers every voxel ``prod P`` times. For ``tiling``, the voxels of a pass fall in up to 27 classes
    by the number of tiles along each axis; passes are independent, so their distributions are convolved.
    """
    if isinstance(sampler, Tiling):
        pmf = _tiling(grid, patch, n)
    elif isinstance(sampler, Uniform):
        pmf = _uniform(grid, patch, n, replacement=sampler.replacement)
    else:
        return None
    voxels: Pmf = pmf * float(math.prod(grid))
    return voxels


@lru_cache(maxsize=65536)
def _uniform(grid: Shape, patch: Shape, n: int, *, replacement: bool) -> Pmf:
    one = np.ones(1)
    for p, g in zip(patch, grid, strict=True):
        rounds, rest = divmod(p, g)
        axis = np.zeros(rounds + 2)
        axis[rounds], axis[rounds + 1] = 1 - rest / g, rest / g
        one = _product(one, axis)
    if replacement:
        return _power(one, n)
    origins = math.prod(grid)
    rounds, rest = divmod(n, origins)
    counts = [(times, round(share * origins)) for times, share in enumerate(one) if share > 0]
    rounds_before = np.zeros(rounds * math.prod(patch))
    result: Pmf = np.concatenate([rounds_before, _without_replacement(counts, origins, rest)])
    return result


def _without_replacement(counts: list[tuple[int, int]], total: int, drawn: int) -> Pmf:
    """The distribution of the sum of ``drawn`` values of a population of ``total``, given the count of each value."""
    width = drawn * max(value for value, _ in counts) + 1
    # The distribution of the sum so far, by the number still to be drawn.
    states: dict[int, Pmf] = {drawn: np.eye(1, width)[0]}
    for value, count in counts:
        after: dict[int, Pmf] = {}
        for left, sums in states.items():
            for k, probability in enumerate(_hypergeometric(total, count, left)):
                if probability > 0:
                    moved = np.zeros(width)
                    moved[value * k :] = sums[: width - value * k] * probability
                    after[left - k] = after[left - k] + moved if left - k in after else moved
        total -= count
        states = after
    return states[0]


def _product(a: Pmf, b: Pmf) -> Pmf:
    """The distribution of the product of two independent counts; ``a`` of length one is the count 1."""
    a = np.array([0.0, 1.0]) if len(a) == 1 else a
    found = np.zeros((len(a) - 1) * (len(b) - 1) + 1)
    for (i, x), (j, y) in itertools.product(enumerate(a), enumerate(b)):
        found[i * j] += x * y
    return _trim(found)


def _power(pmf: Pmf, n: int) -> Pmf:
    """The distribution of the sum of ``n`` independent counts."""
    result = np.ones(1)
    while n:
        if n & 1:
            result = np.convolve(result, pmf)
        n >>= 1
        if n:
            pmf = np.convolve(pmf, pmf)
    return result


def _trim(pmf: Pmf) -> Pmf:
    return np.trim_zeros(pmf, "b") if pmf[1:].any() else pmf[:1]


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _hypergeometric(total: int, marked: int, drawn: int) -> Pmf:
    """The distribution of marked items among ``drawn`` of ``total``, of which ``marked`` are marked."""
    pmf = np.zeros(min(marked, drawn) + 1)
    whole = _log_choose(total, drawn)
    for k in range(max(0, drawn - (total - marked)), len(pmf)):
        pmf[k] = math.exp(_log_choose(marked, k) + _log_choose(total - marked, drawn - k) - whole)
    result: Pmf = pmf / pmf.sum()
    return result


@lru_cache(maxsize=65536)
def _tiling(grid: Shape, patch: Shape, n: int) -> Pmf:
    disjoint, whole = tiles(grid, patch)
    passes, rest = divmod(n, whole)
    return np.convolve(
        _power(_pass(grid, patch, disjoint, whole, whole), passes),
        _pass(grid, patch, disjoint, whole, rest) if rest else np.ones(1),
    )


@lru_cache(maxsize=65536)
def _pass(grid: Shape, patch: Shape, disjoint: int, whole: int, n: int) -> Pmf:
    """The distribution of how often the first ``n`` patches of a pass cover a random voxel."""
    found = np.zeros(1)
    for classes in itertools.product(*[_classes(g, p) for g, p in zip(grid, patch, strict=True)]):
        share = math.prod(c[0] for c in classes)
        times = math.prod(c[1] for c in classes)
        covering = math.prod(c[2] for c in classes)
        by_disjoint = int(all(c[3] for c in classes))
        if n <= disjoint:
            pmf = np.array([1 - by_disjoint * n / disjoint, by_disjoint * n / disjoint])
        else:
            others = _hypergeometric(whole - disjoint, covering - by_disjoint, n - disjoint)
            pmf = np.concatenate([np.zeros(by_disjoint), others])
        spread = np.zeros((len(pmf) - 1) * times + 1)
        spread[::times] = pmf
        found = added(found, share * spread)
    return _trim(found)


def _classes(points: int, patch: int) -> list[tuple[float, int, int, bool]]:
    """Classes of voxels along an axis: share, times a tile covers them, number of tiles, whether one is disjoint."""
    if points <= patch:
        rounds, rest = divmod(patch, points)
        found = [((points - rest) / points, rounds, 1, True), (rest / points, rounds + 1, 1, True)]
    elif points % patch == 0:
        found = [(1.0, 1, 1, True)]
    else:
        gap = points % patch
        found = [
            ((points - patch) / points, 1, 1, True),
            ((patch - gap) / points, 1, 2, True),
            (gap / points, 1, 1, False),
        ]
    return [item for item in found if item[0] > 0]
