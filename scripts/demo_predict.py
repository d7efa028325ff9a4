"""Predict a held-out crystal from its POSCAR, write a CHGCAR, and compare the error with baseline and floor."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import tomat

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "demo-predict-out"
RUN = "demo-train-out/demo"
DATA = "tests/data/rho_gga"


def run(command: str) -> None:
    """Print a command and run it."""
    print(f"\n$ {command}", flush=True)
    program, *arguments = shlex.split(command)
    subprocess.run([str(Path(sysconfig.get_path("scripts")) / program), *arguments], check=True, cwd=ROOT)


def held_out() -> tomat.Material:
    """The first crystal of the test split, which training does not use."""
    folder = ROOT / DATA
    index = json.loads((folder / "split.json").read_text())["test"][0]
    name = (folder / "mp_filelist.txt").read_text().split()[index]
    return tomat.read(folder / "label" / f"{name}.zarr")


def write_poscar(material: tomat.Material, path: Path) -> None:
    """Write the crystal as a POSCAR."""
    path.write_text(str(material.to_pymatgen().poscar))


def main() -> None:
    """Run everything in a new ``demo-predict-out``, after training if there is no model."""
    if not (ROOT / RUN / "tomat.json").exists():
        subprocess.run(["make", "demo-train"], check=True, cwd=ROOT)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    material = held_out()
    poscar = OUT / f"{material.task_id}.POSCAR"
    write_poscar(material, poscar)
    where, crystal = OUT.relative_to(ROOT), poscar.relative_to(ROOT)
    grid = ",".join(map(str, material.grid_shape))
    print(f"{material}: a crystal the model has not seen")
    run(f"tomat predict {RUN} {crystal} --grid {grid} --format chgcar --format png -o {where}/predicted")
    run(f"tomat eval {RUN} {DATA} --split test --mode one_pass -o {where}/result")
    run(f"tomat report {RUN} {where}/result -o {where}/report.html")
    print(f"\nDone: {where}/predicted has the CHGCAR and a picture, {where}/report.html everything else.")


if __name__ == "__main__":
    main()
