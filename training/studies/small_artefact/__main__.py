"""How small can a trained model be made, and what is lost?

CHECKPOINT is a run, checkpoint, export or model of the package. It is written into one file by every setting, rounded
to the nearest and by GPTQ, and each file is measured on the same patches of the DATA: bits a voxel and NMAE. DIR
receives the files, study.json and study.md.

\b
Examples:
  python -m training.studies.small_artefact sg15-pbe /data/rho_gga -o small
  python -m training.studies.small_artefact runs/guess-tiny /data/rho_gga -o small-guess --patches 8
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tomat.cli import run
from tomat.cli._models import decoding_options
from tomat.cli._shared import Limit, Quiet, SplitFile, grouped
from tomat.dataset.inputs import resolve_inputs
from tomat.lm.quantize.inputs import Calibration
from tomat.lm.quantize.setting import Setting
from tomat.prediction.options import DecodingConfig
from tomat.storage.files import write_json
from training.studies.small_artefact.study import SETTINGS, baselines, draw, markdown, open_measured, study

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(help=__doc__, no_args_is_help=True)
@grouped(decoding=decoding_options("weights"))
def command(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", show_default=False)],
    data: Annotated[str, typer.Argument(metavar="DATA", help="A rho_gga root.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Directory for the results.")],
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "test",
    calibrate: Annotated[str, typer.Option(help="Split to calibrate with.")] = "train",
    split_file: SplitFile = None,
    limit: Limit = None,
    patches: Annotated[int, typer.Option(help="Patches a crystal to measure on.", min=1)] = 16,
    rows: Annotated[int, typer.Option(help="Rows to calibrate with.", min=1)] = 128,
    seed: Annotated[int, typer.Option(help="Of patches and rows.", min=0)] = 0,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            help="LAYERS or LAYERS/EMBEDDING, int4/int8 for example; repeatable, first float32.  [default: all]"
        ),
    ] = None,
    quiet: Quiet = False,
    *,
    decoding: DecodingConfig,
) -> None:
    """Parse, study, print."""
    model = open_measured(checkpoint, decoding.weights)
    drawn = draw(
        resolve_inputs([data], split_file=split_file, split=split, limit=limit), model, patches, seed
    )
    calibration = Calibration(resolve_inputs([data], split_file=split_file, split=calibrate), rows, seed)
    out.mkdir(parents=True, exist_ok=True)
    found = study(
        checkpoint,
        drawn,
        calibration,
        out,
        settings=[_setting(text) for text in setting or []] or SETTINGS,
        weights=decoding.weights,
        said=lambda line: None if quiet else print(line, file=sys.stderr, flush=True),
    )
    found = [*found, *baselines(checkpoint, model, drawn)]
    about = {
        "checkpoint": checkpoint,
        "data": data,
        "split": split,
        "patches": patches,
        "rows": rows,
        "seed": seed,
    }
    content = {
        "format": "tomat small-artefact study",
        **about,
        "rows_of_table": [row.to_json() for row in found],
    }
    write_json(out / "study.json", content)
    (out / "study.md").write_text(markdown(found), encoding="utf-8")
    print(markdown(found), end="")


def _setting(text: str) -> Setting:
    layers, _, ends = text.partition("/")
    return Setting(layers, ends or layers)


if __name__ == "__main__":
    run(app, "python -m training.studies.small_artefact")
