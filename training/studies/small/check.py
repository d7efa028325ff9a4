"""Whether a study run again agrees with what was found before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Numbers without interval may differ by this factor: another machine rounds otherwise, as good as another seed.
FACTOR = 1.25
#: An interval may have no width, such as that of a difference of equal starts: another machine still rounds otherwise.
ROUNDING = 1e-6


def compare(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What is outside of the intervals of ``expected``, in words; empty if all agrees.

    Every interval of the study that was kept is looked at: the new value must lie in it, to :data:`ROUNDING`. A verdict
    may change where its interval holds the bound; it may not turn into its opposite.

    Raises:
        ValueError: the two are not the same study.
    """
    if expected["format"] != found["format"]:
        raise ValueError(f"a {expected['format']} cannot be compared with a {found['format']}")
    return [*_intervals(expected, found, ""), *_verdicts(expected, found), *_points(expected, found)]


def _intervals(expected: object, found: object, path: str) -> Iterator[str]:
    if isinstance(expected, dict):
        if {"value", "low", "high"} <= set(expected):
            low, high = expected["low"], expected["high"]
            value = found["value"] if isinstance(found, dict) else None
            if low is not None and (value is None or not low - ROUNDING <= value <= high + ROUNDING):
                yield f"{path}: {value}, expected {low:.4g} to {high:.4g}"
            return
        there = found if isinstance(found, dict) else {}
        for key, value in expected.items():
            yield from _intervals(value, there.get(key), f"{path}.{key}" if path else key)
    elif isinstance(expected, list):
        others = found if isinstance(found, list) else []
        for at, value in enumerate(expected):
            yield from _intervals(value, others[at] if at < len(others) else None, f"{path}[{at}]")


def _verdicts(expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    said = {h["name"]: h["verdict"] for h in found.get("hypotheses", [])}
    for h in expected.get("hypotheses", []):
        if {h["verdict"], said.get(h["name"])} == {"holds", "fails"}:
            yield f"{h['name']}: {said[h['name']]}, expected {h['verdict']}"


def _points(expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    there = {point["name"]: point for point in found.get("points", [])}
    for point in expected.get("points", []):
        old, new = point["patch_nmae"], there.get(point["name"], {}).get("patch_nmae")
        if new is None or not old / FACTOR <= new <= old * FACTOR:
            yield f"{point['name']}: NMAE of patches {new}, expected {old:.4g} within a factor of {FACTOR}"
