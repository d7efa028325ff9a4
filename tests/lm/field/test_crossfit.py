"""Starting densities from field models that have not seen the crystal: which model it is, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("levanter")
import families
import tiny_brick
import tiny_field
from tomat.lm.brick.task import BrickTask
from tomat.lm.config import TrainConfig
from tomat.lm.data import DataConfig, DensitySource, open_rows
from tomat.lm.data.folds import Division, Fold, LeftOut
from tomat.lm.data.guess_check import check_store
from tomat.lm.data.store import DensityStore
from tomat.lm.decode.opening import open_predictor
from tomat.lm.field.crossfit import cross_fitted
from tomat.lm.field.export import export_field
from tomat.lm.field.predictor import FieldPredictor
from tomat.lm.field.starting import FieldStart
from tomat.lm.field.task import FieldTask
from tomat.lm.record import check_same, read_note
from tomat.lm.train import make_note, train
from tomat.prediction.assemble import predict_density
from tomat.prediction.options import DecodingConfig
from tomat.promolecule import UnscaledPromolecule

FOLDS = 2


class Models:
    """Field models of the first four crystals of a family: of all of them, and without a fold each."""

    def __init__(self, folder: Path) -> None:
        self.entries = families.write(folder / "data")
        self.folder = folder
        self.store = DensityStore.of(self.entries[:4], "e_per_A3")
        self.whole = self.model("whole")
        self.folds = [self.model(f"fold-{k}", seed=k + 1, fold=self.part(k)) for k in (1, 2)]

    def part(self, number: int, folds: int = FOLDS) -> dict[str, Any]:
        return LeftOut.of(self.store, Fold(number, folds)).to_json()

    def model(self, name: str, *, seed: int = 1, **data: Any) -> str:
        about = {"densities_hash": self.store.hash, "unit": "e_per_A3", "guess": "qe-sg15", **data}
        return tiny_field.exported(self.folder / name, seed=seed, data=about)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("crossfit"))


def test_a_crystal_starts_from_the_model_that_has_not_seen_its_system(models: Models, tmp_path: Path) -> None:
    # A fifth crystal, of a chemical system that no model has been trained on.
    store = DensityStore.of(models.entries, "e_per_A3", cache=tmp_path)
    own = cross_fitted(store, FieldStart.open(models.whole), models.folds[::-1])
    places = Division.of(models.store, FOLDS).places(store).tolist()
    assert sorted(places) == [-1, 0, 0, 1, 1]
    found = store.guess(FieldStart.open(models.whole), own=own)
    for material, place in enumerate(places):
        path = models.folds[place] if place >= 0 else models.whole
        of = store.material(material)
        expected = predict_density(FieldPredictor.open(path, DecodingConfig()), of.crystal, of.grid_shape)
        np.testing.assert_array_equal(
            found[slice(*store.span(material))], expected.material.density.astype(np.float32).ravel()
        )
    # The cache keeps densities apart that are of other models.
    alone = store.guess(FieldStart.open(models.whole))
    assert not np.array_equal(found, alone)
    np.testing.assert_array_equal(store.guess(FieldStart.open(models.whole), own=own), found)
    assert len(list(tmp_path.glob("guess-*"))) == 2


def test_the_check_before_training_is_of_what_crystals_start_from(models: Models) -> None:
    whole = FieldStart.open(models.whole)
    own = cross_fitted(models.store, whole, models.folds)
    check = check_store(models.store, whole, own)
    for misfit in check.misfits:
        material = models.store.material(models.store.task_ids.index(misfit.material))
        guess = own[models.store.task_ids.index(misfit.material)].density(
            material.crystal, material.grid_shape
        )
        expected = np.abs(guess - material.density).sum() / np.abs(material.density).sum()
        np.testing.assert_allclose(misfit.nmae, expected, rtol=1e-6)


def test_rows_of_tokens_start_from_them_too(models: Models) -> None:
    config = DataConfig(
        densities=tuple(entry.path for entry in models.entries),
        codec="l1-4k-e_per_A3",
        patch_size=6,
        guess=models.whole,
        guess_crossfit=tuple(models.folds),
        max_guess_nmae=None,
        max_clipped=1.0,
    )
    source, plain = (open_rows(one, 512).source for one in (config, replace(config, guess_crossfit=())))
    assert isinstance(source, DensitySource)
    assert isinstance(plain, DensitySource)
    expected = source.store.guess(
        FieldStart.open(models.whole),
        own=cross_fitted(source.store, FieldStart.open(models.whole), models.folds),
    )
    np.testing.assert_array_equal(source._guess, expected)
    both = sorted(FieldStart.open(path).identity for path in models.folds)
    assert source.identity() == plain.identity() | {"guess_crossfit": both}


def test_models_that_do_not_fit_together_are_refused(models: Models) -> None:
    whole, (first, second) = models.whole, models.folds
    third = models.model("third", fold=models.part(1, 3))
    elsewhere = models.model("elsewhere", fold=models.part(2), densities_hash="0123")
    otherwise = models.model("otherwise", fold=models.part(2) | {"division": "0123"})
    damaged = models.model("damaged", fold={"number": 2})
    wrong = [
        (
            whole,
            [first],
            r"no model without fold 2/2, so that all models given have seen .* of [a-d], .*--data\.fold 2/2",
        ),
        (whole, [first, second, first], r"fold-1 and .*fold-1 were both trained without fold 1/2"),
        (whole, [first, whole], r"whole was trained on all its data.*train a model for each fold"),
        (
            first,
            [first, second],
            r"data\.guess: .*fold-1 was trained without fold 1/2; give the model trained on all",
        ),
        (whole, [second, third], r"the models are of 2 and 3 folds"),
        (
            whole,
            [first, elsewhere],
            r"elsewhere was not trained like .*whole: data\.densities_hash: was '.*', is '0123'",
        ),
        (whole, [first, otherwise], r"not of one division of the chemical systems"),
        (whole, [damaged, first], r"damaged: its note is damaged, data\.fold"),
    ]
    for start, paths, message in wrong:
        with pytest.raises(ValueError, match=message):
            cross_fitted(models.store, FieldStart.open(start), paths)
    with pytest.raises(ValueError, match=r"is no field model; data\.guess_crossfit needs the one"):
        cross_fitted(models.store, UnscaledPromolecule.load("qe-sg15"), models.folds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guess_crossfit": ("a", "b")}, r"guess_crossfit: for whole densities .*set data\.guess"),
        ({"guess_crossfit": ("a", "b"), "guess": "fit"}, r"guess_crossfit: for whole densities"),
        ({"fold": "1/3", "guess": "fit", "guess_folds": 3}, r"data\.fold = 1/3 and data\.guess_folds = 3"),
        ({"fold": "3"}, r"data\.fold = '3'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig(densities=("data",), **options)


def _as_trained(config: TrainConfig, folder: Path, seed: int) -> str:
    """An export of a model of random weights with the note that its run would have."""
    task = FieldTask.open(config)
    trained = tiny_field.random_weights(seed=seed)
    note = make_note(config, task)
    export_field(replace(trained, note=note, surroundings=task.surroundings), folder)
    return str(folder)


def test_from_the_folds_to_a_brick_model_that_predicts(tmp_path: Path) -> None:
    families.write(tmp_path / "data")
    data = ["--data.densities", f"[{tmp_path / 'data'}]", "--data.split", "null", "--data.prefix", "[]"]
    data += ["--data.max_guess_nmae", "null", "--data.limit", "null", "--validation", "null"]
    data += ["--data.cache", str(tmp_path / "cache")]
    fit = [*data, "--data.guess", "fit"]
    without = [tiny_field.config(tmp_path, *fit, "--data.fold", f"{k}/3") for k in (1, 2, 3)]
    whole = _as_trained(tiny_field.config(tmp_path, *fit), tmp_path / "whole", 1)
    folds = [_as_trained(config, tmp_path / f"fold-{i}", 2 + i) for i, config in enumerate(without)]
    start = [*data, "--data.guess", whole]
    crossed = [*start, "--data.guess_crossfit", f"[{', '.join(folds)}]"]
    config = tiny_brick.config(tmp_path, *crossed, steps=1)
    outcome = train(config)
    assert outcome.steps == 1
    # No other crystal has lithium, so that no promolecule without it does.
    assert any("1 of 5 materials start from data.guess" in notice for notice in outcome.notices)
    note = read_note(config.files.root)
    used = [
        start for start in map(FieldStart.open, folds) if start.note["data"]["fold"]["systems"] != ["Li-O"]
    ]
    assert note["data"]["guess_crossfit"] == sorted(start.identity for start in used)
    assert len(used) == 2
    plain = BrickTask.open(tiny_brick.config(tmp_path, *start)).note()
    with pytest.raises(ValueError, match=r"data\.guess_crossfit: was .*, is None"):
        check_same(note, plain, (), "the run")
    predictor = open_predictor(config.files.root, DecodingConfig(weights="latest"))
    assert predictor.facts.guess is not None
    assert predictor.facts.guess.identity == FieldStart.open(whole).identity
    found = predict_density(predictor, tiny_field.quartz(), (10, 10, 10))
    assert np.isfinite(found.material.density).all()
