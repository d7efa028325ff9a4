"""CPU seconds (user and system) until tomat is there: all its names beside NumPy, its help, a first prediction.

  python benches/startup.py [--rounds 5]

Each is a process of its own, in turn, the median of some after one that compiles modules; a prediction is the whole
command on 8 x 8 x 8 points, files included. The exit status is 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import tomat
from bars import Bars

#: What `import tomat` offers is imported when it is first used; prediction has a line of its own.
NAMES = ", ".join(name for name in tomat.__all__ if name != "predict")
MATERIAL = Path(__file__).resolve().parent.parent / "tests" / "data" / "rho_gga" / "label" / "qe-0954.zarr"


def cpu_seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """Of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        # Modules are compiled once, as in an installation, wherever this runs.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": f"{folder}/compiled"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        predict = ["-m", "tomat", "predict", str(MATERIAL), "--grid", "8,8,8", "-o"]
        tasks = {
            "import numpy": ["-c", "import numpy"],
            "tomat's names": ["-c", f"from tomat import {NAMES}"],
            "tomat --help": ["-m", "tomat", "--help"],
            "tomat predict": predict,
        }
        found: dict[str, list[float]] = {name: [] for name in tasks}
        for round_ in range(rounds + 1):
            for name, arguments in tasks.items():
                # A prediction that is there already is not made again.
                place = [f"{folder}/{round_}"] if arguments is predict else []
                seconds = cpu_seconds([*arguments, *place], environment)
                if round_:
                    found[name].append(seconds)
    of = {name: statistics.median(values) for name, values in found.items()}
    print(f"CPU seconds, median of {rounds}; import numpy takes {of['import numpy']:.2f}")
    bars = Bars()
    bars.at_most(
        "import tomat, all its names, beyond NumPy", 0.15, of["tomat's names"] - of["import numpy"], "CPU s"
    )
    bars.at_most("tomat --help", 0.5, of["tomat --help"], "CPU s")
    bars.at_most("tomat predict, the whole command", 3.0, of["tomat predict"], "CPU s")
    bars.finish()


if __name__ == "__main__":
    main()
