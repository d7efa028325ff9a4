"""The table of the study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.studies.scf.study import EXACT

#: In eV.
_RYDBERG = 13.605693


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A row for each crystal and the means: NMAE, Hartree error and error of the bands of each start, SCF iterations.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("no crystals were measured")
    starts = [name for name in rows[0]["starts"] if name != EXACT]
    with_scf = any("scf" in row for row in rows)
    head = ["crystal", "k points, states"]
    head += [f"NMAE {name}, %" for name in starts]
    head += [f"Hartree error {name}, meV" for name in starts]
    head += [f"bands {name}, meV" for name in (*starts, EXACT)]
    head += [f"iterations {name}" for name in ("superposition", *starts, EXACT)] if with_scf else []
    body = [_line(row, starts, with_scf=with_scf) for row in rows]
    numbers = np.array([values for _, _, values in body], dtype=np.float64)
    lines = [[f"{name}", sizes, *_cells(values, starts)] for name, sizes, values in body]
    for name, average in (("mean", np.mean), ("median", np.median)):
        # Of the crystals that have the number.
        columns = (column[~np.isnan(column)] for column in numbers.T)
        values = [float(average(column)) if column.size else np.nan for column in columns]
        lines.append([f"**{name}**", "", *_cells(values, starts)])
    table = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in table) + "\n"


def cycles(rows: Sequence[dict[str, Any]]) -> str:
    """A row for each crystal with SCF, and their means: first energy, first estimated accuracy and wall time by start.

    The first energy is that of the first iteration less the converged one, in meV an atom; the wall time is that of
    ``pw.x`` and of the prediction. Nothing if there are no crystals with SCF.
    """
    rows = [row for row in rows if "scf" in row and "atoms" in row]
    if not rows:
        return ""
    starts = ["superposition", *(name for name in rows[0]["starts"] if name != EXACT), EXACT]
    head = ["crystal", *(f"first energy {name}, meV/atom" for name in starts)]
    head += [f"first accuracy {name}, mRy" for name in starts] + [f"{name}, s" for name in starts]
    numbers = np.array([_cycle(row, starts) for row in rows])
    named = [f"{row['formula']} `{row['task_id']}`" for row in rows]
    lines = [[name, *(f"{x:.3g}" for x in values)] for name, values in zip(named, numbers, strict=True)]
    lines.append(["**mean**", *(f"{x:.3g}" for x in np.abs(numbers).mean(axis=0))])
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines]) + "\n"


def _cycle(row: dict[str, Any], starts: Sequence[str]) -> list[float]:
    found = [row if name == "superposition" else row["starts"][name] for name in starts]
    runs = [one["scf"] for one in found]
    energies = [1000 * _RYDBERG * (run["first_energy"] - row["scf"]["energy"]) / row["atoms"] for run in runs]
    seconds = [
        run["seconds"] + one.get("prediction_seconds", 0.0) for run, one in zip(runs, found, strict=True)
    ]
    return [*energies, *(1000 * run["first_accuracy"] for run in runs), *seconds]


def in_words(rows: Sequence[dict[str, Any]]) -> str:
    """How the error of the bands follows from the other two, over all starts; and by start, as a share of the first's.

    Correlations are of logarithms; densities without an error of their bands are left out.
    """
    starts = [name for name in rows[0]["starts"] if name != EXACT]
    mean = {name: float(np.mean([row["starts"][name]["band_error"] for row in rows])) for name in starts}
    first = starts[0]
    lines = [
        f"Bands from {name}: {mean[name]:.0f} meV on average, {100 * mean[name] / mean[first]:.0f} % of {first}."
        for name in starts[1:]
    ]
    found = [row["starts"][name] for row in rows for name in starts]
    found = [one for one in found if min(one["band_error"], one["hartree_error"], one["nmae"]) > 0.0]
    if len(found) > 2:
        bands, hartree, nmae = (
            np.log([one[key] for one in found]) for key in ("band_error", "hartree_error", "nmae")
        )
        ratio = np.exp(bands - hartree)
        lines.append(
            f"Over {len(found)} densities, the error of the bands is {ratio.min():.2f} to {ratio.max():.2f} times the "
            f"Hartree error, {ratio.mean():.2f} on average; correlation of logarithms "
            f"{_correlation(bands, hartree):.2f}, with NMAE {_correlation(bands, nmae):.2f}."
        )
    return "\n".join(lines) + "\n" if lines else ""


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def _line(row: dict[str, Any], starts: Sequence[str], *, with_scf: bool) -> tuple[str, str, list[float]]:
    found = row["starts"]
    values = [100.0 * found[name]["nmae"] for name in starts]
    values += [found[name]["hartree_error"] for name in starts]
    values += [_or_nan(found[name]["band_error"]) for name in (*starts, EXACT)]
    if with_scf:
        runs = [row, *(found[name] for name in (*starts, EXACT))]
        values += [_or_nan(run.get("scf", {}).get("iterations")) for run in runs]
    return f"{row['formula']} `{row['task_id']}`", f"{row['k_points']}, {row['states']}", values


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _cells(values: Sequence[float], starts: Sequence[str]) -> list[str]:
    n = len(starts)
    formats = ["{:.2f}"] * n + ["{:.0f}"] * (2 * n) + ["{:.1g}"] + ["{:.3g}"] * (n + 2)
    return [
        "-" if np.isnan(value) else form.format(value) for form, value in zip(formats, values, strict=False)
    ]
