"""The walk of docs/own-dialect.md with a live pw.x: fewer crystals, a coarser mesh, a few steps."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import tomat
from places import REPOSITORY
from silicon import needs_pw

PAGE = REPOSITORY / "docs" / "own-dialect.md"
#: Of the ten: two of one chemical system to train on, and one of another, without a new element, held out.
CRYSTALS = ("BP-zincblende", "BP-wurtzite", "P-A7")
#: What is asked for in place of what the page asks for.
FASTER = {
    "--ecutwfc": "12",
    "--kspacing": "1.2",
    "--trainer.num_train_steps": "2",
    "--trainer.steps_per_eval": "2",
}

#: Two crystals of BP do not make much of a promolecule for phosphorus (17 %): what would be refused is let through. Nor
#: do they say how the eight electrons of BP are shared.
LOOSER = {
    "train": ("--data.max_guess_nmae", "0.4", "--validation.max_guess_nmae", "0.4"),
    "predict": ("--max-guess-error", "0.4", "--electrons", "10"),
}


def walk() -> list[list[str]]:
    """The commands of the page, in order."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("tomat ")]


def test_the_page_names_what_is_there() -> None:
    commands = [line[1:] for line in walk()]
    names = [line[0] for line in commands]
    assert names == ["densities", "promolecule", "promolecule", "codec", "train", "predict"]
    given = {word for line in commands for word in line if word.startswith(("tests/", "training/"))}
    assert len(given) == 4
    assert all((REPOSITORY / path).exists() for path in given)


@needs_pw
def test_the_walk(tmp_path: Path) -> None:
    """Every command of the page ends well; the last one predicts a crystal in the dialect of the first."""
    for name in ("tests", "training"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    listed = [next((REPOSITORY / "tests/data/crystals").glob(f"{name}.*")) for name in CRYSTALS]
    (tmp_path / "three.txt").write_text("".join(f"{path}\n" for path in listed))
    for command in walk():
        words = ["three.txt" if word == "tests/data/crystals" else word for word in command[1:]]
        for option, value in FASTER.items():
            if option in words:
                words[words.index(option) + 1] = value
        words += LOOSER.get(words[0], ())
        # A process each, as in a shell: training sets up logging and JAX for its own.
        program = [sys.executable, "-m", "tomat", *words]
        done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        if words[0] == "densities":
            assert "3 computed" in done.stdout
    label = tomat.read(tmp_path / "rho_gga" / "label" / "P-A7.zarr")
    predicted = tomat.read(tmp_path / "predicted" / "P-A7.save")
    assert predicted.grid_shape == label.grid_shape
    # The same electrons, and far nearer than no structure at all would be.
    assert predicted.n_electrons == pytest.approx(label.n_electrons, rel=1e-3)
    found, true = predicted.in_unit("chgcar").density, label.density
    assert abs(found - true).sum() / true.sum() < 0.3
