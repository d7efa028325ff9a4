"""Tables of results, for the terminal and for pages: what a diagnostic says always stands under the line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tomat.evaluate.aggregate import modes_of
from tomat.evaluate.methods import BASELINES, DIAGNOSTICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tomat.evaluate.result import Result

#: What tables call the modes.
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
#: Metrics whose means stand beside the NMAE.
_BESIDE = {"nemd": "NEMD", "nmae_scaled": "NMAE scaled", "electron_error_relative": "electrons"}

#: Stands where there is no number.
NONE = "-"


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes:
        title: of the table.
        head: names of the columns.
        rows: the body; the first cell names the row.
        below: rows under the line: diagnostics, which no headline is made of.
        note: what a reader must know.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    below: tuple[tuple[str, ...], ...] = ()
    note: str = ""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """A table as ``dataclasses.asdict`` and JSON leave it."""
        lines = {key: tuple(map(tuple, content[key])) for key in ("rows", "below")}
        return cls(content["title"], tuple(content["head"]), **lines, note=content["note"])


def percent(value: float | None) -> str:
    """A share in per cent, to three digits, without the sign; exact zero as 0."""
    if value is None:
        return NONE
    if value == 0.0:
        return "0"
    return f"{100 * value:#.3g}".rstrip(".") if abs(value) >= 1e-6 else f"{100 * value:.0e}"


def interval(content: Mapping[str, Any]) -> str:
    """A number in per cent with its interval."""
    text = percent(content["value"])
    if content["low"] is None:
        return text
    return f"{text} ({percent(content['low'])} to {percent(content['high'])})"


def label(mode: str) -> str:
    """What tables call a mode."""
    return LABELS.get(mode, mode)


def mean_table(results: Sequence[Result]) -> Table:
    """One row a result and mode."""
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
        "median, %",
        "p99, %",
        "per electron, %",
        *(f"{name}, %" for name in _BESIDE.values()),
        "s a material",
    )
    return Table(
        "All materials",
        head,
        tuple(rows),
        tuple(below),
        f"Mean over materials, with {ends} bootstrap intervals. NMAE is sum |error| / sum |density|."
        + (" Below the line: diagnostics that see the true density; no prediction." if below else ""),
    )


def shared_baselines(results: Sequence[Result]) -> set[str]:
    """The baselines that are the same in all results, number by number: they need to be shown once."""

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
        return percent(of[name]["mean"]["value"]) if name in of else NONE

    return (
        f"{content['n']}" if content["n"] == asked else f"{content['n']} of {asked}",
        interval(nmae["mean"]),
        percent(nmae["median"]["value"]),
        percent(nmae["p99"]["value"]),
        interval(nmae["per_electron"]),
        *map(mean, _BESIDE),
        f"{of['seconds']['mean']['value']:.3g}" if "seconds" in of else NONE,
    )


def group_tables(result: Result) -> list[Table]:
    """Where the error sits: by electron count, category, distance, depth and order; the modes of one result as rows."""
    return [
        table
        for table in (
            _grouped(result, "by_decile", "By electron count", _decile, "Mean NMAE in per cent, by tenth of the "
                     "materials in order of their electrons; in the head the electrons of a cell."),
            _grouped(result, "by_category", "By chemical category", _category, "Mean NMAE in per cent; in brackets "
                     "the number of materials."),
            _grouped(result, "by_distance", "By distance from the nearest atom, in angstrom", _range, "NMAE in per "
                     "cent of the density in the bin; in brackets what the bin adds to the mean NMAE."),
            _grouped(result, "by_depth", "By depth in the patch, in grid points from its nearest face", _range,
                     "As above."),
            _grouped(result, "by_order", "By place in the patch, in tenths of the order it is written in", _tenth,
                     "As above."),
        )
        if table is not None
    ]  # fmt: skip


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


def _decile(group: Mapping[str, Any]) -> str:
    return f"{group['decile']}: {group['electrons_from']:.4g} to {group['electrons_to']:.4g}"


def _category(group: Mapping[str, Any]) -> str:
    return f"{group['category']} ({group['n']})"


def _range(group: Mapping[str, Any]) -> str:
    start, end = group["from"], group["to"]
    if isinstance(start, int):
        return f"{start}" if end is not None else f"{start} and more"
    return f"{start:g} to {end:g}" if end is not None else f"{start:g} and more"


def _tenth(group: Mapping[str, Any]) -> str:
    return f"{group['from'] + 1}"
