"""How the error falls with data, parameters and FLOPs: trainings over parts of the data and sizes of the model.

Two families: the field model, measured on whole held-out crystals, and a small transformer on density tokens, measured
on patches of the validation crystals. The transformer refines the promolecule's tokens (objective ``guess``): from
masked voxels alone, one of this size learns nothing of places in such a time (docs/studies/layouts.md). Parts are
nested and hold whole chemical systems; every part has twice the systems of the one before. All trainings of a family
take the same number of steps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.evaluate.aggregate import Settings
from tomat.evaluate.tables import interval, percent
from tomat.view.table import Table
from training.studies.arms import bracketed
from training.studies.small.fits import PowerLaw, fit_power_law
from training.studies.small.lab import PARTS, Training, mean_nmae

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tomat.evaluate.result import Result
    from training.studies.small.lab import Lab

#: Training materials of the Materials Project that others train on.
FULL = 77_466
#: Seed of all trainings.
SEED = 0
#: Resamples of the crystals for the intervals of the fits.
RESAMPLES = 500


@dataclass(frozen=True)
class Family:
    """Models of one kind.

    Attributes:
        name: in names of runs and in tables.
        config: of all of its trainings.
        sizes: options of each size, from small to large.
        whole: whether whole held-out crystals are evaluated.
        options: for all of its trainings.
    """

    name: str
    config: str
    sizes: Mapping[str, Mapping[str, object]]
    whole: bool
    options: Mapping[str, object] = field(default_factory=dict)


FIELD = Family(
    "field",
    "sampling-weight/field-equal.yaml",
    {
        "mini": {
            "model.field.state": 16,
            "model.field.channels": "[26, 8, 6, 4]",
            "model.field.embedding": 32,
            "model.field.message": 48,
            "model.field.mlp": "[48, 48]",
        },
        "tiny": {},
        "small": {"model.field.preset": "field-small"},
    },
    whole=True,
    options={"trainer.num_train_steps": 800, "trainer.steps_per_eval": 400},
)
TOKENS = Family(
    "tokens",
    "layouts/v3-masked-small.yaml",
    {f"width-{width}": {"model.hidden_dim": width} for width in (32, 64, 128)},
    whole=False,
    options={
        "objective.kind": "guess",
        "objective.voxel_weights": "nmae",
        "data.guess": "qe-sg15",
        "validation.guess": "qe-sg15",
        "loss.terms": "{emd: 1.0, kl_gaussian: 0.02}",
        "optimizer.type": "adam",
        "optimizer.learning_rate": 0.0005,
        "trainer.num_train_steps": 100,
        "trainer.steps_per_eval": 100,
    },
)
FAMILIES = {family.name: family for family in (FIELD, TOKENS)}


def training(lab: Lab, family: Family, size: str, part: int, options: Mapping[str, object]) -> Training:
    """One of the study's runs."""
    splits = str(lab.out / "split.json")
    fields = {
        "data.split_file": splits,
        "validation.split_file": splits,
        "data.split": f"train-{part}",
        "trainer.seed": SEED,
        **family.options,
        **family.sizes[size],
        **options,
    }
    return Training(f"{family.name}-{size}-{part}", family.config, fields)


def run(lab: Lab, name: str, options: Mapping[str, object]) -> dict[str, Any]:
    """Train and evaluate what is not there yet; the study as JSON, with ``title`` and ``tables`` for reports."""
    lab.split_file()
    family = FAMILIES[name]
    crystals = {part: len(ids) for part, ids in lab.parts().items()}
    points: list[dict[str, Any]] = []
    results: list[Result] = []
    for part in range(PARTS):
        for size in family.sizes:
            one = training(lab, family, size, part, options)
            trained = lab.train(one)
            point = {
                "name": one.name,
                "size": size,
                "crystals": crystals[f"train-{part}"],
                "steps": trained.steps + 1,
                "flops": trained.flops,
                "bits_per_voxel": trained.series["eval/one_pass/bits_per_voxel"].last,
                "unigram_bits_per_voxel": trained.series["eval/unigram_bits_per_voxel"].last,
                "patch_nmae": trained.series["eval/one_pass/nmae_median"].last,
                "start_patch_nmae": trained.series["eval/one_pass/nmae_median"].values[0],
                "cpu_seconds": lab.cpu_seconds(one),
            }
            if family.whole:
                start = "--start" if not points else "--no-start"
                result = lab.evaluate(one.name, lab.run_of(one), "held-out", "--weights", "latest", start)
                point |= {"nmae": result.aggregates["one_pass"]["metrics"]["nmae"]}
                point |= {"parameters": result.identity["methods"]["one_pass"]["parameters"]}
                results.append(result)
            else:
                point |= {"parameters": trained.parameters}
            points.append(point)
    content: dict[str, Any] = {
        "format": "tomat scaling study",
        "version": 1,
        "family": name,
        "points": points,
        "lines": _lines(results[0]) if results else {},
        "fits": [asdict(fit) for fit in _fits(family, points, _resampled(results))],
    }
    return {**content, "title": f"Scaling, {name}", "tables": list(map(asdict, tables(content)))}


