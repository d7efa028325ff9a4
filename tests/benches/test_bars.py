"""The table of bars: what is missed is said and ends a bench, and so does a bench that breaks."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from places import REPOSITORY


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(REPOSITORY / "benches")
    return importlib.import_module("bars")


def test_a_missed_bar_is_said_and_ends_the_bench(
    bars: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bars.jsonl"
    monkeypatch.setenv("TOMAT_BENCH_TABLE", str(file))
    found = bars.Bars()
    found.at_least("ratio", 12, 14.5)
    found.at_most("seconds", 0.5, 0.25, "s")
    found.finish()
    assert "MISSED" not in capsys.readouterr().out
    found.at_most("size", 0.86, 0.9, "bytes a token")
    with pytest.raises(SystemExit) as ended:
        found.finish()
    assert ended.value.code == 1
    *_, ratio, seconds, size = capsys.readouterr().out.splitlines()
    assert ratio.split() == ["ratio", ">=", "12x", "14.5x", "met"]
    assert seconds.split() == ["seconds", "<=", "0.5", "s", "0.25", "s", "met"]
    assert size.endswith("MISSED")
    read = [bars.Bar(**json.loads(line)) for line in file.read_text().splitlines()]
    assert read[-3:] == found.found


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import bars; b = bars.Bars(); b.at_least('speed', 2, 3); b.finish()", "speed"),
        ("import bars; b = bars.Bars(); b.at_least('speed', 2, 1); b.finish()", "MISSED"),
        ("raise SystemExit(3)", "one.py: failed, see above"),
    ],
)
def test_all_benches_end_in_one_table(
    bars: ModuleType,
    script: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "one.py").write_text(script)
    (tmp_path / "bars.py").write_text((REPOSITORY / "benches" / "bars.py").read_text())
    monkeypatch.setattr(bars, "_BENCHES", {"one.py": ()})
    monkeypatch.setattr(bars, "__file__", str(tmp_path / "bars.py"))
    monkeypatch.setattr("sys.argv", ["bars.py"])
    if said == "speed":
        bars.main()
    else:
        with pytest.raises(SystemExit) as ended:
            bars.main()
        assert ended.value.code == 1
    assert said in capsys.readouterr().out.partition("== all bars")[2]
