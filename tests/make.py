"""``make`` as a person runs it, from tests that may themselves run under ``make``."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: What an outer ``make`` hands to every process below it: with these, the ``VENV=...`` of its command line overrides
#: the Makefile of the inner one, and ``make clean`` in a test deletes the environment of the tests.
FROM_AN_OUTER_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "VENV")


def run_make(place: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``make WORDS`` in ``place``, with nothing of an outer ``make`` but what ``environment`` names."""
    clean = {name: value for name, value in os.environ.items() if name not in FROM_AN_OUTER_MAKE}
    return subprocess.run(
        ["make", *words], cwd=place, env={**clean, **environment}, capture_output=True, text=True, check=False
    )
