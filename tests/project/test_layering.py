"""The law of the house: no import upward, no circle, none hidden.

The rooms stand in :data:`ROOMS` from the ground up; docs/architecture.md shows them the same way round. What is
imported for annotations alone counts as well: who names a type of a higher room knows of it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tomat
from places import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = REPOSITORY / "python" / "tomat"

#: From the ground up; a module is in the room of the longest name it begins with.
ROOMS = (
    "tomat._core",
    "tomat._npz",
    "tomat._seal",
    "tomat._threads",
    "tomat.storage",
    "tomat.reciprocal",
    "tomat._statistics",
    "tomat.metrics",
    "tomat.sampling",
    "tomat.budget",
    "tomat.categories",
    "tomat.valence",
    "tomat.crystal",
    "tomat.symmetry",
    "tomat.formats",
    "tomat.material",
    "tomat.starting",
    "tomat.workplace",
    "tomat.codec",
    "tomat.clipping",
    "tomat.tokenizer",
    "tomat._promolecule_fit",
    "tomat.promolecule",
    "tomat.hirshfeld",
    "tomat.tail",
    "tomat.fitting",
    "tomat.fitting_relative",
    "tomat.floors",
    "tomat.catalogue",
    "tomat.dataset",
    "tomat.engine",
    "tomat.plan",
    "tomat.view",
    "tomat.prediction",
    "tomat.language",
    "tomat.densities",
    "tomat.models",
    "tomat.lm",
    "tomat.evaluate",
    "tomat.report",
    "tomat",
    "tomat.cli",
    "tomat.__main__",
)


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _imports(path: Path) -> Iterator[str]:
    """The modules of tomat that a file names in its imports, wherever they stand."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "tomat")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tomat":
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if inner in MODULES or inner == "tomat._core" else module


GRAPH = {name: set(_imports(path)) - {name} for name, path in MODULES.items()}


def _room(module: str) -> int:
    room = module if module in ROOMS else ".".join(module.split(".")[:2])
    assert room in ROOMS, f"{module}: in no room; say in ROOMS what it stands on"
    return ROOMS.index(room)


def _upward() -> list[str]:
    return [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in sorted(others)
        if _room(other) > _room(module)
    ]


def test_no_module_imports_from_a_room_above_it() -> None:
    assert not _upward(), "\n".join(_upward())


def _circles() -> list[list[str]]:
    """Tarjan's strongly connected components of more than one module."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in GRAPH.get(module, ()):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            circle = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for module in GRAPH:
        if module not in index:
            visit(module)
    return found


def test_there_is_no_circle() -> None:
    circles = _circles()
    assert not circles, "\n".join(" <-> ".join(circle) for circle in circles)


def test_what_breaks_the_law_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GRAPH, "tomat._seal", {"tomat.cli.train"})
    monkeypatch.setitem(GRAPH, "tomat.cli.train", {"tomat._seal"})
    assert ["tomat._seal", "tomat.cli.train"] in _circles()
    assert "tomat._seal imports tomat.cli.train" in _upward()


def test_no_import_is_hidden() -> None:
    """Two files load modules by name when they are used: that of the commands, and the front of the package."""
    hiding = re.compile(r"\b(import_module|__import__|sys\.modules)\b")
    hidden = {name for name, path in MODULES.items() if hiding.search(path.read_text())}
    assert hidden == {"tomat", "tomat.cli._lazy"}
    # The front imports the same modules for type checkers, so that the law sees them.
    assert {f"tomat.{module}" for module in tomat._NAMES} <= GRAPH["tomat"]
