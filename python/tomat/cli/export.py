"""Export a trained model as a folder that is complete in itself, or as one small file.

CHECKPOINT is the folder or URL of a run (its best weights, or --weights latest) or of one checkpoint; averaged weights
are used if there are any. OUT receives model.safetensors, a model card, the codec and tomat.json; every weight is read
back and compared. Every tomat command that takes a checkpoint takes the export, with the same predictions.

A transformer's export also has config.json and tokenizer.json, for Hugging Face transformers, which computes the same
logits; a field model's has promolecule.npz, its starting density.

If OUT ends in .tomat, it is one compressed file with all of that, to mail. --quantize makes its weights integers of
few bits: by GPTQ, which takes densities to calibrate with (--calibrate), or to the nearest (--rounding nearest).
--max-bytes tries float32, bfloat16, int8 to int4 and an embedding of fewer bits, and takes the first that fits; with
--quantize it begins there.

\b
Examples:
  tomat export runs/field-small exported
  tomat export gs://bucket/runs/guess-30M/checkpoints/step-20000 exported --dtype bfloat16
  tomat export runs/field-small small.tomat --quantize int6 --calibrate /data/rho_gga --split train
  tomat export runs/guess-30M small.tomat --max-bytes 16000000 --calibrate /data/rho_gga --split train
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tomat.cli._models import decoding_options, needs_models
from tomat.cli._shared import AsJson, Limit, Quiet, Split, SplitFile, grouped, named_bar
from tomat.prediction.options import DecodingConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.lm.quantize.export import Written
    from tomat.lm.quantize.setting import Setting

#: What the name of one file ends in; also in tomat.lm.artefact.file, which is not needed for --help.
_SUFFIX = ".tomat"


@grouped(decoding=decoding_options("weights"))
def command(
    checkpoint: Annotated[str, typer.Argument(help="Folder or URL of a run or checkpoint.")],
    out: Annotated[
        Path, typer.Argument(help="Folder, or file NAME.tomat, to write; an export there is replaced.")
    ],
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Number type of the weights.")
    ] = "float32",
    quantize: Annotated[
        Literal["int8", "int7", "int6", "int5", "int4", "int3", "int2"] | None,
        typer.Option(help="Bits of the weights of layers, for one file."),
    ] = None,
    embedding_bits: Annotated[
        int, typer.Option(help="Bits of the embedding and the answering layer with --quantize.", min=2, max=8)
    ] = 8,
    rounding: Annotated[
        Literal["gptq", "nearest"], typer.Option(help="How weights are rounded; nearest needs no data.")
    ] = "gptq",
    calibrate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA", help="Densities to calibrate GPTQ with, as tomat eval takes them; repeatable."
        ),
    ] = None,
    split_file: SplitFile = None,
    split: Split = None,
    limit: Limit = None,
    rows: Annotated[
        int,
        typer.Option(help="Rows to calibrate with: patches, or crystals with 512 points each.", min=1),
    ] = 128,
    seed: Annotated[int, typer.Option(help="Of the rows drawn.", min=0)] = 0,
    max_bytes: Annotated[
        int | None, typer.Option(help="Largest size of one file; takes the best weights that fit.", min=1)
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    *,
    decoding: DecodingConfig,
) -> None:
    one_file = out.suffix == _SUFFIX
    if not one_file and (quantize is not None or max_bytes is not None):
        raise ValueError(
            f"{out}: --quantize and --max-bytes write one file; give it a name that ends in {_SUFFIX}"
        )
    if quantize is not None and dtype != "float32":
        raise ValueError(f"--quantize {quantize} and --dtype {dtype} exclude each other; give one")
    needs_models()
    if not one_file:
        from tomat.lm.decode.kinds import export_kind

        trained = export_kind(checkpoint, out, weights=decoding.weights, dtype=dtype)
        facts = {"path": str(out), "name": trained.note["name"], "steps": trained.step}
        print(json.dumps(facts) if as_json else f"{out}: {facts['name']} after {trained.step} steps")
        return
    from tomat.dataset.inputs import resolve_inputs
    from tomat.lm.quantize.export import export_artefact
    from tomat.lm.quantize.inputs import Calibration

    settings = _settings(quantize or dtype, embedding_bits, limited=max_bytes is not None)
    if rounding == "gptq" and not calibrate and any(setting.quantised for setting in settings):
        raise ValueError(
            "GPTQ needs densities to calibrate with: give --calibrate DATA (what the model was trained on), or "
            "--rounding nearest"
        )
    calibration = None
    if calibrate and rounding == "gptq":
        entries = resolve_inputs(calibrate, split_file=split_file, split=split, limit=limit)
        calibration = Calibration(entries, rows, seed)
    with named_bar("weights", len(settings), shown=not (quiet or as_json)) as watch:
        written = export_artefact(
            checkpoint,
            out,
            settings,
            weights=decoding.weights,
            rounding=rounding,
            calibration=calibration,
            max_bytes=max_bytes,
            watch=watch,
        )
    _print(written, quiet=quiet, as_json=as_json)


def _settings(first: str, embedding_bits: int, *, limited: bool) -> Sequence[Setting]:
    """The settings to try, in their order."""
    from tomat.lm.quantize.setting import LADDER, Setting

    wanted = Setting(first, f"int{embedding_bits}" if first.startswith("int") else first)
    return wanted.and_smaller(LADDER) if limited else [wanted]


def _print(written: Written, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**asdict(written), "bits_a_weight": written.bits}))
        return
    if written.off and not quiet:
        worst = max(written.off, key=lambda name: written.off[name])
        print(
            f"outputs of the maps move by {100 * written.off[worst]:.2g} % at most ({worst}), root mean square on the "
            "rows calibrated with",
            file=sys.stderr,
        )
    how = f" ({written.rounding})" if written.rounding else ""
    print(
        f"{written.path}: {written.name} after {written.steps} steps, {written.setting}{how}, {written.bytes:,} bytes, "
        f"{written.bits:.2f} bits a weight"
    )
