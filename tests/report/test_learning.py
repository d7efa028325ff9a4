"""Learning curves: what is in one figure."""

from __future__ import annotations

import json
from pathlib import Path

from tomat.report.learning import QUANTITIES, learning, learning_lines
from tomat.report.runs import TrainingRun, load_training_run

BITS, NMAE = QUANTITIES


def run(folder: Path, name: str = "run") -> TrainingRun:
    place = folder / name
    place.mkdir()
    lines = []
    for step in range(8):
        line: dict[str, float] = {"step": step, "train/bits_per_voxel": 9.0 - step, "train/nmae_median": 0.05}
        if step in (0, 3, 7):
            line["eval/one_pass/bits_per_voxel"] = 8.0 - step
            line["eval/one_pass/nmae_median"] = 0.02 - 0.001 * step
            line["eval/promolecule/nmae"] = 0.02
            line["eval/unigram_bits_per_voxel"] = 9.5
        lines.append(json.dumps(line))
    (place / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return load_training_run(place)


def test_training_and_held_out_data_are_in_one_figure_with_start_and_baselines(tmp_path: Path) -> None:
    one = run(tmp_path)
    lines = {line.name: line for line in learning_lines([one], BITS)}
    assert set(lines) == {"training", "held out, one pass", "start", "unigram: frequencies of levels alone"}
    held_out = lines["held out, one pass"]
    # After so many steps: step 0 is evaluated before it is done.
    assert held_out.steps.tolist() == [0, 4, 8]
    assert held_out.values.tolist() == [8.0, 5.0, 1.0]
    assert lines["training"].steps.tolist() == list(range(1, 9))
    assert lines["start"].values.tolist() == [8.0, 8.0]
    assert lines["start"].steps.tolist() == [0, 8]
    errors = {line.name: line for line in learning_lines([one], NMAE)}
    assert set(errors) == {"training", "held out, one pass", "start", "promolecule"}
    assert errors["promolecule"].values.tolist() == [2.0, 2.0]
    figure = learning([one], BITS)
    assert figure is not None
    assert [trace["line"]["dash"] for trace in figure.data] == ["solid", "solid", "dash", "dash"]


def test_several_runs_are_told_apart(tmp_path: Path) -> None:
    figure = learning([run(tmp_path, "a"), run(tmp_path, "b")], NMAE)
    assert figure is not None
    assert {trace["name"].split(":")[0] for trace in figure.data} == {"a", "b"}
    assert len({trace["line"]["color"] for trace in figure.data}) == 2


def test_a_run_without_the_numbers_has_no_figure(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "train/loss": 1.0}\n')
    assert learning([load_training_run(tmp_path)], BITS) is None
