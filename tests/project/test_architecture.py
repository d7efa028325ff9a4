"""docs/architecture.md names files and functions that are there, and every room."""

from __future__ import annotations

import re

import pytest

from places import REPOSITORY

TEXT = (REPOSITORY / "docs" / "architecture.md").read_text()

#: `path`, or `path: name`, as the walks and the table have them; NAME stands for what is new.
NAMED = re.findall(r"`([\w./-]+\.(?:py|pyi|rs|md))(?:: ([\w.:]+))?`", TEXT)
FILES = [
    path
    for folder in ("crates", "python", "tests", "training", "docs")
    for path in (REPOSITORY / folder).rglob("*")
    if path.suffix in (".py", ".pyi", ".rs", ".md")
]


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED)))
def test_what_is_named_is_there(path: str, name: str) -> None:
    if "NAME" in path:
        path = path.rpartition("/")[0] + "/"
        assert any(path in str(file) for file in FILES)
        return
    found = [file for file in FILES if str(file).endswith(f"/{path}")]
    assert found, f"no file {path}"
    words = re.findall(r"\w+", name)
    assert any(all(re.search(rf"\b{word}\b", file.read_text()) for word in words) for file in found), name


def test_every_room_has_a_line() -> None:
    tree = TEXT.split("```")[1]
    package = REPOSITORY / "python" / "tomat"
    rooms = [path for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    rooms += [
        path for path in (package / "lm").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    missing = [path.name for path in rooms if not path.name.startswith("__")
               and not re.search(rf"(?<!\w){path.stem}(?!\w)", tree)]  # fmt: skip
    assert not missing
