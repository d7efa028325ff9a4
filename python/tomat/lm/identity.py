"""What a run is made of, so that a resumed one is the same run and a checkpoint says where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: The parts of a run that must not change unseen between a stop and a resume.
SECTIONS = ("data", "validation", "codec", "vocabulary", "model", "objective", "loss", "schedule")


@dataclass(frozen=True)
class Change:
    """One value that differs: its section, its place in it, and both values."""

    section: str
    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        """In words."""
        place = f"{self.section}.{self.path}" if self.path else self.section
        return f"{place}: was {_short(self.old)}, is {_short(self.new)}"


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Every value of the :data:`SECTIONS` that differs between two identities."""
    found: list[Change] = []
    for section in SECTIONS:
        _compare(section, "", old.get(section), new.get(section), found)
    return found


def check_same(
    old: dict[str, Any], new: dict[str, Any], allowed: tuple[str, ...], where: str
) -> list[Change]:
    """Refuse a resume that is not the same run; returns the changes that were allowed.

    Args:
        old: identity the run was started with.
        new: identity it would go on with.
        allowed: sections whose change was named on purpose.
        where: the run, for the message.

    Raises:
        ValueError: something else differs, or ``allowed`` names no section.
    """
    unknown = sorted(set(allowed) - set(SECTIONS))
    if unknown:
        raise ValueError(
            f"allow_change: {', '.join(unknown)} is no part of a run; known: {', '.join(SECTIONS)}"
        )
    changes = differences(old, new)
    refused = [change for change in changes if change.section not in allowed]
    if refused:
        sections = sorted({change.section for change in refused}, key=SECTIONS.index)
        lines = "\n".join(f"  {change}" for change in refused[:20])
        more = f"\n  and {len(refused) - 20} more" if len(refused) > 20 else ""
        raise ValueError(
            f"{where}: this run was started with something else:\n{lines}{more}\n"
            f"Give it another name, or say that you mean it: --allow_change '[{', '.join(sections)}]'"
        )
    return changes


def _compare(section: str, path: str, old: Any, new: Any, found: list[Change]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            _compare(section, f"{path}.{key}" if path else str(key), old.get(key), new.get(key), found)
    elif old != new:
        found.append(Change(section, path, old, new))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
