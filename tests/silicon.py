"""An input of pw.x for the silicon of tests/data/qe that takes it a second or less."""

from __future__ import annotations

import shutil

import pytest

PW = shutil.which("pw.x")
needs_pw = pytest.mark.skipif(
    PW is None, reason="pw.x is not installed (Debian: apt-get install quantum-espresso)"
)

_INPUT = """&control
calculation='{task}', prefix='x', outdir='.', disk_io='low', pseudo_dir='.'
/
&system
ibrav=0, nat=2, ntyp=1, ecutwfc=12, ecutrho=48, occupations='smearing', smearing='mv', degauss=0.015
/
&electrons
conv_thr=1e-9, startingpot='{start}'
/
ATOMIC_SPECIES
Si 1.0 Si.UPF
CELL_PARAMETERS angstrom
-2.7344445000 -2.7344445000 0.0000000000
-2.7344445000 0.0000000000 -2.7344445000
0.0000000000 -2.7344445000 -2.7344445000
ATOMIC_POSITIONS crystal
Si 0.5 0.5 0.5
Si 0.25 0.25 0.25
K_POINTS {k_points}
"""


def mesh(n: int) -> str:
    """n x n x n k points, as an input names them."""
    return f"automatic\n{n} {n} {n} 0 0 0"


def pw_input(*, task: str = "scf", start: str = "atomic", k_points: str = mesh(2)) -> str:
    """The input."""
    return _INPUT.format(task=task, start=start, k_points=k_points)
