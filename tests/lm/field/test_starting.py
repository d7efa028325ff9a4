"""A field model as a starting density: its medians, what a note tells of it, and what is said if it is gone."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("levanter")
import tiny_field
from tomat.lm.data.facts import data_facts
from tomat.lm.data.opening import open_starting
from tomat.lm.field.predictor import FieldPredictor
from tomat.lm.field.starting import FieldStart, starting_of
from tomat.prediction.assemble import predict_density
from tomat.prediction.options import DecodingConfig
from tomat.promolecule import Promolecule
from tomat.valence import Valence

GRID = (6, 7, 8)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_field.exported(tmp_path_factory.mktemp("start") / "field")


def test_it_is_the_median_of_the_model(field: str) -> None:
    start, crystal = open_starting(field), tiny_field.quartz()
    expected = predict_density(FieldPredictor.open(field, DecodingConfig()), crystal, GRID)
    np.testing.assert_array_equal(start.density(crystal, GRID), expected.material.density)
    assert start.elements == frozenset({8, 14})
    kept = start.kept()
    assert kept is not None
    assert Promolecule.from_bytes(kept, "kept").hash == Promolecule.load("qe-sg15").hash


def test_a_note_leads_back_to_it(field: str) -> None:
    facts = data_facts(field, open_starting(field), None, [8], Valence())
    found = starting_of({"data_facts": facts}, "here")
    assert found is not None
    assert found.identity == FieldStart.open(field).identity
    facts["guess_model"]["identity"] = "field 0123"
    with pytest.raises(ValueError, match="put the model back that it was trained with"):
        starting_of({"data_facts": facts}, "here")


def test_a_model_that_is_gone_is_named(tmp_path: Path) -> None:
    facts = {"guess_model": {"path": str(tmp_path / "gone"), "identity": "field 0123"}}
    with pytest.raises(FileNotFoundError, match=r"starts from the field model .*gone.*put it back"):
        starting_of({"data_facts": facts}, "here")


def test_without_a_model_it_is_the_promolecule_or_none() -> None:
    assert starting_of({"data_facts": {"guess": None}}, "here") is None
    facts = data_facts("slater", open_starting("slater"), None, [8], Valence())
    found = starting_of({"data_facts": facts}, "here")
    assert found is not None
    assert found.identity == open_starting("slater").identity
