"""The configurations of the repository can be read, and say what they are said to say."""

from pathlib import Path

import draccus
import pytest

from places import REPOSITORY

pytest.importorskip("levanter")
from tomat.lm.config import describe, dump, load

CONFIGS = REPOSITORY / "training" / "configs"
ALL = sorted(CONFIGS.rglob("*.yaml"))


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_configuration_is_read_and_comes_back_from_its_dump(path: Path, tmp_path: Path) -> None:
    config = load(path)
    again = tmp_path / "dump.yaml"
    again.write_text(dump(config))
    back = load(again)
    for section in ("data", "validation", "model", "objective", "loss", "optimizer", "loader", "out", "name"):
        assert draccus.encode(getattr(back, section)) == draccus.encode(getattr(config, section)), section
    assert back.trainer.num_train_steps == config.trainer.num_train_steps
    assert config.validation is not None
    assert config.data.guess or config.objective.kind != "guess"
    shape = config.model.shape()
    if config.model.preset != "tiny":
        assert shape.seq_len == 8192


def test_starting_densities_are_of_the_kind_of_the_data() -> None:
    """Densities of users are of any kind: they get their own promolecule. The demos' are those of qe-sg15."""
    for path in ALL:
        config = load(path)
        assert config.validation is not None
        if path.stem.startswith("demo"):
            assert (config.data.guess, config.data.prefix, config.validation.prefix) == (
                "qe-sg15",
                ("qe",),
                ("qe",),
            )
        elif config.objective.kind == "guess":
            assert (config.data.guess, config.validation.guess) == ("fit", "fit"), path
        assert config.data.max_guess_nmae == 0.15


@pytest.mark.parametrize("name", ["demo", "demo-tokens"])
def test_the_demos_are_of_one_kind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tomat.lm.tasks import open_task

    monkeypatch.chdir(CONFIGS.parent.parent)
    task = open_task(load(CONFIGS / f"{name}.yaml"))
    assert not [line for line in task.notices if line.startswith("training data")]
    checks = task.note()["guess_check"]
    assert checks.keys() == {"data", "validation"}
    assert all(check["nmae_mean"] < 0.08 for check in checks.values())


def test_the_arms_of_the_sampling_weight_study_differ_in_the_budget_alone() -> None:
    arms = [
        draccus.encode(load(CONFIGS / "sampling-weight" / f"{name}.yaml")) for name in ("equal", "electrons")
    ]
    assert {arm["data"].pop("budget") for arm in arms} == {"equal", "electrons"}
    for section in ("data", "validation", "model", "objective", "loss", "optimizer", "evaluation", "loader"):
        assert arms[0][section] == arms[1][section], section
    schedules = [
        {k: v for k, v in arm["trainer"].items() if k not in ("id", "log_dir", "checkpointer")}
        for arm in arms
    ]
    assert schedules[0] == schedules[1]


def test_every_field_is_listed_with_its_default() -> None:
    from tomat.lm.config import TrainConfig

    lines = list(describe(TrainConfig))
    assert "trainer.num_train_steps: int = 1000" in lines
    assert any(line.startswith("objective.kind: str = ") for line in lines)
    assert "name: str (required)" in lines


def test_rows_that_blocks_of_attention_do_not_divide_are_refused_before_anything_is_compiled() -> None:
    from tomat.lm.model.presets import ModelConfig
    from tomat.lm.model.qwen import levanter_config

    with pytest.raises(ValueError, match=r"a multiple of 1024 tokens, not 1500: change model\.seq_len"):
        levanter_config(ModelConfig(seq_len=1500, attention="flash"))
    levanter_config(ModelConfig(seq_len=1500, attention="flash", attention_block=500))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trainer.train_batch_size", 0),
        ("trainer.train_batch_size", -8),
        ("trainer.num_train_steps", -5),
        ("trainer.num_train_steps", 0),
        ("trainer.steps_per_eval", 0),
        ("trainer.seed", -1),
        ("evaluation.max_rows", -1),
        ("evaluation.batch_size", 0),
        ("loader.threads", 0),
        ("loader.threads", 100_000),
        ("loader.buffered_batches", -1),
        ("data.threads", 100_000),
    ],
)
def test_counts_that_are_none_are_refused_where_they_are_read(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field.replace(".", r"\.")):
        load(CONFIGS / "demo.yaml", [f"--{field}", str(value)])


@pytest.mark.parametrize(
    "text", ["", "[]", "name: [", "a: {b", "name: x\n\tdata: 1", "\x00", "name: x\ndata: 3", "&a [*a]"]
)
def test_what_is_no_configuration_is_an_error_with_its_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"x\.yaml"):
        load(tmp_path / "x.yaml")
