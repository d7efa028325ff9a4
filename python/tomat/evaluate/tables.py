"""Tables of results, for the terminal and for reports; diagnostics always stand below the line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tomat.evaluate.aggregate import modes_of
from tomat.evaluate.measure import UNITS
from tomat.evaluate.methods import BASELINES, DIAGNOSTICS
from tomat.evaluate.result import Result
from tomat.metrics import FRACTION, INTERVALS, Unit
from tomat.view.table import Table

#: Names of the modes in tables.
LABELS = {
    "one_pass": "one pass",
    "k_pass": "k passes",
    "free_running": "free running",
    "teacher_forced": "teacher forced (sees true neighbours)",
    "start": "start (step 0)",
    "start_teacher_forced": "start (step 0), teacher forced",
    "promolecule": "promolecule",
    "codec_floor": "codec floor",
}
#: Names of metrics in tables and figures.
TITLES = {
    "nmae": "NMAE",
    "hartree_error": "Hartree error",
    "nemd": "NEMD",
    "nmae_scaled": "NMAE scaled",
    "electron_error_relative": "electrons",
    "inside_50": "in the 50 % interval",
    "inside_90": "in the 90 % interval",
}
#: Metrics shown next to the NMAE, as means with intervals.
_NEXT = ("hartree_error",)
#: Further metrics shown, as means.
_BESIDE = ("nemd", "nmae_scaled", "electron_error_relative", *INTERVALS)

#: Shown for a missing number.
NONE = "-"


def percent(value: float | None) -> str:
    """A fraction in per cent to three digits, without the % sign; exact zero as 0, None as ``-``."""
    if value is None:
        return NONE
    if value == 0.0:
        return "0"
    return f"{100 * value:#.3g}".rstrip(".") if abs(value) >= 1e-6 else f"{100 * value:.0e}"


def amount(value: float | None, unit: Unit) -> str:
    """A number in its unit to three digits, without the unit's name; None as ``-``."""
    if unit is FRACTION:
        return percent(value)
    if value is None:
        return NONE
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def interval(content: Mapping[str, Any], unit: Unit = FRACTION) -> str:
    """A number with its interval, as :func:`amount`."""
    text = amount(content["value"], unit)
    if content["low"] is None:
        return text
    return f"{text} ({amount(content['low'], unit)} to {amount(content['high'], unit)})"


def label(mode: str) -> str:
    """The name of a mode in tables."""
    return LABELS.get(mode, mode)


def mean_table(results: Sequence[Result]) -> Table:
    """A table with one row per result and mode."""
    rows: list[tuple[str, ...]] = []
    below: list[tuple[str, ...]] = []
    shared = shared_baselines(results)
    for result in results:
        for mode in modes_of(result.rows):
            if mode in shared and result is not results[0]:
                continue
            bare = mode in shared or len(results) == 1
            line = (label(mode) if bare else f"{result.name}, {label(mode)}", *_numbers(result, mode))
            (below if mode in DIAGNOSTICS else rows).append(line)
    level = {float(result.settings.get("level", 0.95)) for result in results}
    ends = " and ".join(f"{100 * x:g} %" for x in sorted(level))
    head = (
        "",
        "materials",
        "mean NMAE, %",
        *(f"{TITLES[name]}, {UNITS[name].name}" for name in _NEXT),
        "median NMAE, %",
        "p99 NMAE, %",
        "NMAE per electron, %",
        *(f"{TITLES[name]}, {UNITS[name].name}" for name in _BESIDE),
        "s / material",
    )
    return Table(
        "All materials",
        head,
        tuple(rows),
        tuple(below),
        f"Means over materials, with {ends} bootstrap intervals. NMAE is sum |error| / sum |density|; the "
        "Hartree error is the mean |potential that the error makes|, weighted by the density."
        + (
            " Below the line: diagnostics, which see the true density and are not predictions."
            if below
            else ""
        ),
    )


def shared_baselines(results: Sequence[Result]) -> set[str]:
    """The baselines with identical numbers in all results, which are shown once."""

    def key(result: Result, mode: str) -> dict[str, float]:
        return {name: row["nmae"] for name, row in result.of_mode(mode).items()}

    return {
        mode
        for mode in BASELINES
        if len(results) > 1 and all(key(results[0], mode) == key(result, mode) for result in results)
    }


def _numbers(result: Result, mode: str) -> tuple[str, ...]:
    content = result.aggregates[mode]
    of = content["metrics"]
    asked = len(result.identity["data"]["materials"])
    nmae = of["nmae"]

    def mean(name: str) -> str:
        return amount(of[name]["mean"]["value"], UNITS[name]) if name in of else NONE

    return (
        f"{content['n']}" if content["n"] == asked else f"{content['n']} of {asked}",
        interval(nmae["mean"]),
        *(interval(of[name]["mean"], UNITS[name]) if name in of else NONE for name in _NEXT),
        percent(nmae["median"]["value"]),
        percent(nmae["p99"]["value"]),
        interval(nmae["per_electron"]),
        *map(mean, _BESIDE),
        mean("seconds"),
    )


def group_tables(result: Result) -> list[Table]:
    """The error by electron count, category, distance to atoms, depth and order in the patch; one row per mode."""
    tables = (_grouped(result, *grouping) for grouping in _GROUPINGS)
    return [table for table in tables if table is not None]


def _grouped(
    result: Result, key: str, title: str, head: Callable[[Mapping[str, Any]], str], note: str
) -> Table | None:
    groups: dict[str, None] = {}
    lines: dict[str, dict[str, str]] = {}
    for mode in modes_of(result.rows):
        for group in result.aggregates[mode][key]:
            groups.setdefault(head(group))
            text = percent(group["nmae"]["value"])
            if "contribution" in group:
                text += f" ({percent(group['contribution'])})"
            lines.setdefault(mode, {})[head(group)] = text
    if not lines:
        return None

    def row(mode: str) -> tuple[str, ...]:
        return (label(mode), *(lines[mode].get(name, NONE) for name in groups))

    return Table(
        title,
        ("", *groups),
        tuple(row(mode) for mode in lines if mode not in DIAGNOSTICS),
        tuple(row(mode) for mode in lines if mode in DIAGNOSTICS),
        note,
    )


def _range(group: Mapping[str, Any]) -> str:
    start, end = group["from"], group["to"]
    if isinstance(start, int):
        return f"{start}" if end is not None else f">= {start}"
    return f"{start:g} to {end:g}" if end is not None else f">= {start:g}"


#: Groupings of the error: key in the aggregates, title, header of a group, note.
_GROUPINGS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], str], str], ...] = (
    ("by_decile", "By decile of electrons per cell",
     lambda group: f"{group['decile']}: {group['electrons_from']:.4g} to {group['electrons_to']:.4g}",
     "Mean NMAE in per cent; the header gives each decile's range of electrons."),
    ("by_category", "By chemical category", lambda group: f"{group['category']} ({group['n']})",
     "Mean NMAE in per cent; number of materials in parentheses."),
    ("by_distance", "By distance to the nearest atom, in angstrom", _range,
     "NMAE within the bin in per cent; the bin's contribution to the mean NMAE in parentheses."),
    ("by_depth", "By depth in the patch: grid points to its nearest face", _range, "NMAE and contribution as above."),
    ("by_order", "By decile of the row-major voxel order in the patch", lambda group: f"{group['from'] + 1}",
     "NMAE and contribution as above."),
)  # fmt: skip
