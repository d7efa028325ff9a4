"""What is a density worth to Quantum ESPRESSO?

ROOT is a rho_gga root of densities that pw.x made, with their inputs. For the cheapest held-out crystals of distinct
chemical systems, pw.x finds band energies without SCF (calculation = 'nscf') from each starting density: the
promolecule, the checkpoints given, and the exact density. DIR gets a JSON file a crystal, study.json and study.md. A
study that was stopped goes on with the same command. One run of pw.x at a time, with one thread.

\b
Examples:
  python -m training.studies.scf /data/rho_gga --pseudo /data/sg15 -o scf
  python -m training.studies.scf /data/rho_gga --pseudo /data/sg15 -o scf --checkpoint runs/field --weights latest --scf
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from tomat.cli import run
from tomat.cli._models import decoding_options
from tomat.cli._shared import grouped
from tomat.lm.decode.opening import open_predictor
from tomat.prediction.options import DecodingConfig
from tomat.prediction.predictor import PROMOLECULE
from tomat.storage.files import write_json
from training.studies.scf.study import StudyConfig, choose, run_study
from training.studies.scf.table import cycles, in_words, markdown

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(help=__doc__, no_args_is_help=True)
@grouped(decoding=decoding_options())
def command(
    root: Annotated[Path, typer.Argument(metavar="ROOT", show_default=False)],
    pseudo: Annotated[Path, typer.Option(help="Folder of pseudopotentials, plain or gzipped.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Directory for the results.")],
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="A run, checkpoint or export; repeatable. NAME=PATH names it.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of crystals.")] = 10,
    scf: Annotated[
        bool,
        typer.Option(
            "--scf", help="Run SCF too: iterations from each start, and what writing a density costs."
        ),
    ] = False,
    window: Annotated[float, typer.Option(help="Bands up to this many eV above the Fermi level.")] = 2.0,
    pw: Annotated[str, typer.Option(help="The program.")] = "pw.x",
    timeout: Annotated[float, typer.Option(help="Seconds that one run may take.")] = 1800.0,
    *,
    decoding: DecodingConfig,
) -> None:
    """Parse, study, print."""
    if shutil.which(pw) is None:
        raise ValueError(
            f"{pw} is not installed (Debian: apt-get install quantum-espresso); --pw names another"
        )
    starts = {PROMOLECULE: open_predictor(PROMOLECULE, DecodingConfig())}
    for given in checkpoint or []:
        name, _, path = given.rpartition("=")
        starts[name or Path(path).name] = open_predictor(path, decoding)
    config = StudyConfig(pseudo, pw, window, scf, timeout)
    rows = []
    for row in run_study(choose(root, count), starts, config, out):
        rows.append(row)
        known = {
            name: one["band_error"] for name, one in row["starts"].items() if one["band_error"] is not None
        }
        errors = ", ".join(f"{name} {error:.4g}" for name, error in known.items())
        print(f"{row['task_id']} {row['formula']}: bands off by {errors} meV", file=sys.stderr)
    text = f"{markdown(rows)}\n{in_words(rows)}\n{cycles(rows)}".rstrip() + "\n"
    write_json(out / "study.json", {"format": "tomat scf study", "rows": rows})
    (out / "study.md").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    run(app, "python -m training.studies.scf")
