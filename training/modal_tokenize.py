"""Tokenizing on Modal: edit the settings below, deploy, run.

\b
  make wheel
  pip install "$(ls dist/tomat-*.whl)[modal]" && modal setup
  modal deploy training/modal_tokenize.py
  tomat-tokenize /data/rho_gga --split train --out /data/rows --engine modal --workers 64

Paths are those of the containers: here the Modal volume ``tomat`` is at /data. Buckets are named by their URLs
(gs://bucket/rho_gga), with credentials from a Modal secret, or mounted (``buckets``). The containers get the wheel that
``make wheel`` built, and the pins of ``constraints.txt``.
"""

from __future__ import annotations

from pathlib import Path

import modal

from tomat.dataset import Entry, resolve_inputs
from tomat.engine import Part, Summary
from tomat.engine.job import check, prepare
from tomat.engine.modal import ModalSettings, built_wheel, function_options, synced

#: The checkout, with `dist` and `constraints.txt`; in a container, where this file lies elsewhere, neither is needed.
ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ModalSettings(
    volumes={"/data": "tomat"}, wheel=built_wheel(ROOT), constraints=ROOT / "constraints.txt"
)

app = modal.App("tomat-tokenize")
options = function_options(SETTINGS)
volumes = tuple(options["volumes"].values())


@app.function(**options)
def list_inputs(
    inputs: list[str], split_file: str | None, split: str | None, limit: int | None
) -> list[Entry]:
    """List the materials of inputs."""
    return synced(volumes, lambda: resolve_inputs(inputs, split_file=split_file, split=split, limit=limit))


@app.function(**options)
def prepare_dataset(out: str, resume: bool, overwrite: bool) -> None:
    """Prepare the output directory."""
    synced(volumes, lambda: prepare(out, resume=resume, overwrite=overwrite))


@app.function(**options)
def tokenize_worker(part: Part) -> Summary:
    """Tokenize one worker's part, resuming an earlier attempt."""
    return synced(volumes, part.run)


@app.function(**options)
def check_dataset(out: str) -> None:
    """Check that all parts are complete."""
    synced(volumes, lambda: check(out))
