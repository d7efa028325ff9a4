"""Estimates of training a field model."""

import json
from pathlib import Path

import jax
import pytest

pytest.importorskip("levanter")
from levanter.utils.jax_utils import parameter_count

import tiny_field
from tomat.lm.field.task import FieldTask
from tomat.lm.tasks import estimate_task


def test_counts_are_those_of_the_model_and_its_data(tmp_path: Path) -> None:
    config = tiny_field.config(tmp_path, steps=10)
    found = estimate_task(config, mfu=0.5)
    task = FieldTask.open(config)
    assert found.as_json()["parameters"] == parameter_count(task.build(jax.random.PRNGKey(0)))
    assert found.as_json()["data"]["materials"] == len(task.materials)
    assert found.as_json()["flops_per_step"] == 2 * task.flops  # two rows a step
    assert json.loads(json.dumps(found.as_json()))["batch"] == [2, 16, 16]


def test_hours_follow_from_steps_and_utilisation(tmp_path: Path) -> None:
    def hours(mfu: float, steps: int) -> float:
        found = estimate_task(tiny_field.config(tmp_path, steps=steps), mfu=mfu).as_json()
        return float(found["device_hours"]["NVIDIA H200"])

    assert hours(0.25, 40) == pytest.approx(2 * hours(0.5, 40))
    assert hours(0.5, 40) == pytest.approx(4 * hours(0.5, 10))


def test_weights_grow_with_what_is_kept_of_them(tmp_path: Path) -> None:
    def weights(*arguments: str) -> float:
        found = estimate_task(tiny_field.config(tmp_path, *arguments), mfu=0.4).as_json()
        return float(found["memory_gib"]["weights"])

    averaged, plain = weights(), weights("--trainer.model_averaging", "null")
    assert averaged == pytest.approx(plain * 5 / 4)  # weights, gradients, two moments; the average


def test_a_utilisation_that_is_no_fraction_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mfu = 40 must be above 0 and at most 1"):
        estimate_task(tiny_field.config(tmp_path), mfu=40)
