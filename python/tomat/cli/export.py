"""Export a trained model for Hugging Face transformers.

CHECKPOINT is the folder or URL of a run (its best weights, or --weights latest) or of one checkpoint; averaged weights
are used if there are any. OUT receives model.safetensors, config.json, tokenizer.json, a model card, the codec and
tomat.json; every weight is read back and compared. transformers and every tomat command that takes a checkpoint load
the export and compute the same logits.

\b
Examples:
  tomat export runs/guess-30M exported
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
    from tomat.lm.checkpoint import open_checkpoint
    from tomat.lm.export import export_model
    from tomat.lm.record import SEAL

    trained = open_checkpoint(checkpoint, weights=decoding.weights)
    note = {name: value for name, value in trained.note.items() if name not in ("format", SEAL)}
    export_model(
        trained.model,
        trained.vocabulary,
        out,
        objective=trained.note["objective"],
        data=trained.note.get("data"),
        extra={"note": note, "steps": trained.step},
        dtype=dtype,
    )
    print(f"{out}: {note['name']} after {trained.step} steps")
