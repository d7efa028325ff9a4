"""Export a trained model as a folder that is complete in itself.

CHECKPOINT is the folder or URL of a run (its best weights, or --weights latest) or of one checkpoint; averaged weights
are used if there are any. OUT receives model.safetensors, a model card, the codec and tomat.json; every weight is read
back and compared. Every tomat command that takes a checkpoint takes the export, with the same predictions.

A transformer's export also has config.json and tokenizer.json, for Hugging Face transformers, which computes the same
logits; a field model's has promolecule.npz, its starting density.

\b
Examples:
  tomat export runs/field-small exported
  tomat export gs://bucket/runs/guess-30M/checkpoints/step-20000 exported --dtype bfloat16
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tomat.cli._models import decoding_options, needs_models
from tomat.cli._shared import grouped
from tomat.prediction.options import DecodingConfig


@grouped(decoding=decoding_options("weights"))
def command(
    checkpoint: Annotated[str, typer.Argument(help="Folder or URL of a run or checkpoint.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; an export there is replaced.")],
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Number type of the weights.")
    ] = "float32",
    *,
    decoding: DecodingConfig,
) -> None:
    needs_models()
    from tomat.lm.decode.kinds import export_kind

    trained = export_kind(checkpoint, out, weights=decoding.weights, dtype=dtype)
    print(f"{out}: {trained.note['name']} after {trained.step} steps")
