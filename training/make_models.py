"""Train the models of the package again, score them on crystals they have not seen, and write them into it.

  python training/make_models.py --data rho_gga [--runs runs] [--out python/tomat/models]

``rho_gga`` is a root of densities of the SG15 dialect with its split. Only materials of ``train`` are trained on, the
last weights are taken, and the seed is 0: nothing is chosen by the scores. An interrupted run goes on with the same
command. On one machine weights come out the same to the bit; another build rounds otherwise, which is as good as
another seed (docs/models.md says how far seeds are apart).
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tomat.evaluate.result import load_result
from tomat.lm.field.checkpoint import open_field
from tomat.lm.field.export import export_field

ROOT = Path(__file__).resolve().parent.parent
NAME = "sg15-pbe"
DIALECT = "Quantum ESPRESSO, PBE, SG15 ONCV pseudopotentials: smooth valence densities (promolecule qe-sg15)"
PREFIX = "[qe-,qev-]"
SPLITS = ("validation", "test")
#: Summaries of the card, by the column of a result.
COLUMNS = {"nmae": "NMAE", "hartree_error": "Hartree error, meV"}


def tomat(*words: str | Path) -> None:
    """Run a command of tomat."""
    print("$ tomat " + shlex.join(map(str, words)), flush=True)
    subprocess.run([sys.executable, "-m", "tomat", *map(str, words)], check=True)


def training(data: str) -> list[str]:
    """The words of the training command, but for where the run goes."""
    words = ["train", "training/configs/field-tiny.yaml", "--name", NAME]
    for part in ("data", "validation"):
        words += [
            f"--{part}.densities",
            f"[{data}]",
            f"--{part}.prefix",
            PREFIX,
            f"--{part}.guess",
            "qe-sg15",
        ]
    return words


def scores(results: list[Path], elements: set[int]) -> dict[str, Any]:
    """Mean and median of each column over the crystals of all results whose elements the model has seen.

    Args:
        results: folders of ``tomat eval``.
        elements: atomic numbers in the training data.
    """
    rows = [row for folder in results for row in load_result(folder).rows if _elements(row) <= elements]
    found: dict[str, Any] = {"splits": list(SPLITS)}
    for mode in dict.fromkeys(row["mode"] for row in rows):
        of = [row for row in rows if row["mode"] == mode]
        found["materials"] = len(of)
        found[mode] = {}
        for column in COLUMNS:
            values = [row[column] for row in of]
            found[mode][column] = {"mean": float(np.mean(values)), "median": float(np.median(values))}
    return found


def _elements(row: dict[str, Any]) -> set[int]:
    from tomat._core import elements

    numbers = {symbol: z for z, symbol in enumerate(elements(), start=1)}
    return {numbers[symbol] for symbol in row["chemsys"].split("-")}


def main() -> None:
    """Train, score, export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="root of the densities")
    parser.add_argument("--runs", default="runs", help="folder of the run and its results")
    parser.add_argument(
        "--out", default=str(ROOT / "python" / "tomat" / "models"), help="folder of the models"
    )
    given = parser.parse_args()
    run = Path(given.runs) / NAME
    tomat(*training(given.data), "--out", given.runs)
    results = [Path(f"{run}-{split}") for split in SPLITS]
    for split, result in zip(SPLITS, results, strict=True):
        tomat("eval", run, given.data, "--split", split, "--weights", "latest", "--name", NAME, "-o", result)
    trained = open_field(str(run), weights="latest")
    found = scores(results, {int(z) for z in trained.note["data_facts"]["elements"]})
    command = "tomat " + shlex.join(training("rho_gga"))
    export_field(trained, Path(given.out) / NAME, dialect=DIALECT, scores=found, command=command)
    print(f"{Path(given.out) / NAME}: {found}")


if __name__ == "__main__":
    main()
