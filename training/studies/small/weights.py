"""Budgets by electrons against equal ones, with the field model: see :mod:`training.studies.sampling_weight.study`.

Phase 1 asks whether an effect shows in short trainings (600 steps); phase 2 trains for longer (1,500 steps),
with the same configurations. Both have three seeds an arm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from training.studies.sampling_weight.study import ARMS, sampling_weight
from training.studies.small.lab import Training

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tomat.evaluate.result import Result
    from training.studies.small.lab import Lab

#: Steps of each phase.
STEPS = {1: 600, 2: 1500}


def training(phase: int, budget: str, seed: int, options: Mapping[str, object]) -> Training:
    """One of the study's runs."""
    fields = {"trainer.num_train_steps": STEPS[phase], "trainer.seed": seed, **options}
    return Training(f"phase{phase}-{budget}-{seed}", f"sampling-weight/field-{budget}.yaml", fields)


def run(lab: Lab, phase: int, seeds: Sequence[int], options: Mapping[str, object]) -> dict[str, Any]:
    """Train and evaluate what is not there yet; the study as JSON, with ``title`` and ``tables`` for reports."""
    lab.split_file(1)
    arms: dict[str, list[Result]] = {}
    for budget in ARMS:
        arms[budget] = []
        for seed in seeds:
            one = training(phase, budget, seed, options)
            lab.train(one)
            arms[budget].append(lab.evaluate(one.name, lab.run_of(one), "held-out", "--weights", "latest"))
    content = sampling_weight(arms["equal"], arms["electrons"], "one_pass")
    return {**content, "title": f"Sampling weights, phase {phase}"}
