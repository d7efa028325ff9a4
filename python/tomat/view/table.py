"""Tables of text cells, for the terminal and for pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes:
        title: of the table.
        head: names of the columns.
        rows: the body; the first cell names the row.
        below: rows below the line: diagnostics.
        note: shown under the table.
        links: addresses of the rows' first cells, in the order of the rows; empty words for none.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    below: tuple[tuple[str, ...], ...] = ()
    note: str = ""
    links: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """A table as ``dataclasses.asdict`` and JSON leave it."""
        rows, below = (tuple(map(tuple, content[key])) for key in ("rows", "below"))
        links = tuple(content.get("links", ()))  # tables of earlier versions have none
        return cls(content["title"], tuple(content["head"]), rows, below, content["note"], links)
