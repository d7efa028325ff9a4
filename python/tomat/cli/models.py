"""List the models that come with the package: what they predict, and how well on crystals they have not seen.

A model is given by its name wherever a command takes a checkpoint: tomat predict sg15-pbe Si.cif. With a NAME, its card
is printed: elements, training command, scores.

\b
Examples:
  tomat models
  tomat models sg15-pbe
  tomat models --json
"""

from __future__ import annotations

import json
import textwrap
from typing import Annotated

import typer

from tomat.cli._shared import AsJson
from tomat.models import BundledModel, bundled, bundled_models


def command(
    name: Annotated[str | None, typer.Argument(help="A model, to print its card.")] = None,
    as_json: AsJson = False,
) -> None:
    models = bundled_models() if name is None else [_named(name)]
    if as_json:
        print(json.dumps([_facts(model) for model in models]))
    elif name is not None:
        print((models[0].folder / "README.md").read_text(encoding="utf-8"), end="")
    else:
        _print(models)


def _named(name: str) -> BundledModel:
    model = bundled(name)
    if model is None:
        known = ", ".join(model.name for model in bundled_models())
        raise ValueError(f"{name}: no such model in the package; there are {known}")
    return model


def _facts(model: BundledModel) -> dict[str, object]:
    return {
        "name": model.name,
        "folder": str(model.folder),
        "dialect": model.dialect,
        "elements": sorted(model.elements),
        "scores": model.scores,
        "bytes": model.size,
    }


def _print(models: list[BundledModel]) -> None:
    from tomat._core import elements

    symbols = elements()
    for model in models:
        scores = model.scores
        mine, start = (100 * scores[mode]["nmae"]["mean"] for mode in ("one_pass", "promolecule"))
        names = " ".join(symbols[z - 1] for z in sorted(model.elements))
        facts = {
            "densities": model.dialect,
            "NMAE": f"{mine:.2f} % on {scores['materials']} held-out crystals; promolecule {start:.2f} %",
            "elements": f"{len(model.elements)}: {names}",
        }
        print(f"{model.name}  ({model.size / 1e6:.1f} MB)")
        for name, text in facts.items():
            print(textwrap.fill(text, 80, initial_indent=f"  {name:<12}", subsequent_indent=" " * 14))
