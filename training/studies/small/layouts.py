"""Layout v3 against v2-lat: do atoms moved into the patch's frame make better models at equal steps?

Trainings that differ in the layout alone (``training/configs/layouts``), with three seeds each, of models that
predict all voxels at once (masked) and of causal ones (next token). Written down before any of them was trained:

- L1: one-pass NMAE of masked models is at least 0.3 points lower with v3 than with v2-lat.
- L2: teacher-forced NMAE of causal models (a diagnostic: it sees true neighbours) is at least 0.3 points lower with
  v3.
- L3: held-out information per token (IPT: bits per voxel of the frequencies of tokens alone, less the model's) is
  larger with v3, for both objectives.
- L4: NMAE on the training crystals, cut at other origins than in training, is at least 0.3 points lower with v3, for
  both objectives: a layout is about translations of what was seen.

L1 and L2 are measured on the whole cells of held-out crystals of at most 45,000 voxels, L4 on twelve such crystals of
the training split, all with the last weights and intervals over chemical systems and seeds; L3 on patches of the
validation crystals, with a t interval over pairs of one seed.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from tomat.evaluate.aggregate import Settings
from tomat.evaluate.bootstrap import Interval
from tomat.evaluate.compare import Contender
from tomat.evaluate.tables import percent
from tomat.view.table import Table
from training.studies.arms import bracketed, draws_of, hypothesis, metric_head, metric_rows, verdict_rows
from training.studies.small.lab import Training, mean_nmae

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tomat.report.runs import TrainingRun
    from training.studies.small.lab import Lab

#: The layouts; differences are those of the second minus the first.
LAYOUTS = ("v3", "v2-lat")
#: The name of each objective in names of runs, and the mode it is measured in.
MODES = {"masked": "one_pass", "next-token": "teacher_forced"}
#: L1's and L2's margin: 0.3 points of NMAE.
MARGIN = 0.003
#: Logged on held-out patches.
_UNIGRAM = "eval/unigram_bits_per_voxel"


def training(layout: str, objective: str, seed: int, options: Mapping[str, object]) -> Training:
    """One of the study's runs."""
    name = f"{layout}-{objective}-small"
    return Training(f"{name}-{seed}", f"layouts/{name}.yaml", {"trainer.seed": seed, **options})


def run(lab: Lab, seeds: Sequence[int], options: Mapping[str, object]) -> dict[str, Any]:
    """Train and evaluate what is not there yet; the study as JSON, with ``title`` and ``tables`` for reports.

    Args:
        lab: where.
        seeds: of the trainings.
        options: fields of the configurations to change, in all runs alike.
    """
    lab.split_file()
    found = [_objective(lab, objective, seeds, options) for objective in MODES]
    content: dict[str, Any] = {
        "format": "tomat layout study",
        "version": 1,
        "seeds": list(seeds),
        "objectives": found,
        "hypotheses": [h for one in found for h in one["hypotheses"]],
    }
    return {
        **content,
        "title": "Layout v3 against v2-lat",
        "tables": list(map(asdict, tables(content))),
    }


def _objective(
    lab: Lab, objective: str, seeds: Sequence[int], options: Mapping[str, object]
) -> dict[str, Any]:
    mode = MODES[objective]
    trainings = {layout: [training(layout, objective, seed, options) for seed in seeds] for layout in LAYOUTS}
    runs = {layout: [lab.train(one) for one in of] for layout, of in trainings.items()}
    arms = _evaluated(lab, trainings, "small", "", mode)
    seen = _evaluated(lab, trainings, "seen", "-seen", mode)
    draws, facts = draws_of(arms, Settings())
    seen_draws, seen_facts = draws_of(seen, Settings())
    ones, seen_ones = np.ones(len(facts)), np.ones(len(seen_facts))
    start = "start" if mode == "one_pass" else "start_teacher_forced"
    lines = {
        f"{layout}, start": mean_nmae(arm.results[0], start)
        for layout, arm in zip(LAYOUTS, arms, strict=True)
    }
    lines |= {name: mean_nmae(arms[0].results[0], name) for name in ("promolecule", "codec_floor")}
    bits = {layout: [held_out(one, mode) for one in of] for layout, of in runs.items()}
    ipt = {layout: [unigram - own for unigram, own in of] for layout, of in bits.items()}
    number = "L1" if objective == "masked" else "L2"
    gap = paired(np.subtract(ipt["v3"], ipt["v2-lat"]).tolist())
    return {
        "objective": objective,
        "mode": mode,
        "n": len(facts),
        "steps": runs["v3"][0].steps + 1,
        "metrics": [draws.metric("held out", ones), seen_draws.metric("seen in training", seen_ones)],
        "lines": lines,
        "bits_per_voxel": {layout: [own for _, own in of] for layout, of in bits.items()},
        "unigram_bits_per_voxel": {layout: of[0][0] for layout, of in bits.items()},
        "ipt": ipt,
        "ipt_difference": gap._asdict(),
        "hypotheses": [
            hypothesis(
                number,
                f"{objective}: NMAE is at least 0.3 points lower with v3",
                draws.difference(ones),
                MARGIN,
                above=True,
            ),
            hypothesis(
                f"L4, {objective}",
                "on training crystals, NMAE is at least 0.3 points lower with v3",
                seen_draws.difference(seen_ones),
                MARGIN,
                above=True,
            ),
            hypothesis(f"L3, {objective}", "information per token is larger with v3", gap, 0.0, above=True),
        ],
    }


