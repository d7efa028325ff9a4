"""A resumed run is the same run, or it says what differs."""

import pytest

from tomat.lm.record import check_same, differences

START = {
    "data": {"hash": "aa", "seed": 0},
    "codec": {"hash": "11"},
    "schedule": {"steps": 100, "optimizer": {"learning_rate": 1e-3}},
}


def test_the_same_run_has_no_differences() -> None:
    assert differences(START, START) == []
    assert check_same(START, START, (), "runs/a") == []


def test_what_is_no_part_of_the_run_does_not_count() -> None:
    assert differences(START, {**START, "version": "0.2.0"}) == []


def test_a_change_is_named_with_both_values() -> None:
    other = {**START, "schedule": {"steps": 200, "optimizer": {"learning_rate": 1e-3}}}
    with pytest.raises(
        ValueError, match=r"(?s)runs/a.*schedule\.steps: was 100, is 200.*allow_change '\[schedule\]'"
    ):
        check_same(START, other, (), "runs/a")


def test_a_named_change_is_let_through_and_told() -> None:
    other = {**START, "schedule": {"steps": 200, "optimizer": {"learning_rate": 1e-3}}}
    changes = check_same(START, other, ("schedule",), "runs/a")
    assert [str(change) for change in changes] == ["schedule.steps: was 100, is 200"]


def test_one_named_change_does_not_excuse_another() -> None:
    other = {**START, "data": {"hash": "bb", "seed": 0}, "schedule": {"steps": 200}}
    with pytest.raises(ValueError, match=r"data\.hash") as caught:
        check_same(START, other, ("schedule",), "runs/a")
    assert "schedule.steps" not in str(caught.value)


def test_a_section_that_appears_or_vanishes_is_a_change() -> None:
    assert [change.section for change in differences(START, {**START, "validation": {"hash": "cc"}})] == [
        "validation"
    ]
    assert {change.section for change in differences(START, {"data": START["data"]})} == {"codec", "schedule"}


def test_an_unknown_section_to_allow_is_refused() -> None:
    with pytest.raises(ValueError, match=r"modle is not a section of a run; known: data, validation"):
        check_same(START, START, ("modle",), "runs/a")
