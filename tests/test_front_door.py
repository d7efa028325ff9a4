"""What a newcomer meets first: the import, the README's example, the interpreter finder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tomat

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"

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


def test_the_import_is_light() -> None:
    code = "import sys, tomat; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded & {"tomat", "numpy"} == {"tomat", "numpy"}
    assert not loaded & set(HEAVY)


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
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
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
