"""What stops a run by itself."""

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("levanter")
from tomat.lm.callbacks import EndOfStep, GuardConfig, LossGuard, TrainingLossError


def step(number: int, loss: float) -> Any:
    return SimpleNamespace(step=number, loss=loss)


def guard(factor: float | None = 3.0, window: int = 4) -> LossGuard:
    return LossGuard(
        GuardConfig(factor, window), lambda number: [f"m-{number}@0,0,{row}" for row in range(20)]
    )


def test_a_jump_of_the_loss_stops_the_run_with_the_rows_of_its_batch() -> None:
    watching = guard()
    for number, loss in enumerate([2.0, 1.0, 1.2, 1.1]):
        watching(step(number, loss))
    with pytest.raises(
        TrainingLossError, match=r"step 4: the loss jumped to 9, .* the median 1\.15 .*m-4@0,0,0, "
    ) as caught:
        watching(step(4, 9.0))
    assert str(caught.value).endswith("m-4@0,0,15 and 4 more")


def test_a_loss_that_rises_less_goes_on() -> None:
    watching = guard()
    for number, loss in enumerate([2.0, 1.0, 1.2, 1.1, 3.0, 3.4, 3.4]):
        watching(step(number, loss))


def test_the_first_steps_have_nothing_to_be_compared_with() -> None:
    watching = guard()
    for number, loss in enumerate([0.1, 9.0, 0.1]):
        watching(step(number, loss))


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_stops_unless_it_may(loss: float) -> None:
    with pytest.raises(
        TrainingLossError, match=r"step 7: Loss is (NaN|Inf)\. Rows of the batch: m-7@0,0,0, "
    ):
        guard(factor=None)(step(7, loss))
    LossGuard(GuardConfig(None, 4), lambda number: [], nan=False, inf=False)(step(7, loss))


def test_what_stops_a_run_waits_for_the_end_of_its_step() -> None:
    end, seen = EndOfStep(), []
    watched, evaluation = end.held(guard(factor=None)), end.held(lambda info: seen.append(info.step))
    for number, loss in enumerate([1.0, float("nan")]):
        watched(step(number, loss))
        evaluation(step(number, loss))
        if number == 0:
            end.raise_held()
    assert end.holds()
    assert seen == [0]
    with pytest.raises(TrainingLossError, match="step 1: Loss is NaN"):
        end.raise_held()


def test_without_a_factor_nothing_stops() -> None:
    watching = guard(factor=None)
    for number, loss in enumerate([1.0] * 6 + [1e9]):
        watching(step(number, loss))
