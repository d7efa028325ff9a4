"""Predict crystals nobody trained on with the model in the package, beside the sum of spherical atoms.

Needs the wheel alone: no JAX, no pymatgen. The exit code is 1 where the model is not better than the promolecule.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import tomat
from tomat._core import elements
from tomat.models import DEFAULT

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "demo-predict-out"
DATA = ROOT / "tests" / "data" / "rho_gga"


def run(command: str) -> None:
    """Print a command and run it."""
    print(f"\n$ {command}", flush=True)
    program, *arguments = shlex.split(command)
    subprocess.run([str(Path(sysconfig.get_path("scripts")) / program), *arguments], check=True, cwd=ROOT)


def held_out() -> list[Path]:
    """Densities of the validation and test half that are of the model's kind; its training used neither."""
    split = json.loads((DATA / "split.json").read_text())
    names = (DATA / "mp_filelist.txt").read_text().split()
    chosen = [names[index] for part in ("validation", "test") for index in split[part]]
    return [DATA / "label" / f"{name}.zarr" for name in chosen if name.startswith("qe")]


def write_poscar(material: tomat.Material, path: Path) -> None:
    """Write the crystal as a POSCAR: all that the prediction is given."""
    symbols = [elements()[z - 1] for z in material.atomic_numbers]
    rows = [" ".join(f"{x:.10f}" for x in row) for row in material.lattice]
    places = [" ".join(f"{x:.10f}" for x in row) for row in material.frac_coords]
    lines = [
        material.task_id,
        "1.0",
        *rows,
        " ".join(symbols),
        " ".join("1" for _ in symbols),
        "Direct",
        *places,
    ]
    path.write_text("\n".join(lines) + "\n")


def errors(truths: list[Path], model: str) -> list[float]:
    """NMAE in per cent of a model's predictions of all crystals."""
    found = []
    for path in truths:
        poscar = (OUT / f"{path.stem}.vasp").relative_to(ROOT)
        where = (OUT / model).relative_to(ROOT)
        run(
            f"tomat predict {model} {poscar} --truth {path.relative_to(ROOT)} --format chgcar -o {where} --quiet"
        )
        record = json.loads((ROOT / where / f"{path.stem}.json").read_text())
        found.append(100 * record["metrics"]["nmae"])
    return found


def main() -> None:
    """Run everything in a new ``demo-predict-out``."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    run("tomat models")
    truths = held_out()
    materials = [tomat.read(path) for path in truths]
    for material, path in zip(materials, truths, strict=True):
        write_poscar(material, OUT / f"{path.stem}.vasp")
    columns = [errors(truths, model) for model in (DEFAULT, "promolecule")]
    print(f"\nNMAE, %, of crystals the model has not seen\n{'crystal':<20}{'model':>10}{'promolecule':>14}")
    for material, *row in zip(materials, *columns, strict=True):
        print(f"{material.task_id:<20}{row[0]:>10.2f}{row[1]:>14.2f}")
    mean = [sum(column) / len(column) for column in columns]
    print(f"{'mean':<20}{mean[0]:>10.2f}{mean[1]:>14.2f}")
    print(f"\nDone: {OUT.relative_to(ROOT)}/{DEFAULT} has the densities and records.")
    if mean[0] >= mean[1]:
        sys.exit("the model is not better than the promolecule")


if __name__ == "__main__":
    main()
