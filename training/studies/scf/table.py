"""The table of the study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.studies.scf.study import EXACT


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A row for each crystal and the means: NMAE, Hartree error and error of the bands of each start, SCF iterations.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("no crystals were measured")
    starts = [name for name in rows[0]["starts"] if name != EXACT]
    with_scf = all("scf" in row["starts"][EXACT] for row in rows)
    head = ["crystal", "k points, states"]
    head += [f"NMAE {name}, %" for name in starts]
    head += [f"Hartree error {name}, meV" for name in starts]
    head += [f"bands {name}, meV" for name in (*starts, EXACT)]
    head += [f"iterations {name}" for name in ("superposition", *starts, EXACT)] if with_scf else []
    body = [_line(row, starts, with_scf=with_scf) for row in rows]
    numbers = np.array([values for _, _, values in body], dtype=np.float64)
    lines = [[f"{name}", sizes, *_cells(values, starts)] for name, sizes, values in body]
    lines.append(["**mean**", "", *_cells(np.nanmean(numbers, axis=0).tolist(), starts)])
    lines.append(["**median**", "", *_cells(np.nanmedian(numbers, axis=0).tolist(), starts)])
    table = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in table) + "\n"


def _line(row: dict[str, Any], starts: Sequence[str], *, with_scf: bool) -> tuple[str, str, list[float]]:
    found = row["starts"]
    values = [100.0 * found[name]["nmae"] for name in starts]
    values += [found[name]["hartree_error"] for name in starts]
    values += [found[name]["band_error"] for name in (*starts, EXACT)]
    if with_scf:
        runs = [row["scf"], *(found[name]["scf"] for name in (*starts, EXACT))]
        values += [np.nan if run["iterations"] is None else run["iterations"] for run in runs]
    return f"{row['formula']} `{row['task_id']}`", f"{row['k_points']}, {row['states']}", values


def _cells(values: Sequence[float], starts: Sequence[str]) -> list[str]:
    n = len(starts)
    cells = [f"{value:.2f}" for value in values[:n]]
    cells += [f"{value:.0f}" for value in values[n : 3 * n]]
    cells += [f"{value:.2g}" for value in values[3 * n : 3 * n + 1]]
    return cells + [f"{value:.3g}" for value in values[3 * n + 1 :]]
