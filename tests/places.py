"""Where things are: tests name files by these, wherever they stand themselves."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent
#: Real densities and the files made of them.
DATA = TESTS / "data"
