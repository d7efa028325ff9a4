"""ABINIT starts from written files: the format is right if the exact density is already the answer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tomat
from places import DATA
from tomat.formats.qe.vectors import fft_grid

ABINIT = shutil.which("abinit")
pytestmark = pytest.mark.skipif(
    ABINIT is None, reason="ABINIT is not installed (Debian: apt-get install abinit)"
)

#: Hydrogen, with the parameters of S. Goedecker, M. Teter and J. Hutter, Phys. Rev. B 54, 1703 (1996).
PSEUDO = """Goedecker-Teter-Hutter
1 1 960508
2 1 0 0 2001 0.
.2000000 -4.0663326 0.6778322 0 0
0 0 0
0 0
1.36 .2 0.6
"""
INPUT = """pseudos "H.pspgth"
ecut 5
{bands}
nstep 30
nnsclo 6
nline 6
acell 3*1.0 angstrom
rprim 2.4 0.1 0.0  0.0 2.7 0.2  -0.3 0.0 3.5
natom 2
ntypat 1
typat 1 1
znucl 1
xred 0.1 0.2 0.3  0.12 0.21 0.51
ngkpt 1 1 1
nshiftk 1
shiftk 0 0 0
chksymtnons 0
prtwf 0
{more}
"""
SCF = "toldfe 1e-9"
BANDS = "iscf -2\ntolwfr 1e-16"


def abinit(folder: Path, more: str, density: tomat.Material | None = None, bands: str = "nband 3") -> str:
    """What a run prints; it leaves ``xo_DEN``."""
    assert ABINIT is not None
    folder.mkdir()
    (folder / "H.pspgth").write_text(PSEUDO)
    if density is not None:
        density.write(folder / "start_DEN")
        more += '\ngetden_filepath "start_DEN"'
    (folder / "x.abi").write_text(INPUT.format(bands=bands, more=more))
    command = [ABINIT, "x.abi"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert "Calculation completed" in done.stdout, done.stdout[-3000:] + done.stderr
    return (folder / "x.abo").read_text()


def residuals(printed: str) -> list[float]:
    """The residual of the potential in each iteration."""
    assert "is converged" in printed
    return [float(line.split()[-1]) for line in re.findall(r"^ ETOT .*$", printed, re.MULTILINE)]


def eigenvalues(printed: str) -> list[float]:
    """In hartree."""
    (found,) = re.findall(r"Eigenvalues \(hartree\).*\n kpt#.*\n(.*)\n", printed)
    return [float(word) for word in found.split()]


def test_abinit_starts_from_the_exact_density(tmp_path: Path) -> None:
    """From its own density, read and written again: converged at once (it takes three steps to say so)."""
    first = residuals(abinit(tmp_path / "ran", SCF))
    converged = tomat.read(tmp_path / "ran" / "xo_DEN")
    found = residuals(abinit(tmp_path / "again", SCF, converged))
    assert first[0] > 0.1
    assert found[0] < 1e-6
    assert len(found) <= 4 < len(first)
    # Half of the density flat: no better than none.
    flat = np.full_like(converged.density, converged.n_electrons / converged.volume)
    mixed = tomat.Material.on(converged.crystal, (converged.density + flat) / 2, "e_per_A3")
    assert residuals(abinit(tmp_path / "mixed", SCF, mixed))[0] > 1e-2


def test_abinit_finds_the_bands_of_a_density(tmp_path: Path) -> None:
    abinit(tmp_path / "ran", SCF)
    converged = tomat.read(tmp_path / "ran" / "xo_DEN")
    found = eigenvalues(abinit(tmp_path / "ours", BANDS, converged))
    shutil.copy(tmp_path / "ran" / "xo_DEN", tmp_path / "theirs_DEN")
    own = f'{BANDS}\ngetden_filepath "../theirs_DEN"'
    np.testing.assert_allclose(found, eigenvalues(abinit(tmp_path / "theirs", own)), atol=2e-5)
    assert len(found) == 3


def test_the_grid_of_a_cutoff_is_one_that_abinit_takes(tmp_path: Path) -> None:
    """As docs/prediction.md says: give the run the grid of the file, since ABINIT interpolates linearly."""
    cell = tomat.read(DATA / "abinit" / "H2_DEN").lattice
    grid = fft_grid(cell, 40.0)
    ngfft = f"{SCF}\nngfft {grid[0]} {grid[1]} {grid[2]}"
    abinit(tmp_path / "ran", ngfft)
    converged = tomat.read(tmp_path / "ran" / "xo_DEN")
    assert converged.grid_shape == grid
    same = residuals(abinit(tmp_path / "same", ngfft, converged))
    interpolated = residuals(abinit(tmp_path / "interpolated", f"{SCF}\nngfft 12 15 18", converged))
    assert same[0] < 1e-6 < interpolated[0]


def test_the_total_of_a_run_with_spin_is_read(tmp_path: Path) -> None:
    """Two spins, three in the first: the molecule with one electron excited."""
    spin = "nsppol 2\noccopt 2\nocc 1 1 0  0 0 0\ntoldfe 1e-7"
    abinit(tmp_path / "ran", spin, bands="nband 3 3")
    found = tomat.read(tmp_path / "ran" / "xo_DEN")
    assert found.source["has_spin"] is True
    assert found.n_electrons == pytest.approx(2.0, rel=1e-6)
