"""Train on a GPU at Modal: data and runs in a volume, restarted where it was when a container is taken away.

    make wheel
    modal volume create tomat
    modal volume put tomat DATA data                      # a rho_gga folder or a parquet dataset
    modal run --detach training/launch/modal_train.py --config training/configs/guess-30M.yaml \\
        --fields "--data.densities [/volume/data] --validation.densities [/volume/data] --trainer.num_train_steps 20000"

Everything under /volume is the volume; the run goes to /volume/runs. TOMAT_MODAL_GPU chooses the GPU (H200).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import modal

ROOT = Path(__file__).resolve().parent.parent.parent
MINUTES = 60

app = modal.App("tomat-train")
volume = modal.Volume.from_name("tomat", create_if_missing=True)


def _wheel() -> Path | None:
    """The newest wheel from ``make wheel``."""
    return max((ROOT / "dist").glob("tomat-*.whl"), key=lambda wheel: wheel.stat().st_mtime, default=None)


def _image() -> modal.Image:
    """Debian with the wheel of this checkout, its pins, and JAX's CUDA plug-in."""
    base = modal.Image.debian_slim(python_version="3.12")
    wheel = _wheel()
    if wheel is None:
        # In the container this module is imported again: the image is there already. Here, `main` says so.
        return base
    return (
        base.add_local_file(wheel, f"/install/{wheel.name}", copy=True)
        .add_local_file(ROOT / "constraints.txt", "/install/constraints.txt", copy=True)
        .run_commands(
            f"pip install -q -c /install/constraints.txt {shlex.quote(f'/install/{wheel.name}[train]')}",
            "pip install -q -c /install/constraints.txt 'jax[cuda13]==0.11.2'",
        )
    )


@app.function(
    image=_image(),
    gpu=os.environ.get("TOMAT_MODAL_GPU", "H200"),
    volumes={"/volume": volume},
    timeout=24 * 60 * MINUTES,
    retries=modal.Retries(max_retries=10, backoff_coefficient=1.0, initial_delay=10.0),
    single_use_containers=True,
)
def train(config: str, fields: list[str]) -> None:
    """Train with the YAML text ``config``; a retry resumes from the latest checkpoint in the volume."""
    path = Path("/tmp/config.yaml")
    path.write_text(config)
    command = [sys.executable, "-m", "tomat", "train", str(path), "--out", "/volume/runs", *fields]
    try:
        subprocess.run(command, check=True)
    finally:
        volume.commit()


@app.local_entrypoint()
def main(config: str, fields: str = "") -> None:
    """Send a configuration file, with overriding fields as on the command line of ``tomat train``."""
    wheel = _wheel()
    if wheel is None:
        raise SystemExit("no wheel in dist/: make wheel")
    if "linux" not in wheel.name or "x86_64" not in wheel.name:
        raise SystemExit(f"{wheel}: the containers are Linux on x86_64; make a wheel there with: make wheel")
    train.remote(Path(config).read_text(), shlex.split(fields))