def _lines(result: Result) -> dict[str, float]:
    """Mean NMAE of what a model begins with, of the promolecule, and of the codec's floor."""
    return {mode: mean_nmae(result, mode) for mode in ("start", "promolecule", "codec_floor")}


def _resampled(results: Sequence[Result]) -> NDArray[np.float64] | None:
    """Mean NMAE of each result, (resamples, results), over the same resamples of chemical systems."""
    if not results:
        return None
    rows = [result.of_mode("one_pass") for result in results]
    names = sorted(rows[0])
    facts = [rows[0][name] for name in names]
    table = np.array([[of[name]["nmae"] for of in rows] for name in names])
    return Settings(resamples=RESAMPLES).resampler(facts).means(table)


def _fits(
    family: Family, points: Sequence[Mapping[str, Any]], resampled: NDArray[np.float64] | None
) -> list[PowerLaw]:
    """Power laws of NMAE and bits against crystals at each size, against parameters and FLOPs with all crystals.

    Values on patches have one seed and no resamples: their intervals come from the residuals of the fit.
    """
    found = []

    def fit(name: str, x: str, chosen: list[int], at: float | None) -> None:
        of = [points[i] for i in chosen]
        drawn = None if resampled is None else resampled[:, chosen]
        places = [point[x] for point in of]
        bits = [point["bits_per_voxel"] for point in of]
        found.append(fit_power_law(name, x, places, list(map(nmae_of, of)), drawn, at=at))
        found.append(fit_power_law(name, x, places, bits, y="bits_per_voxel", at=at))

    for size in family.sizes:
        of_size = [i for i, point in enumerate(points) if point["size"] == size]
        fit(f"{family.name} {size}", "crystals", of_size, FULL)
    last = max(point["crystals"] for point in points)
    largest = [i for i, point in enumerate(points) if point["crystals"] == last]
    fit(f"{family.name}, all crystals", "parameters", largest, None)
    fit(f"{family.name}, all crystals", "flops", largest, None)
    return found


def nmae_of(point: Mapping[str, Any]) -> float:
    """The NMAE of a training: of whole crystals where those were evaluated, else of patches."""
    return float(point["nmae"]["mean"]["value"] if "nmae" in point else point["patch_nmae"])


def tables(content: Mapping[str, Any]) -> list[Table]:
    """The points, and the fits."""
    whole = "nmae" in content["points"][0]
    rows = []
    for point in content["points"]:
        nmae = point["nmae"]["mean"] if whole else None
        shown = percent(point["patch_nmae"]) if nmae is None else interval(nmae)
        rows.append(
            (
                point["size"],
                f"{point['parameters']:,.0f}",
                str(point["crystals"]),
                f"{point['flops']:.3g}",
                shown,
                f"{point['bits_per_voxel']:.2f}",
                f"{point['cpu_seconds']:.0f}",
            )
        )
    lines = "; ".join(f"{name} {percent(value)} %" for name, value in content["lines"].items())
    first = content["points"][0]
    if not lines:
        lines = f"start {percent(first['start_patch_nmae'])} %"
    note = f"{lines}; unigram {first['unigram_bits_per_voxel']:.2f} bits."
    head = ("size", "parameters", "crystals", "FLOPs", "NMAE, %", "bits per voxel", "CPU seconds")
    fits = [
        (
            of["name"],
            "NMAE" if of["y"] == "nmae" else "bits per voxel",
            of["x"],
            bracketed(of["exponent"]),
            "-" if of["at"] is None else f"{of['at']:,.0f}",
            "-" if of["predicted"] is None else _there(of),
        )
        for of in content["fits"]
    ]
    return [
        Table("Trainings", head, tuple(rows), (), note),
        Table(
            "Power laws y = a x^b",
            ("of", "y", "x", "b", "at", "y there"),
            tuple(fits),
            (),
            "Far beyond the data these are extrapolations of a straight line, not predictions.",
        ),
    ]


def _there(of: Mapping[str, Any]) -> str:
    return f"{interval(of['predicted'])} %" if of["y"] == "nmae" else bracketed(of["predicted"])
