"""A trained model predicts what its training said it would, whatever else is in the batch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("levanter")
import tiny
import tomat
from tomat.lm.checkpoint import Trained, open_checkpoint
from tomat.lm.data import open_rows
from tomat.lm.decode.decoding import OpenRows
from tomat.lm.decode.opening import open_predictor
from tomat.lm.decode.predictor import ModelPredictor
from tomat.lm.train import Outcome, train
from tomat.material import Material
from tomat.metrics import nmae_of_sums
from tomat.prediction.options import DecodingConfig
from tomat.prediction.predictor import PatchRequest
from tomat.promolecule import UnscaledPromolecule

KINDS = ("guess", "masked", "next_token")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Trained, Outcome, Path]]:
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        outcome = train(tiny.config(folder, kind=kind, steps=4))
        # Its last evaluation is of the last step; the best may be of another.
        found[kind] = (open_checkpoint(outcome.files.root, weights="latest"), outcome, folder)
    return found


def cut(values: np.ndarray, offset: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
    index = [(o + np.arange(s)) % n for o, s, n in zip(offset, shape, values.shape, strict=True)]
    return np.ascontiguousarray(values[np.ix_(*index)], np.float32)


def request(
    trained: Trained, material: Material, offset: tuple[int, int, int], truth: bool = True
) -> PatchRequest:
    """A patch of a material, with the guess the training had."""
    given = material.in_unit("e_per_A3")
    crystal = material.crystal
    shape = trained.vocabulary.tokenizer.shape_for(len(material.atomic_numbers))
    guess = UnscaledPromolecule.load("qe-sg15").density(crystal, material.grid_shape)
    return PatchRequest(
        crystal,
        material.grid_shape,
        offset,
        shape,
        guess=cut(guess, offset, shape),
        truth=cut(given.density, offset, shape) if truth else None,
    )


def validation_requests(trained: Trained, folder: Path, kind: str) -> list[PatchRequest]:
    """The patches the run was evaluated on."""
    config = tiny.config(folder, kind=kind, steps=4)
    assert config.validation is not None
    rows = open_rows(config.validation, 128)
    found = []
    for index in range(len(rows)):
        name, corner = rows.row_id(0, index).split("@")
        x, y, z = (int(part) for part in corner.split(","))
        found.append(request(trained, tomat.read(tiny.DATA / "label" / f"{name}.zarr"), (x, y, z)))
    return found


def predictor(trained: Trained, mode: str, **settings: object) -> ModelPredictor:
    return ModelPredictor(trained, DecodingConfig(mode, batch_size=4, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "mode"), [("guess", "one_pass"), ("masked", "one_pass"), ("next_token", "teacher_forced")]
)
@pytest.mark.parametrize("estimate", ["median", "mean", "mode"])
def test_prediction_scores_what_evaluation_while_training_said(
    trained: dict[str, tuple[Trained, Outcome, Path]], kind: str, mode: str, estimate: str
) -> None:
    model, outcome, folder = trained[kind]
    requests = validation_requests(model, folder, kind)
    predicted = predictor(model, mode, estimate=estimate).predict(requests)
    truths = [np.asarray(one.truth) for one in requests]
    error = sum(float(np.abs(p.density - t).sum()) for p, t in zip(predicted, truths, strict=True))
    total = sum(float(np.abs(t).sum()) for t in truths)
    np.testing.assert_allclose(
        nmae_of_sums(error, total), outcome.evaluation[f"{mode}/nmae_pooled_{estimate}"], rtol=2e-4
    )


def test_a_model_never_looks_at_the_truth_it_is_asked_for(
    trained: dict[str, tuple[Trained, Outcome, Path]],
) -> None:
    for kind, mode in (("guess", "one_pass"), ("masked", "k_pass"), ("next_token", "free_running")):
        model, _, folder = trained[kind]
        requests = validation_requests(model, folder, kind)[:2]
        predict = predictor(model, mode, passes=2).predict
        told, untold = predict(requests), predict([replace(r, truth=None) for r in requests])
        for a, b in zip(told, untold, strict=True):
            np.testing.assert_array_equal(a.density, b.density)
            assert b.expected_error is None


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("guess", "one_pass"),
        ("masked", "k_pass"),
        ("next_token", "free_running"),
        ("next_token", "teacher_forced"),
    ],
)
def test_a_prediction_does_not_depend_on_what_else_is_in_the_batch(
    trained: dict[str, tuple[Trained, Outcome, Path]], kind: str, mode: str
) -> None:
    model, _, folder = trained[kind]
    requests = validation_requests(model, folder, kind)
    predict = predictor(model, mode, passes=3, estimate="sample").predict
    together = predict(requests)
    alone = predict(requests[1:2])[0]
    np.testing.assert_allclose(together[1].density, alone.density, rtol=1e-4, atol=1e-6)
    backwards = predict(requests[::-1])[::-1]
    for a, b in zip(together, backwards, strict=True):
        np.testing.assert_allclose(a.density, b.density, rtol=1e-4, atol=1e-6)


def test_one_pass_of_k_is_one_pass(trained: dict[str, tuple[Trained, Outcome, Path]]) -> None:
    model, _, folder = trained["masked"]
    requests = validation_requests(model, folder, "masked")[:3]
    once = predictor(model, "one_pass").predict(requests)
    passes = predictor(model, "k_pass", passes=1).predict(requests)
    for a, b in zip(once, passes, strict=True):
        np.testing.assert_array_equal(a.density, b.density)


def test_several_generations_spread_and_their_median_is_one_of_them(
    trained: dict[str, tuple[Trained, Outcome, Path]],
) -> None:
    model, _, folder = trained["next_token"]
    requests = validation_requests(model, folder, "next_token")[:2]
    found = predictor(model, "free_running", samples=3).predict(requests)
    points = model.vocabulary.codec.decode(np.arange(model.vocabulary.codec.sizes[0])[:, None]).astype(
        np.float32
    )
    for prediction in found:
        assert prediction.spread is not None
        assert (prediction.spread > 0).any()
        assert np.isin(prediction.density, points).all()


def test_the_answer_of_several_generations_is_their_median(
    trained: dict[str, tuple[Trained, Outcome, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tomat.lm.decode.decoding import Decoder

    model, _, folder = trained["next_token"]
    asked = validation_requests(model, folder, "next_token")[0]
    made: list[float] = []

    def generated(_self: Decoder, batch: OpenRows, *_rest: object) -> np.ndarray:
        made.append(float([1, 2, 9][len(made)]))
        return np.full((len(batch.tokens), batch.count), made[-1], np.float32)

    monkeypatch.setattr(Decoder, "_generated", generated)
    (found,) = predictor(model, "free_running", samples=3, estimate="mean").predict([asked])
    assert made == [1, 2, 9]
    assert (found.density == 2).all()
    assert found.spread is not None
    np.testing.assert_allclose(found.spread, np.std([1, 2, 9]), rtol=1e-6)


def test_a_mode_the_model_does_not_have_is_refused(trained: dict[str, tuple[Trained, Outcome, Path]]) -> None:
    for kind, mode in (("guess", "free_running"), ("next_token", "one_pass")):
        root = trained[kind][1].files.root
        with pytest.raises(ValueError, match=rf"a model of objective {kind} predicts in mode .*, not {mode}"):
            open_predictor(root, DecodingConfig(mode))  # type: ignore[arg-type]


def test_what_a_request_lacks_is_named(trained: dict[str, tuple[Trained, Outcome, Path]]) -> None:
    model, _, folder = trained["guess"]
    asked = validation_requests(model, folder, "guess")[0]
    with pytest.raises(ValueError, match="has no guess"):
        predictor(model, "one_pass").predict([replace(asked, guess=None)])
    with pytest.raises(
        ValueError, match=r"a patch of \(2, 3, 3\) points was requested, but the rows hold \(3, 3, 3\)"
    ):
        predictor(model, "one_pass").predict([replace(asked, patch_shape=(2, 3, 3))])


def test_the_checkpoint_tells_what_predictions_need(
    trained: dict[str, tuple[Trained, Outcome, Path]],
) -> None:
    facts = predictor(trained["guess"][0], "one_pass").facts
    assert facts.spacing is not None
    assert 0.05 < facts.spacing < 0.3
    assert facts.promolecule is not None
    material = tomat.read(next((tiny.DATA / "label").iterdir()))
    crystal, grid = material.crystal, material.grid_shape
    given = facts.starting_density(crystal, grid, "e_per_A3")
    expected = UnscaledPromolecule.load("qe-sg15").density(crystal, grid).astype(np.float32)
    np.testing.assert_array_equal(given, expected)
    assert all(count == int(count) > 0 for count in facts.valence.values())


def test_an_export_predicts_what_its_checkpoint_predicts(
    trained: dict[str, tuple[Trained, Outcome, Path]], tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from tomat.cli import app

    model, outcome, folder = trained["guess"]
    done = CliRunner().invoke(
        app, ["export", outcome.files.root, str(tmp_path / "exported"), "--weights", "latest"]
    )
    assert done.exit_code == 0, done.output
    exported = open_checkpoint(str(tmp_path / "exported"))
    assert exported.step == model.step
    assert exported.fingerprint == model.fingerprint
    requests = validation_requests(model, folder, "guess")[:2]
    for a, b in zip(
        predictor(model, "one_pass").predict(requests),
        predictor(exported, "one_pass").predict(requests),
        strict=True,
    ):
        np.testing.assert_array_equal(a.density, b.density)
    assert predictor(exported, "one_pass").facts.spacing == predictor(model, "one_pass").facts.spacing


def test_a_new_model_answers_with_the_token_it_sees_and_its_neighbours() -> None:
    import haliax as hax
    import jax
    from levanter.layers.attention import AttentionMask

    from tomat.lm.model.presets import ModelConfig
    from tomat.lm.model.qwen import build, levanter_config
    from tomat.lm.vocabulary import ModelVocabulary

    vocabulary = ModelVocabulary(tomat.PatchTokenizer("v3", "l1-1k", 3, 128))
    model = build(
        levanter_config(ModelConfig(preset="tiny", seq_len=128), bidirectional=True),
        vocabulary,
        jax.random.PRNGKey(0),
    )
    start = vocabulary.density.start
    bins = np.array([0, 1, 5, 100, 511, 512, 800, 1022, 1023])
    tokens = hax.named(np.pad(bins + start, (0, 128 - len(bins))).astype(np.int32), model.Pos)
    logits = np.asarray(model(tokens, AttentionMask()).array)[: len(bins), start : start + 1024]
    np.testing.assert_array_equal(logits.argmax(axis=1), bins)
    for row, at in zip(logits, bins, strict=True):
        if 0 < at < 1023:
            others = np.delete(row, [at - 1, at, at + 1])
            assert min(row[at - 1], row[at + 1]) > others.max()


@pytest.mark.parametrize("attention", ["flash", "vanilla"])
def test_long_rows_are_predicted_by_whole_blocks_of_attention(attention: str) -> None:
    """Rows of 1,400 tokens: attention by blocks of 1,024 takes no other length than two of them."""
    import jax

    from tomat.lm.model.presets import ModelConfig
    from tomat.lm.model.qwen import build, levanter_config
    from tomat.lm.objective import ObjectiveConfig
    from tomat.lm.vocabulary import ModelVocabulary

    vocabulary = ModelVocabulary(tomat.PatchTokenizer("v3", "l1-1k-e_per_A3", 11, 2048))
    config = levanter_config(
        ModelConfig(
            hidden_dim=16, num_heads=2, num_layers=1, intermediate_dim=16, seq_len=2048, attention=attention
        ),
        bidirectional=True,
        sequences_per_row=1,
    )
    model = build(config, vocabulary, jax.random.PRNGKey(0))
    made = Trained("", 0, model, config, vocabulary, ObjectiveConfig("guess").build(), {"name": "long"})
    material = tomat.read(next(iter(sorted((tiny.DATA / "label").iterdir()))))
    found = ModelPredictor(made, DecodingConfig(batch_size=1)).predict([request(made, material, (0, 0, 0))])[
        0
    ]
    # A new model answers with the guess, by the codec's bins.
    asked = request(made, material, (0, 0, 0))
    near = np.abs(found.density - np.asarray(asked.guess)).sum() / np.abs(np.asarray(asked.guess)).sum()
    assert near < 0.2
