"""What a model that sees space needs, and what it cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("levanter")
import tiny
import tiny_spatial
from tomat.lm.config import dump, load
from tomat.lm.model.presets import ModelConfig
from tomat.lm.model.qwen import levanter_config
from tomat.lm.spatial.checks import check_spatial


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--data.pack", "true"),
            "data.pack: rows of one patch each are needed for model.positions: cartesian and model.field: true",
        ),
        (("--validation.pack", "true"), "validation.pack"),
        (("--data.guess", "null"), "data.guess: model.field: true sees each atom's share"),
        (
            ("--data.densities", "[]", "--data.path", "rows", "--data.limit", "null"),
            "data.path: exact lattices",
        ),
        (("--model.seq_len", "4096"), "model.seq_len = 4096: positions in space are for rows of up to 2048"),
        (("--model.head_dim", "4"), "model.head_dim = 4 must be at least 6"),
        (("--model.positions", "raster"), "model.positions = 'raster' is not known; one of index, cartesian"),
        (("--model.kind", "brick"), "a brick model has model.brick.positions"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        check_spatial(tiny_spatial.config(tmp_path, *arguments))


@pytest.mark.parametrize("given", [tiny_spatial.POSITIONS, tiny_spatial.FIELD])
def test_next_token_is_refused(given: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"next_token predicts token after token.* to the objectives guess and masked"
    ):
        check_spatial(tiny.config(tmp_path, *given, kind="next_token"))


def test_a_model_that_sees_nothing_is_not_asked(tmp_path: Path) -> None:
    check_spatial(tiny.config(tmp_path, "--data.pack", "true", kind="next_token"))


def test_other_attention_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.attention = flash takes no bias by distance"):
        levanter_config(ModelConfig(positions="cartesian", attention="flash"))
    assert levanter_config(ModelConfig(positions="cartesian"), platform="tpu").attention == "vanilla"


def test_true_is_short_for_the_tokens_of_a_field(tmp_path: Path) -> None:
    path = tiny.write_yaml(tmp_path)
    text = path.read_text().replace("preset: tiny,", "preset: tiny, field: true,")
    path.write_text(text)
    config = load(path)
    assert config.model.field.tokens
    assert config.model.shape().field == config.model.field.shape()
    path.write_text(dump(config))
    assert load(path).model == config.model
    path.write_text(text.replace("field: true", "field: {tokens: true, state: 24}"))
    seen = load(path, ["--model.field.rounds", "1"]).model.shape().field
    assert seen is not None
    assert (seen.state, seen.rounds) == (24, 1)


def test_notes_of_other_models_do_not_change(tmp_path: Path) -> None:
    note = ModelConfig(preset="30M").note()
    assert not note.keys() & {"kind", "brick", "field", "positions"}
    spatial = tiny_spatial.config(tmp_path).model.note()
    assert (spatial["positions"], spatial["field"]["tokens"], spatial["field"]["channels"]) == (
        "cartesian",
        True,
        [8, 4],
    )
