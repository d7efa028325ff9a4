"""Inputs of ``pw.x``: one run of SCF, without spin."""

from __future__ import annotations

from collections.abc import Mapping

from tomat import _core
from tomat.crystal import Crystal
from tomat.densities.base import EngineOptions
from tomat.formats.qe import cutoffs

#: What ``prefix`` is in every input: the save folder is ``x.save``.
PREFIX = "x"


def pw_input(
    crystal: Crystal, pseudo: Mapping[str, str], mesh: tuple[int, int, int], options: EngineOptions
) -> str:
    """An input that ``pw.x`` runs as it is, where ``pseudo_dir`` has the files.

    Args:
        crystal: cell and atoms, written to the digit.
        pseudo: the file of each element of the crystal, by symbol.
        mesh: k points, through Gamma. With one alone, its tricks are used (half of the G vectors).
        options: everything else.
    """
    symbols = [_core.elements()[z - 1] for z in crystal.atomic_numbers.tolist()]
    species = sorted(set(symbols))
    ecutwfc, ecutrho = cutoffs(options.ecutwfc, options.ecutrho)
    lines = [
        "&control",
        f"calculation='scf', prefix='{PREFIX}', outdir='.', disk_io='low'",
        "pseudo_dir='.'",
        "/",
        "&system",
        f"ibrav=0, nat={len(symbols)}, ntyp={len(species)}, ecutwfc={ecutwfc:.10g}, ecutrho={ecutrho:.10g}",
        f"occupations='smearing', smearing='{options.smearing}', degauss={options.degauss:.10g}, nspin=1",
        "/",
        "&electrons",
        f"conv_thr={options.conv_thr:.10g}, electron_maxstep={options.max_steps}, "
        f"mixing_beta={options.mixing_beta:.10g}",
        "/",
        "ATOMIC_SPECIES",
        *(f"{one} 1.0 {pseudo[one]}" for one in species),
        "CELL_PARAMETERS angstrom",
        *(_row(row) for row in crystal.lattice.tolist()),
        "ATOMIC_POSITIONS crystal",
        *(f"{one} {_row(xyz)}" for one, xyz in zip(symbols, crystal.frac_coords.tolist(), strict=True)),
    ]
    if mesh == (1, 1, 1):
        lines.append("K_POINTS gamma")
    else:
        lines += ["K_POINTS automatic", f"{' '.join(map(str, mesh))} 0 0 0"]
    return "\n".join(lines) + "\n"


def _row(values: list[float]) -> str:
    return " ".join(f"{value:.16g}" for value in values)
