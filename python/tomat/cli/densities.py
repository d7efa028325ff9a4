"""Compute densities with a DFT program: training data of your own dialect, in the rho_gga layout.

\b
Examples:
  tomat densities structures --engine qe --pseudo sg15 --ecutwfc 60 -o rho_gga
  tomat densities *.cif --engine qe --pseudo sg15 --ecutwfc 60 --kspacing 0.2 --workers 8 -o rho_gga
  tomat densities Si.cif --engine qe --pseudo sg15 --ecutwfc 30 --kpoints 4,4,4 -o rho_gga

STRUCTURE is a POSCAR, a CIF, any file pymatgen or ASE reads, a density (only its crystal is used), a folder of such
files, or a .txt list of them. Runs have no spin, smearing for every crystal, metal or not, and one thread each; the
pseudopotentials are norm-conserving, one file an element (Si.UPF, Si_ONCV_PBE-1.2.upf.gz). OUT receives
label/NAME.zarr, with the input of the program and the hashes of the pseudopotentials in its metadata, and lists of what
is there, with a split by chemical system. To resume, or to try failed structures again, run the same command again:
what is finished stays. failed/NAME holds the input and output of a structure that failed.

Exit codes: 0 all are there; 1 some failed; 130 stopped (SIGINT, SIGTERM).
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomat._threads import MAX_THREADS
from tomat.cli._shared import INTERRUPTED, AsJson, counted, named_bar, print_failures

if TYPE_CHECKING:
    from types import FrameType

    from tomat.densities.run import DensitySummary


def command(
    structures: Annotated[
        list[str], typer.Argument(metavar="STRUCTURE...", help="Crystals: files, folders, or .txt lists.")
    ],
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")],
    pseudo: Annotated[Path, typer.Option(help="Folder of pseudopotentials (UPF), plain or gzipped.")],
    ecutwfc: Annotated[float, typer.Option(help="Cutoff of the wave functions, Ry.")],
    ecutrho: Annotated[
        float | None, typer.Option(help="Cutoff of the density, Ry.  [default: 4 x --ecutwfc]")
    ] = None,
    engine: Annotated[str, typer.Option(help="The program: qe (pw.x of Quantum ESPRESSO).")] = "qe",
    kspacing: Annotated[
        float,
        typer.Option(help="Largest distance of k points, 1/angstrom (with 2 pi); the mesh is through Gamma."),
    ] = 0.3,
    kpoints: Annotated[str | None, typer.Option(help="One mesh for all crystals instead: n1,n2,n3.")] = None,
    smearing: Annotated[str, typer.Option(help="gaussian, mp, mv (cold) or fd.")] = "mv",
    degauss: Annotated[float, typer.Option(help="Width of the smearing, Ry.")] = 0.015,
    conv_thr: Annotated[float, typer.Option(help="SCF has converged below this accuracy, Ry a cell.")] = 1e-9,
    mixing_beta: Annotated[
        float, typer.Option(help="Share of the new density in each step; less where SCF does not converge.")
    ] = 0.6,
    max_steps: Annotated[int, typer.Option(min=1, help="SCF steps before giving up.")] = 100,
    pw: Annotated[str, typer.Option("--pw", help="The program and what goes before it.")] = "pw.x",
    timeout: Annotated[
        float | None, typer.Option(help="Seconds a structure may take.  [default: no limit]")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Structures at once.  [default: one per processor]",
            min=1,
            max=MAX_THREADS,
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Shares of the splits, by chemical system.")
    ] = "train=0.8,validation=0.1,test=0.1",
    seed: Annotated[int, typer.Option(help="Seed of the division into splits.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: AsJson = False,
) -> None:
    from tomat.catalogue.division import parse_fractions
    from tomat.densities.base import EngineOptions
    from tomat.densities.engines import open_engine
    from tomat.densities.kmesh import parse_mesh
    from tomat.densities.run import compute_densities
    from tomat.prediction.run import expand

    options = EngineOptions(
        pseudo=pseudo,
        ecutwfc=ecutwfc,
        ecutrho=ecutrho,
        kspacing=kspacing,
        kpoints=None if kpoints is None else parse_mesh(kpoints),
        smearing=smearing,
        degauss=degauss,
        conv_thr=conv_thr,
        mixing_beta=mixing_beta,
        max_steps=max_steps,
        command=pw,
        timeout=timeout,
    )
    fractions = parse_fractions(split)
    opened, paths = open_engine(engine, options), expand(structures)
    # A batch system ends a job with SIGTERM: the programs that run are ended too, and the lists written.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with named_bar("densities", len(paths), shown=not (quiet or as_json)) as report:
            summary = compute_densities(
                opened, paths, out, workers=workers, fractions=fractions, seed=seed, report=report
            )
    except KeyboardInterrupt:
        print(f"{out}: stopped; run the same command again to resume", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    if as_json:
        print(json.dumps({"output": str(out), **asdict(summary)}))
    else:
        _print(summary, out, quiet=quiet)
    if summary.failed:
        raise SystemExit(1)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print(summary: DensitySummary, out: Path, *, quiet: bool) -> None:
    print_failures(summary.failed)
    if quiet:
        return
    for record in summary.computed:
        print(_line(record))
    counts = counted("computed", len(summary.computed), len(summary.skipped), len(summary.failed))
    print(f"{out}: {counts}, {summary.seconds:.1f} s")
    print(f"splits: {', '.join(f'{n} {name}' for name, n in summary.splits.items())}")


def _line(record: dict[str, Any]) -> str:
    grid, mesh = (" x ".join(map(str, record[name] or ())) for name in ("grid", "kmesh"))
    return (
        f"{record['name']}: {record['formula']}, {record['electrons']:g} electrons, grid {grid}, k points {mesh}, "
        f"{record['n_iter']} iterations, {record['seconds']:.1f} s"
    )
