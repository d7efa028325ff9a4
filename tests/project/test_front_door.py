"""What a newcomer meets first: the import, the README's example, the interpreter finder."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tomat
from make import run_make
from places import DATA
from places import REPOSITORY as ROOT

#: What `import tomat` must not pull in: each costs more than all of tomat.
HEAVY = (
    "ase",
    "duckdb",
    "fsspec",
    "jax",
    "levanter",
    "pandas",
    "pyarrow",
    "pymatgen",
    "ray",
    "rich",
    "scipy",
    "typer",
    "zarr",
)


def loaded_by(statement: str) -> set[str]:
    """The packages and modules a fresh interpreter has after a statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_import_is_light() -> None:
    everything = ", ".join(name for name in tomat.__all__ if name != "predict")
    loaded = loaded_by(f"from tomat import {everything}")
    assert loaded & {"tomat", "numpy"} == {"tomat", "numpy"}
    assert not loaded & set(HEAVY)
    # Until something is used, and for --help, not even NumPy.
    assert "numpy" not in loaded_by("import tomat")
    assert "numpy" not in loaded_by("import tomat.cli")


def test_names_are_what_they_are_where_they_live() -> None:
    assert dir(tomat) == sorted(tomat.__all__)
    for module, names in tomat._NAMES.items():
        for name in names:
            assert getattr(tomat, name) is getattr(importlib.import_module(f"tomat.{module}"), name)
    assert set(tomat.__all__) == {"__version__", *tomat._HOMES}
    # Modules themselves, which once came with the import.
    assert tomat.codec.LogCodec is tomat.LogCodec
    with pytest.raises(AttributeError, match="'tomat' has no attribute 'predictt'"):
        getattr(tomat, "predictt")  # noqa: B009 - mypy knows that it is not there


def test_the_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(next((DATA / "chgcar").glob("*Li-nospin*")), tmp_path / "CHGCAR.gz")
    monkeypatch.chdir(tmp_path)
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    names: dict[str, object] = {}
    exec(block.group(1), names)
    rows, patch, material = names["rows"], names["patch"], names["material"]
    assert isinstance(rows, np.ndarray)
    assert rows.shape == (64, 8192)
    assert isinstance(patch, tomat.Patch)
    assert isinstance(material, tomat.Material)
    assert patch.grid_shape == material.grid_shape
    assert patch.density.shape == (19, 19, 19)


def test_every_file_the_readme_links_to_is_there() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_encode_material_brings_the_density_to_the_codecs_unit() -> None:
    material = tomat.read(DATA / "rho_gga" / "label" / "qe-0003.zarr")
    tokenizer = tomat.PatchTokenizer("v3", "lmq-16k", patch_size=4, pad_to=512)
    rows = tokenizer.encode_material(material, [[1, 2, 3]])
    other = tokenizer.encode_material(material.in_unit("e_per_A3"), [[1, 2, 3]])
    error = np.abs(tokenizer.decode(other[0]).density - tokenizer.decode(rows[0]).density)
    assert error.max() < 1e-3 * material.density.max()
    expected = tokenizer.encode(
        material.density, material.lattice, material.atomic_numbers, material.frac_coords, [[1, 2, 3]]
    )
    assert (rows == expected).all()