def _evaluated(
    lab: Lab, trainings: Mapping[str, Sequence[Training]], split: str, suffix: str, mode: str
) -> tuple[Contender, Contender]:
    """The results of each layout's runs on whole cells of a split; the first run's with what it begins with.

    What a model begins with is the same to chance for every seed: once is enough.
    """
    first, second = (
        Contender(
            layout,
            mode,
            tuple(
                lab.evaluate(
                    one.name + suffix, lab.run_of(one), split, "--mode", mode, "--weights", "latest",
                    "--start" if at == 0 and not suffix else "--no-start",
                )
                for at, one in enumerate(trainings[layout])
            ),
        )
        for layout in LAYOUTS
    )  # fmt: skip
    return first, second


def held_out(run: TrainingRun, mode: str) -> tuple[float, float]:
    """Bits per voxel on held-out patches at the end of a run: of the frequencies of tokens, and of the model."""
    return run.series[_UNIGRAM].last, run.series[f"eval/{mode}/bits_per_voxel"].last


def paired(differences: Sequence[float]) -> Interval:
    """The mean of differences between runs of one seed, with Student's 95 % interval; open for a single one."""
    values = np.asarray(differences, np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, None, None)
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def tables(content: Mapping[str, Any]) -> list[Table]:
    """Hypotheses, NMAE, and bits."""
    nmae, bits = [], []
    for one in content["objectives"]:
        nmae += [(one["objective"], *row) for row in metric_rows(one["metrics"], LAYOUTS)]
        for name, value in one["lines"].items():
            at = {f"{layout}, start": i for i, layout in enumerate(LAYOUTS)}.get(name)
            shown = [percent(value), "-", "-", "-"] if at == 0 else ["-", "-", percent(value), "-"]
            if at is None:
                shown = [percent(value), "-", percent(value), "-"]
            nmae.append((one["objective"], name, str(one["n"]), *shown, "-"))
        for layout in LAYOUTS:
            values = one["bits_per_voxel"][layout]
            ipt = one["ipt"][layout]
            bits.append(
                (
                    one["objective"],
                    layout,
                    f"{one['unigram_bits_per_voxel'][layout]:.3f}",
                    ", ".join(f"{value:.3f}" for value in values),
                    f"{np.mean(ipt):.3f}",
                )
            )
    rows = list(verdict_rows([h for h in content["hypotheses"] if not h["name"].startswith("L3")]))
    rows += [
        (f"{h['name']}: {h['says']}", f"{bracketed(h['difference'])} bits", "0", h["verdict"])
        for h in content["hypotheses"]
        if h["name"].startswith("L3")
    ]
    note = (
        f"Seeds {', '.join(map(str, content['seeds']))}. Differences of NMAE are v2-lat minus v3, those of IPT v3 "
        "minus v2-lat: above 0, v3 is better."
    )
    return [
        Table("Hypotheses", ("", "difference, points", "bound", "verdict"), tuple(rows), (), note),
        Table("NMAE of whole cells", ("objective", *metric_head(LAYOUTS)), tuple(nmae), (), ""),
        Table(
            "Held-out bits per voxel",
            ("objective", "layout", "unigram", "seeds", "IPT, mean of seeds"),
            tuple(bits),
            (),
            "IPT: unigram bits less the model's.",
        ),
    ]
