"""The spread of the mean NMAE over subsets of materials, plain and stratified by electrons.

A subset is what ``tomat eval --sample N --sample-seed S`` draws. The study draws it for many seeds from the materials
of a finished result, so that every mean is one that an evaluation of the subset would have given.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.dataset.subset import draw_names, draw_stratified
from tomat.view.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

#: Sizes of subsets; 200 is what the field evaluates.
SIZES = (10, 20, 50, 100, 200)
#: Subsets of each size.
DRAWS = 1000
_STRATA = 10

type Row = Mapping[str, Any]


@dataclass(frozen=True)
class Pool:
    """Materials with a number each.

    Attributes:
        names: of the materials.
        values: the number of each: an NMAE, or the difference of two.
        electrons: of each.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    electrons: NDArray[np.float64]

    @classmethod
    def of(
        cls, rows: Mapping[str, Row], minus: Mapping[str, Row] | None = None, metric: str = "nmae"
    ) -> Pool:
        """From the rows of a mode by material; ``minus``: rows of another, whose metric is subtracted.

        Raises:
            ValueError: no materials, or a metric that is missing.
        """
        names = sorted(rows.keys() if minus is None else rows.keys() & minus.keys())
        if not names:
            raise ValueError("no materials to draw from")
        try:
            values = np.array([rows[name][metric] for name in names], dtype=np.float64)
            if minus is not None:
                values = values - np.array([minus[name][metric] for name in names], dtype=np.float64)
        except (KeyError, TypeError) as error:
            raise ValueError(f"a material has no {metric}: {error}") from error
        electrons = np.array([rows[name]["n_electrons"] for name in names], dtype=np.float64)
        return cls(tuple(names), values, electrons)

    @property
    def deviation(self) -> float:
        """Standard deviation over materials."""
        return float(self.values.std(ddof=1))

    @property
    def deviation_within(self) -> float:
        """The same within the deciles of electrons: what stratifying leaves."""
        order = sorted(range(len(self.names)), key=lambda i: (self.electrons[i], self.names[i]))
        parts = np.array_split(self.values[order], min(_STRATA, len(order) // 2))
        return float(np.sqrt(np.mean([part.var(ddof=1) for part in parts])))


def spread(pool: Pool, n: int, *, draws: int, stratified: bool, first_seed: int = 0) -> dict[str, float]:
    """The means of subsets of ``n`` materials: their standard deviation, 95 % range and bias.

    ``unlimited`` is the standard deviation for subsets of a pool without end, where none holds a large part of it:
    the deviation over materials (within deciles, if stratified) divided by sqrt(n).
    """
    index = {name: i for i, name in enumerate(pool.names)}
    electrons = dict(zip(pool.names, pool.electrons.tolist(), strict=True))
    means = np.empty(draws)
    for k in range(draws):
        seed = first_seed + k
        drawn = (
            draw_stratified(pool.names, n, electrons, seed) if stratified else draw_names(pool.names, n, seed)
        )
        means[k] = pool.values[[index[name] for name in drawn]].mean()
    low, high = np.quantile(means, [0.025, 0.975])
    over = pool.deviation_within if stratified else pool.deviation
    return {
        "deviation": float(means.std(ddof=1)),
        "low": float(low),
        "high": float(high),
        "bias": float(means.mean() - pool.values.mean()),
        "unlimited": over / float(np.sqrt(n)),
    }


def study(
    pools: Mapping[str, Pool], *, sizes: Sequence[int] = SIZES, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """The spread for each pool and size, as JSON with tables.

    Args:
        pools: by name.
        sizes: of the subsets; those that a pool does not have are left out.
        draws: subsets of each size.
        seed: of the first subset; the others have the seeds that follow.
    """
    found = {
        name: {
            "materials": len(pool.names),
            "mean": float(pool.values.mean()),
            "deviation": pool.deviation,
            "deviation_within_deciles": pool.deviation_within,
            "sizes": {
                str(n): {
                    kind: spread(pool, n, draws=draws, stratified=kind == "stratified", first_seed=seed)
                    for kind in ("plain", "stratified")
                }
                for n in sizes
                if n < len(pool.names)
            },
        }
        for name, pool in pools.items()
    }
    return {
        "draws": draws,
        "seed": seed,
        "pools": found,
        "tables": [asdict(_table(name, facts)) for name, facts in found.items()],
    }


def _table(name: str, facts: Mapping[str, Any]) -> Table:
    columns = ("95 % of subsets", "unlimited pool")
    head = ("materials drawn", "plain", *columns, "stratified", *columns)
    rows = []
    for n, kinds in facts["sizes"].items():
        cells = [n]
        for kind in ("plain", "stratified"):
            one = kinds[kind]
            cells += [
                f"{100 * one['deviation']:.3f}",
                f"{100 * one['low']:.2f} to {100 * one['high']:.2f}",
                f"{100 * one['unlimited']:.3f}",
            ]
        rows.append(tuple(cells))
    note = (
        f"{facts['materials']} materials, mean {100 * facts['mean']:.3f} points, standard deviation over materials "
        f"{100 * facts['deviation']:.2f}, within deciles of electrons {100 * facts['deviation_within_deciles']:.2f}"
    )
    return Table(name, head, tuple(rows), note=note)
