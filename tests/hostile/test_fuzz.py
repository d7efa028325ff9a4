"""The share of ``fuzz.py`` that every change pays for, and whether it sees what it looks for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from places import TESTS

FUZZ = TESTS / "fuzz.py"

#: Readers that go wrong in the ways ``fuzz.py`` is to notice.
WRONG = {
    "no kind of ours": ("raise KeyError(folder)", "KeyError"),
    "no file named": ("raise ValueError('wrong')", "names no file"),
    "too slow": ("all(True for _ in iter(int, 1))", "takes more than"),
    "too large": ("bytearray(3 << 30)", "MemoryError"),
    "the end of the process": ("os.abort()", "the process ended with -6"),
}


def fuzz(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FUZZ), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "JAX_PLATFORMS": "cpu"}
    )


def test_readers_of_damaged_files_stay_in_bounds() -> None:
    """A hundred thousand files; what is found is in the output with what to run to see it again."""
    result = fuzz("--seed", 0, "--cases", 100_000)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert "0 findings" in result.stdout


@pytest.mark.parametrize("name", sorted(WRONG))
def test_what_goes_wrong_is_noticed(name: str, tmp_path: Path) -> None:
    """With a reader that fails at one of its cases."""
    code, expected = WRONG[name]
    script = tmp_path / "wrong.py"
    script.write_text(
        f"import os, sys\nsys.path.insert(0, {str(FUZZ.parent)!r})\nimport fuzz, fuzz_targets\n"
        "def read(folder):\n"
        "    if (folder / 'x').read_bytes() == b'sound': return\n"
        "    if os.path.exists('/proc/self/exe'):\n"
        f"        {code}\n"
        "def prepare(folder):\n"
        "    (folder / 'x').write_bytes(b'sound')\n"
        "    return {'x': fuzz_targets.mutate_bytes}\n"
        "fuzz_targets.TARGETS = {'x': fuzz_targets.Target('x', 1, prepare, read, seconds=0.2)}\n"
        "fuzz.__file__ = __file__\n"
        "sys.exit(fuzz.main())\n"
    )
    result = subprocess.run(
        [sys.executable, str(script), "--cases", "3", "--processes", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert expected in result.stdout
    assert "--only x --case" in result.stdout
    assert "0 findings" not in result.stdout
