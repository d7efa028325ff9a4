"""Promolecules, densities as sums of spherical atoms: fit them, and measure their error.

\b
Examples:
  tomat promolecule fit rho_gga --split train --prefix qe -o qe.npz
  tomat promolecule eval qe.npz rho_gga --split validation --prefix qe
  tomat promolecule eval slater rho_gga --split validation --prefix qe --valence qe.npz
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from tomat._threads import in_order
from tomat.categories import CATEGORIES, Category, category
from tomat.cli._lazy import HELP
from tomat.cli._shared import AsJson, Inputs, SplitFile, Threads, plain_table
from tomat.dataset.inputs import resolve_inputs
from tomat.material import Entry, read
from tomat.metrics import nmae, statistics
from tomat.promolecule import FORMS, Promolecule
from tomat.valence import Dispute, Valence

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tomat.material import Material

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    context_settings=HELP,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

#: Columns of the table: the fields of :class:`tomat.metrics.Statistics`.
_STATISTICS = ("mean", "median", "p99", "max")

#: Materials listed as worst, and as left out.
_WORST = 8

_Split = Annotated[
    list[str] | None, typer.Option("--split", help="Split to use, for a rho_gga root; repeatable.")
]
_Prefix = Annotated[
    list[str] | None,
    typer.Option("--prefix", help="Use only materials whose id begins with this; repeatable."),
]


@app.command("fit")
def fit(
    inputs: Inputs,
    output: Annotated[Path, typer.Option("-o", "--output", help="The promolecule file (.npz) to write.")],
    split: _Split = None,
    split_file: SplitFile = None,
    prefix: _Prefix = None,
    cutoff: Annotated[float, typer.Option(help="Cutoff radius of the functions, angstrom.")] = 5.0,
    splines: Annotated[int, typer.Option(help="Cubic B-splines per element.")] = 24,
    inner: Annotated[float, typer.Option(help="Knots are densest around this distance, angstrom.")] = 0.5,
    loss: Annotated[str, typer.Option(help="squared, relative or absolute (the NMAE).")] = "absolute",
    steps: Annotated[int, typer.Option(min=0, help="Reweighting passes of --loss absolute.")] = 5,
    ridge: Annotated[float, typer.Option(help="Penalty on the coefficients.")] = 1e-4,
    smooth: Annotated[float, typer.Option(help="Penalty on their second differences.")] = 1e-9,
    conserve: Annotated[
        bool, typer.Option("--conserve", help="Constrain each element to its valence electrons.")
    ] = False,
    voxels: Annotated[
        int | None,
        typer.Option(min=1, help="Approximate number of voxels per material, evenly spread.  [default: all]"),
    ] = None,
    threads: Threads = None,
) -> None:
    """Fit the radial functions of all elements in INPUT."""
    from rich.console import Console
    from rich.progress import Progress

    entries = _entries(inputs, split, split_file, prefix)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("materials", total=None)
        promolecule = Promolecule.fit(
            [entry.path for entry in entries],
            cutoff=cutoff,
            splines=splines,
            inner=inner,
            loss=loss,
            steps=steps,
            ridge=ridge,
            smooth=smooth,
            conserve=conserve,
            voxels=voxels,
            threads=threads,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    promolecule.save(output)
    disputed = {int(z): Dispute.from_json(what) for z, what in promolecule.about.get("disputed", {}).items()}
    for line in Valence(disputed=disputed).complaints():
        print(
            f"warning: {line}: the densities use different pseudopotentials; fit one set at a time (--prefix)",
            file=sys.stderr,
        )
    print(f"{output}: {promolecule!r} from {len(entries)} materials, hash {promolecule.hash[:16]}")


@app.command("eval")
def evaluate(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help=f"A file, a bundled name, {', '.join(FORMS)}, or constant.")
    ],
    inputs: Inputs,
    split: _Split = None,
    split_file: SplitFile = None,
    prefix: _Prefix = None,
    fallback: Annotated[
        str | None,
        typer.Option(
            help="Analytic form for elements missing from FILE; otherwise their materials are left out."
        ),
    ] = None,
    valence: Annotated[
        str | None, typer.Option(help="Fitted promolecule whose electron counts an analytic FILE uses.")
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            help="Scale to the valence electrons of the atoms (valence), those of the material (true), or none."
        ),
    ] = "valence",
    as_json: AsJson = False,
    threads: Threads = None,
) -> None:
    """Measure the NMAE of a promolecule as a predictor: sum |error| / sum |density|, over materials."""
    entries = _entries(inputs, split, split_file, prefix)
    predict = _predictor(file, fallback, valence, scale)
    measured = [found for _, found in in_order(lambda entry: _measure(entry, predict), entries, threads)]
    facts = _summary(file, measured)
    if as_json:
        print(json.dumps(facts))
        return
    _print_table(facts)


def _entries(
    inputs: list[str], splits: list[str] | None, split_file: str | None, prefixes: list[str] | None
) -> list[Entry]:
    wanted: list[str | None] = [*splits] if splits else [None]
    entries = [e for split in wanted for e in resolve_inputs(inputs, split_file=split_file, split=split)]
    chosen = [e for e in entries if not prefixes or e.task_id.startswith(tuple(prefixes))]
    if not chosen:
        raise ValueError(f"none of the {len(entries)} ids begins with {' or '.join(prefixes or [])}")
    return chosen


def _predictor(
    file: str, fallback: str | None, valence: str | None, scale: str
) -> Callable[[Material], NDArray[np.float64] | None]:
    """A function from a material to its predicted density; None if an element has no radial function."""
    if scale not in ("valence", "true", "none"):
        raise ValueError(f"--scale {scale!r}; give valence, true or none")
    if file == "constant":
        return lambda material: np.full(material.grid_shape, material.density.mean(dtype=np.float64))
    if valence is not None and file not in FORMS:
        raise ValueError(f"--valence applies to an analytic form ({', '.join(FORMS)}), not to {file}")
    counts: dict[int, float] = {}
    if valence is not None:
        known = Promolecule.load(valence)
        pairs = zip(known.atomic_numbers.tolist(), known.electrons.tolist(), strict=True)
        counts = {z: count for z, count in pairs if math.isfinite(count)}
    promolecule = Promolecule.analytic(file, counts) if file in FORMS else Promolecule.load(file)
    elements = set(promolecule.atomic_numbers.tolist())

    def predict(material: Material) -> NDArray[np.float64] | None:
        if fallback is None and not elements.issuperset(material.atomic_numbers.tolist()):
            return None
        count: Any = {"valence": "valence", "true": material.n_electrons, "none": None}[scale]
        return promolecule.predict(material, n_electrons=count, fallback=fallback)

    return predict


def _measure(
    entry: Entry, predict: Callable[[Material], NDArray[np.float64] | None]
) -> tuple[str, Category, float | None]:
    """Id, chemical category and NMAE of a material; NMAE None if an element has no radial function."""
    material = read(entry.path)
    predicted = predict(material)
    error = None if predicted is None else nmae(predicted, material.density)
    return entry.task_id, category(material.atomic_numbers), error


def _summary(file: str, measured: list[tuple[str, Category, float | None]]) -> dict[str, Any]:
    known = {name: value for name, _, value in measured if value is not None}
    if not known:
        raise ValueError(f"{file}: every material has an element without a radial function; see --fallback")
    groups = {
        c: [value for _, kind, value in measured if kind == c and value is not None] for c in CATEGORIES
    }
    worst = sorted(known.items(), key=lambda item: -item[1])[:_WORST]
    return {
        "promolecule": file,
        "materials": len(known),
        "left_out": sorted(name for name, _, value in measured if value is None),
        **_statistics(list(known.values())),
        "categories": {c: {"materials": len(v), **_statistics(v)} for c, v in groups.items() if v},
        "worst": [{"task_id": name, "nmae": value} for name, value in worst],
        "nmae": known,
    }


def _statistics(errors: list[float]) -> dict[str, float]:
    overall = statistics(errors)
    return {f"nmae_{name}": getattr(overall, name) for name in _STATISTICS}


def _print_table(facts: dict[str, Any]) -> None:
    from rich.console import Console

    table = plain_table("promolecule", "materials", *_STATISTICS)
    for label, part in ((facts["promolecule"], facts), *facts["categories"].items()):
        numbers = [f"{part[f'nmae_{name}']:.2%}" for name in _STATISTICS]
        table.add_row(label if part is facts else f"  {label}", str(part["materials"]), *numbers)
    console = Console()
    console.print(table)
    worst = ", ".join(f"{item['task_id']} {item['nmae']:.2%}" for item in facts["worst"])
    console.print(f"worst: {worst}", highlight=False)
    if left_out := facts["left_out"]:
        shown = ", ".join(left_out[:_WORST]) + (", ..." if len(left_out) > _WORST else "")
        console.print(f"left out, elements without a function: {len(left_out)} ({shown})", highlight=False)
