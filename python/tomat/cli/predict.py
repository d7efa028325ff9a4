"""Predict the densities of crystals.

\b
Examples:
  tomat predict Si.cif
  tomat predict runs/first structures/*.cif -o predicted --normalize --overlap 4
  tomat predict promolecule Si.cif -o guess --spacing 0.1 --format chgcar --format png
  tomat predict Si.cif -o qe --ecutwfc 60 --format qe
  tomat predict Si.cif -o seen --truth Si.zarr --format html
  tomat predict Si.cif -o abinit --ecutwfc 60 --format abinit
  tomat predict structures -o predicted --workers 8

MODEL is one of the package (tomat models), by default sg15-pbe; a folder or URL written by tomat train (a run's best
weights are used, see --weights) or tomat export, or its NAME.tomat; or the word promolecule: the sum of spherical
atoms, the baseline. STRUCTURE is a POSCAR, a CIF, any file pymatgen or ASE reads, a density (only its crystal is used),
a folder of such files, or a .txt list of them. OUT receives NAME.zarr, NAME.CHGCAR, NAME.png (if matplotlib is
installed; with --format html, the page NAME.html) and, once these are complete, NAME.json. To resume an interrupted
prediction, run the same command again.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomat.cli._models import decoding_options
from tomat.cli._shared import counted, grouped, named_bar, print_failures
from tomat.cli._workers import crew_options
from tomat.formats import FORMATS
from tomat.formats.qe import SWITCHES, cutoffs
from tomat.formats.qe.hdf5 import h5py_for
from tomat.formats.vasp import AUGMENTATION_NOTE
from tomat.prediction.checks import MAX_GUESS_ERROR
from tomat.prediction.options import DecodingConfig

if TYPE_CHECKING:
    from tomat.engine.crew import Crew
    from tomat.prediction.run import RunSummary


def _positive(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"{value:g} is not a number above 0")
    return value


@grouped(decoding=decoding_options(), crew=crew_options)
def command(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] STRUCTURE...", help="A model, and crystals: files, folders, or .txt lists."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("predicted"),
    grid: Annotated[str | None, typer.Option(help="Grid of the density: nx,ny,nz.")] = None,
    like: Annotated[str | None, typer.Option(help="A density whose grid to use.")] = None,
    spacing: Annotated[
        float | None,
        typer.Option(
            help="Distance between grid points, angstrom.  [default: that of the training data]",
            callback=_positive,
        ),
    ] = None,
    ecutwfc: Annotated[
        float | None,
        typer.Option(
            help="Cutoff of the wave functions of a Quantum ESPRESSO run, Ry: its grid, and --format qe.",
            callback=_positive,
        ),
    ] = None,
    ecutrho: Annotated[
        float | None,
        typer.Option(help="Cutoff of its density, Ry.  [default: 4 x --ecutwfc]", callback=_positive),
    ] = None,
    gamma_only: Annotated[
        bool,
        typer.Option(
            "--gamma-only", help="--format qe: for runs with K_POINTS gamma, half of the G vectors."
        ),
    ] = False,
    hdf5: Annotated[
        bool,
        typer.Option("--hdf5", help="--format qe: charge-density.hdf5, for builds of pw.x with HDF5."),
    ] = False,
    radices: Annotated[
        str, typer.Option(help="Prime factors allowed in a grid chosen by spacing.")
    ] = "2,3,5,7",
    overlap: Annotated[int, typer.Option(min=0, help="Grid points by which patches overlap.")] = 0,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Scale the density to the valence electrons of the atoms.")
    ] = False,
    electrons: Annotated[
        float | None,
        typer.Option(help="Valence electrons of the cell; implies --normalize.", callback=_positive),
    ] = None,
    valence: Annotated[
        str | None,
        typer.Option(help="A promolecule whose valence counts are used; implies --normalize."),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="zarr, chgcar, cube, xsf, npz, qe, abinit, png, html, chgcar.gz, ...; repeatable.",
        ),
    ] = None,
    truth: Annotated[
        str | None, typer.Option(help="True density of the only STRUCTURE, to compare with.")
    ] = None,
    allow_unseen: Annotated[
        bool,
        typer.Option(
            "--allow-unseen", help="Let the promolecule stand in for elements the model has not seen."
        ),
    ] = False,
    max_guess_error: Annotated[
        float,
        typer.Option(
            help="Largest NMAE allowed for the starting density against --truth; half of it for its electrons.",
            callback=_positive,
        ),
    ] = MAX_GUESS_ERROR,
    augmentation: Annotated[
        str | None,
        typer.Option(help="A CHGCAR by VASP of the only STRUCTURE, whose PAW occupancies to copy."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace predictions made with other options.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
    *,
    decoding: DecodingConfig,
    crew: Crew | None,
) -> None:
    from tomat.lm.decode.opening import divide, open_predictor
    from tomat.material import read
    from tomat.prediction.grid import parse_grid
    from tomat.prediction.many import predict_many
    from tomat.prediction.outputs import parse_formats
    from tomat.prediction.run import RunOptions, expand, predict_files
    from tomat.promolecule import Promolecule

    suffixes = parse_formats(formats or _default_formats())
    options = RunOptions(
        grid=None if grid is None else parse_grid(grid),
        like=None if like is None else read(like),
        spacing=spacing,
        cutoffs=_cutoffs(ecutwfc, ecutrho, suffixes),
        switches=_switches(gamma_only, hdf5, suffixes),
        radices=_radices(radices),
        overlap=overlap,
        normalize=normalize or electrons is not None or valence is not None,
        electrons=electrons,
        valence=None if valence is None else Promolecule.load(valence),
        truth=None if truth is None else read(truth),
        augmentation=augmentation,
        overwrite=overwrite,
        max_guess_error=max_guess_error,
        allow_unseen=allow_unseen,
    )
    checkpoint, structures = divide(given)
    paths = expand(structures)
    shown = not (quiet or as_json)
    if crew is None or len(paths) == 1:
        predictor = open_predictor(checkpoint, decoding)
        if predictor.weights and shown:
            print(predictor.weights, file=sys.stderr)
        with named_bar("structures", len(paths), shown=shown) as at:
            summary = predict_files(
                predictor, paths, out, suffixes, options, lambda done, name, share: at(done + share, name)
            )
    else:
        opener = partial(open_predictor, checkpoint, decoding)
        with named_bar("structures", len(paths), shown=shown) as at:
            summary = predict_many(
                opener, paths, out, suffixes, options, crew, lambda done, name, share: at(done + share, name)
            )
    if as_json:
        print(json.dumps({"output": str(out), **asdict(summary)}))
    else:
        _print(summary, out, suffixes, quiet=quiet, note=augmentation is None)
    if summary.failed:
        raise SystemExit(1)


def _default_formats() -> list[str]:
    """Files that are written if none are named; the picture only where it can be drawn."""
    drawn = importlib.util.find_spec("matplotlib") is not None
    return ["zarr", "chgcar", *(["png"] if drawn else [])]


def _cutoffs(
    ecutwfc: float | None, ecutrho: float | None, suffixes: tuple[str, ...]
) -> tuple[float, float] | None:
    if ecutwfc is None and ecutrho is None:
        if FORMATS["qe"].suffix in suffixes:
            raise ValueError(
                "--format qe needs the cutoffs of the run that will read it: give --ecutwfc, in Ry"
            )
        return None
    return cutoffs(ecutwfc, ecutrho)


def _switches(gamma_only: bool, hdf5: bool, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    chosen = tuple(name for name, on in zip(SWITCHES, (gamma_only, hdf5), strict=True) if on)
    if chosen and FORMATS["qe"].suffix not in suffixes:
        raise ValueError(f"--{chosen[0].replace('_', '-')} is for --format qe, which is not asked for")
    if hdf5:
        h5py_for("--hdf5")
    return chosen


def _radices(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"radices {text!r}: give whole numbers, 2,3,5,7,11,13 for example") from error


def _print(summary: RunSummary, out: Path, suffixes: tuple[str, ...], *, quiet: bool, note: bool) -> None:
    print_failures(summary.failed)
    for record in summary.predicted:
        for doubt in record.get("warnings", []):
            print(f"warning: {record['name']}: {doubt}", file=sys.stderr)
    if quiet:
        return
    for record in summary.predicted:
        print(_line(record))
    counts = counted("predicted", len(summary.predicted), len(summary.skipped), len(summary.failed))
    print(f"{out}: {counts}, {summary.seconds:.2f} s")
    if note and summary.predicted and any(suffix.startswith(".CHGCAR") for suffix in suffixes):
        print(f"note: {AUGMENTATION_NOTE}.")


def _line(record: dict[str, Any]) -> str:
    grid = " x ".join(map(str, record["made_from"]["grid"]))
    electrons = record["electrons"]
    count = f"{electrons['raw']:.4f} electrons"
    if electrons["final"] != electrons["raw"]:
        count += f", normalised to {electrons['final']:.4f}"
    elif electrons["expected"] is not None:
        count += f" of {electrons['expected']:g}"
    parts = [f"grid {grid}", f"{record['n_patches']} patches {record['mode']}", count]
    if record["seams"]["roughness"] is not None:
        parts.append(f"seams {record['seams']['roughness']:.2f}")
    if "metrics" in record:
        parts.append(f"NMAE {100 * record['metrics']['nmae']:.3f} %")
    return f"{record['name']}: {', '.join(parts)}, {record['seconds']:.2f} s"
