"""Sliding windows against tiling: does a voxel scored where it has the most context around it come out better?

Evaluations alone, of models of other studies: a causal one with its true neighbours (a diagnostic), which knows only
what comes before a voxel in its patch, and one that refines the promolecule in one pass and sees a patch whole. Both
have patches of 7 grid points a side. Tiling gives each voxel one patch; overlapping patches leave a choice.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.evaluate.aggregate import Settings
from tomat.evaluate.compare import Contender
from tomat.evaluate.tables import interval, percent
from tomat.view.table import Table
from training.studies.arms import draws_of
from training.studies.small import layouts, scaling
from training.studies.small.lab import PARTS, Training, mean_nmae

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tomat.evaluate.result import Result
    from training.studies.small.lab import Lab

#: Grid points by which patches of 7 overlap.
OVERLAP = 3


@dataclass(frozen=True)
class Model:
    """A trained model and how it is measured.

    Attributes:
        training: of another study.
        mode: of the evaluation.
        windows: what becomes of voxels that several patches hold.
    """

    training: Training
    mode: str
    windows: tuple[str, ...]

    @property
    def start(self) -> str:
        """The mode of what it begins with."""
        return "start" if self.mode == "one_pass" else f"start_{self.mode}"


def models(lab: Lab, options: Mapping[str, object]) -> list[Model]:
    """The causal model, and the one that refines the promolecule."""
    causal = layouts.training("v3", "next-token", 0, options)
    refining = scaling.training(lab, scaling.TOKENS, "width-64", PARTS - 1, options)
    return [
        Model(causal, layouts.MODES["next-token"], ("latest", "middle", "blend")),
        Model(refining, "one_pass", ("middle", "blend")),
    ]


def run(lab: Lab, seeds: Sequence[int], options: Mapping[str, object]) -> dict[str, Any]:
    """Train and evaluate what is not there yet; the study as JSON, with ``title`` and ``tables`` for reports.

    Args:
        lab: where.
        seeds: not used: the seed of each model is that of its study's first run.
        options: fields of the configurations to change, in all runs alike.
    """
    del seeds
    lab.split_file()
    content: dict[str, Any] = {
        "format": "tomat window study",
        "version": 1,
        "models": [_model(lab, model) for model in models(lab, options)],
    }
    return {
        **content,
        "title": "Sliding windows against tiling",
        "tables": list(map(asdict, tables(content))),
    }


def _model(lab: Lab, model: Model) -> dict[str, Any]:
    name = model.training.name
    lab.train(model.training)

    def evaluated(suffix: str, *words: str) -> Result:
        options = ("--mode", model.mode, "--weights", "latest", *words)
        return lab.evaluate(f"window-{name}-{suffix}", lab.run_of(model.training), "few", *options)

    tiled = evaluated("tiled", "--start")
    ways = []
    for window in model.windows:
        of = evaluated(window, "--overlap", str(OVERLAP), "--window", window, "--no-start")
        arms = (Contender("tiling", model.mode, (tiled,)), Contender("window", model.mode, (of,)))
        draws, facts = draws_of(arms, Settings())
        found = draws.metric("NMAE", np.ones(len(facts)))
        patches = _patches(of, model.mode) / _patches(tiled, model.mode)
        ways.append(
            {
                "window": window,
                "overlap": OVERLAP,
                "patches": patches,
                "nmae": found["window"],
                "difference": found["difference"],
            }
        )
    return {
        "name": name,
        "mode": model.mode,
        "n": tiled.aggregates[model.mode]["n"],
        "tiled": tiled.aggregates[model.mode]["metrics"]["nmae"]["mean"],
        "lines": {line: mean_nmae(tiled, line) for line in (model.start, "promolecule", "codec_floor")},
        "windows": ways,
    }


def _patches(result: Result, mode: str) -> int:
    return sum(row["n_patches"] for row in result.of_mode(mode).values())


def tables(content: Mapping[str, Any]) -> list[Table]:
    """One of each model."""
    found = []
    for model in content["models"]:
        rows = [("tiling", "0", "1.0", interval(model["tiled"]), "-")]
        rows += [
            (
                way["window"],
                str(way["overlap"]),
                f"{way['patches']:.1f}",
                interval(way["nmae"]),
                interval(way["difference"]),
            )
            for way in model["windows"]
        ]
        lines = "; ".join(f"{name} {percent(value)} %" for name, value in model["lines"].items())
        head = ("window", "overlap", "patches, times tiling's", "NMAE, %", "less tiling's, points")
        title = f"{model['name']}, {model['mode']}, {model['n']} crystals"
        found.append(Table(title, head, tuple(rows), (), lines))
    return found