def test_the_interpreter_finder_says_what_to_install(tmp_path: Path) -> None:
    shell = shutil.which("sh")
    assert shell is not None
    empty = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    finder = str(ROOT / "scripts" / "find_python.sh")
    (tmp_path / "cat").symlink_to(shutil.which("cat") or "/bin/cat")
    lost = subprocess.run([shell, finder], env=empty, capture_output=True, text=True, check=False)
    assert lost.returncode == 1
    assert "Python 3.12 or newer" in lost.stderr
    found = subprocess.run(
        [shell, finder],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == sys.executable


def _repository(place: Path, *names: str) -> Path:
    """A Git repository that tracks this one's Makefile, .gitignore and ``names``."""
    place.mkdir(exist_ok=True)
    for name in ("Makefile", ".gitignore"):
        shutil.copy(ROOT / name, place / name)
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    subprocess.run(["git", "init", "-q", str(place)], check=True)
    subprocess.run(["git", "-C", str(place), "add", "-f", "."], check=True)
    return place


def _status(place: Path) -> str:
    return subprocess.run(
        ["git", "-C", str(place), "status", "--porcelain", "--ignored"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_git_tracks_nothing_that_gitignore_names(tmp_path: Path) -> None:
    """`make lint` runs the script; a run of the demo in a commit is what it is for."""
    script = ROOT / "scripts" / "ignored_in_git.sh"
    assert "\n\tscripts/ignored_in_git.sh\n" in (ROOT / "Makefile").read_text()
    place = _repository(tmp_path, "src/a.py")
    assert subprocess.run([script, place], capture_output=True, check=False).returncode == 0
    _repository(tmp_path, "demo-train-out/demo/metrics.jsonl")
    told = subprocess.run([script, place], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert "git rm --cached FILE\ndemo-train-out/demo/metrics.jsonl\n" in told.stderr


def test_make_clean_deletes_what_was_made_and_nothing_that_git_tracks(tmp_path: Path) -> None:
    place = _repository(tmp_path, "docs/a.md", "training/configs/b.yaml")
    before = _status(place)
    made = (
        "dist",
        "demo-out",
        "demo-train-out/demo",
        "demo-predict-out",
        "aot-out",
        "studies-out",
        "target/release",
        ".venv/bin",
    )
    for name in made:
        (place / name).mkdir(parents=True)
        (place / name / "file").write_text("made")
    (place / ".venv" / ".created").write_text(f"{place}\n")
    assert _status(place).count("!!") == len(made)
    assert run_make(place, "clean").returncode == 0
    assert _status(place) == before
    # Should one of the folders come into git, it stays, and so do the others.
    _repository(place, "demo-out/rows/meta.json")
    told = run_make(place, "clean")
    assert told.returncode != 0
    assert "make clean would delete what git tracks: demo-out/rows/meta.json" in told.stderr
    assert (place / "demo-out" / "rows" / "meta.json").exists()


def test_make_clean_deletes_no_environment_but_its_own(tmp_path: Path) -> None:
    place = _repository(tmp_path / "here", "docs/a.md")
    # One that make did not set up, one that make set up from another folder, and the folder itself.
    (place / "mine" / "bin").mkdir(parents=True)
    theirs = tmp_path / "there" / "venv"
    (theirs / "bin").mkdir(parents=True)
    (theirs / ".created").write_text(f"{theirs.parent}\n")
    for name in ("mine", ".", str(theirs)):
        assert run_make(place, "clean", f"VENV={name}").returncode == 0
    assert (place / "mine" / "bin").exists()
    assert (theirs / "bin").exists()
    assert (place / "docs" / "a.md").exists()


def test_a_make_in_the_tests_hears_nothing_of_the_make_around_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make test VENV=X` hands `VENV=X` on in MAKEFLAGS; a `make clean` below it must not delete X."""
    place = _repository(tmp_path / "here", "docs/a.md")
    outer = place / "outer"
    outer.mkdir(parents=True)
    (outer / ".created").write_text(f"{place}\n")
    monkeypatch.setenv("MAKEFLAGS", f" -- VENV={outer}")
    monkeypatch.setenv("VENV", str(outer))
    assert run_make(place, "clean").returncode == 0
    assert outer.exists()
    # It is what the environment would have done.
    assert run_make(place, "clean", MAKEFLAGS=f" -- VENV={outer}").returncode == 0
    assert not outer.exists()


def test_every_target_has_a_rule_and_the_help_names_the_ones_for_people() -> None:
    makefile = (ROOT / "Makefile").read_text()
    announced = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert announced is not None
    told = run_make(ROOT, "help").stdout
    for target in announced.group(1).split():
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target} has no rule"
        if target not in ("help", "test-rust", "test-python"):
            assert f"make {target} " in told, f"make help does not name {target}"
