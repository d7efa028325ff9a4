"""Bars: what a bench must reach, and a table of what was measured.

A bench that has bars collects them in :class:`Bars` and ends with code 1 where one is missed. Run as a script, this
runs all such benches one after the other and ends with one table of all bars:

    python benches/bars.py [NAME...]

``make bench`` does so. Ratios are between two things measured in one run, in turns; on a loaded machine they hold, and
absolute figures do not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

#: Where a bench leaves its bars for the one table of all.
_TABLE = "TOMAT_BENCH_TABLE"
#: Benches, with their arguments.
_BENCHES: dict[str, tuple[str, ...]] = {
    "bars.rs": (),
    "end_to_end.py": (),
    "readers.py": (),
    "prediction.py": (),
    "field_model.py": (),
    "startup.py": (),
    "many.py": (),
    "threads.py": (),
    "loader.py": (),
    "loss.py": (),
    "model_prediction.py": tuple(
        "--preset tiny --patch-size 7 --codec l1-1k-e_per_A3 --patches 64 --batch 8".split()
    ),
}


@dataclass(frozen=True)
class Bar:
    """One figure beside what it must be.

    Attributes:
        what: is measured.
        bar: to reach.
        measured: figure.
        unit: of both.
        at_most: whether the bar is the largest rather than the least.
    """

    what: str
    bar: float
    measured: float
    unit: str
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure is on the right side."""
        return self.measured <= self.bar if self.at_most else self.measured >= self.bar

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        unit = self.unit if self.unit == "x" else f" {self.unit}"
        bar, measured = (f"{value:.4g}{unit}" for value in (self.bar, self.measured))
        return f"{self.what:58} {sign} {bar:>16} {measured:>18}   {'met' if self.met else 'MISSED'}"


@dataclass
class Bars:
    """The bars of a bench."""

    found: list[Bar] = field(default_factory=list)

    def at_least(self, what: str, bar: float, measured: float, unit: str = "x") -> None:
        """Add a figure that must not be below its bar."""
        self.found.append(Bar(what, bar, measured, unit))

    def at_most(self, what: str, bar: float, measured: float, unit: str = "x") -> None:
        """Add a figure that must not be above its bar."""
        self.found.append(Bar(what, bar, measured, unit, at_most=True))

    def finish(self) -> None:
        """Print the table; exit with code 1 where a bar is missed."""
        table(self.found)
        if _TABLE in os.environ:
            with Path(os.environ[_TABLE]).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(asdict(bar)) + "\n" for bar in self.found)
        if not all(bar.met for bar in self.found):
            sys.exit(1)


def table(bars: list[Bar]) -> None:
    """Print bars and figures, a line each."""
    print(f"{'':58}    {'bar':>16} {'measured':>18}")
    for bar in bars:
        print(bar)


def main() -> None:
    """Run benches, print all their bars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"benches to run: {', '.join(_BENCHES)}")
    names = parser.parse_args().names or list(_BENCHES)
    folder = Path(__file__).parent
    broken = []
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "bars.jsonl"
        path.touch()
        environment = {**os.environ, _TABLE: str(path), "JAX_PLATFORMS": "cpu"}
        for name in names:
            print(f"\n== {name} {' '.join(_BENCHES[name])}".rstrip(), flush=True)
            if name.endswith(".rs"):
                command = [
                    "cargo",
                    "bench",
                    "--quiet",
                    "--package",
                    "tomat-core",
                    "--bench",
                    name.removesuffix(".rs"),
                ]
            else:
                command = [sys.executable, str(folder / name), *_BENCHES[name]]
            size = path.stat().st_size
            code = subprocess.run(command, env=environment, cwd=folder.parent, check=False).returncode
            # A bench that missed a bar has written it down; any other failure is one of its own.
            if code != 0 and path.stat().st_size == size:
                broken.append(name)
        bars = [Bar(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    print("\n== all bars")
    table(bars)
    for name in broken:
        print(f"{name}: failed, see above")
    if broken or not all(bar.met for bar in bars):
        sys.exit(1)


if __name__ == "__main__":
    main()
