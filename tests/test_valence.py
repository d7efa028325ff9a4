"""Valence counts: exact where materials agree, none where they do not, and the disagreement named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tomat
from runs import LABEL
from tomat.prediction.assemble import CellRequest, Failure, Prediction, predict_densities
from tomat.prediction.predictor import PromoleculePredictor, TrainingFacts
from tomat.promolecule import Promolecule
from tomat.valence import Dispute, Valence, _possible, fit_valence

QE = Promolecule.load("qe-sg15")
SET = {int(z): n for z, n in zip(QE.atomic_numbers, QE.electrons, strict=True) if np.isfinite(n)}
#: Other pseudopotentials of the same elements (VASP).
OTHER = SET | {3: 1.0, 11: 7.0, 12: 8.0, 26: 8.0, 31: 3.0}

Rows = list[tuple[str, list[int], float]]


def cells(rng: np.random.Generator, count: int, dialect: dict[int, float], name: str) -> Rows:
    rows: Rows = []
    for index in range(count):
        chosen = rng.choice(sorted(SET), rng.integers(1, 5), replace=False)
        atoms = [int(z) for z in chosen for _ in range(rng.integers(1, 7))]
        rows.append((f"{name}-{index}", atoms, sum(dialect[z] for z in atoms) * (1 + 1e-6)))
    return rows


@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_one_dialect_gives_all_counts_exactly(seed: int) -> None:
    rows = cells(np.random.default_rng(seed), 400, SET, "m")
    assert fit_valence(rows) == Valence(SET)


@given(seed=st.integers(0, 10_000), share=st.sampled_from([3, 40, 200]))
@settings(max_examples=8, deadline=None)
def test_counts_that_remain_are_right_for_every_material(seed: int, share: int) -> None:
    """Mixed in any proportion: no count is wrong for any material, and what differs is found."""
    rng = np.random.default_rng(seed)
    other = cells(rng, share, OTHER, "other")
    rows = [*cells(rng, 400, SET, "m"), *other]
    found = fit_valence(rows)
    different = {z for z in SET if SET[z] != OTHER[z]}
    for _, atoms, electrons in rows:
        if all(z in found.counts for z in atoms):
            assert sum(found.counts[z] for z in atoms) == pytest.approx(electrons, rel=1e-5)
    met = {z for _, atoms, _ in other for z in atoms} & different
    assert met <= set(found.disputed)
    assert not different & met & set(found.counts)
    # What is not in dispute keeps its count: nearly all.
    assert len(found.counts) > 0.8 * len(SET)
    assert {z: SET[z] for z in found.counts} == found.counts


def test_an_oxide_of_two_sets_gives_neither_count_nor_their_mean() -> None:
    both: Rows = [("a", [12, 8], 16.0), ("b", [12, 8], 14.0), ("oxygen", [8, 8], 12.0)]
    found = fit_valence(both)
    assert found.counts == {8: 6.0}
    assert found.disputed == {12: Dispute(((10.0, ("a",)), (8.0, ("b",))))}
    assert found.complaints() == ["the valence electrons of Mg: 10 in a, 8 in b"]
    # Which of the two it is cannot be told without another oxide: both go.
    alone = fit_valence(both[:2])
    assert alone.counts == {}
    assert set(alone.disputed) == {8, 12}
    assert "not agreed on in" in str(alone.disputed[8])
    # One that is outvoted is named all the same.
    outvoted = fit_valence([*both, *[(f"more{i}", [12, 8], 16.0) for i in range(50)]])
    assert outvoted.counts == {8: 6.0}
    assert [count for count, _ in outvoted.disputed[12].counts] == [10.0, 8.0]
    assert len(outvoted.disputed[12].counts[0][1]) == 5


def test_what_is_told_beside_a_disputed_element_is_not_believed() -> None:
    """MgS of the other set would make 4 of sulfur's 6."""
    rows: Rows = [("a", [12, 8], 16.0), ("b", [12, 8], 14.0), ("o", [8, 8], 12.0), ("c", [12, 16], 14.0)]
    found = fit_valence(rows)
    assert 16 not in found.counts
    assert set(found.disputed) == {12}


def test_counts_are_told_only_where_compositions_tell_them() -> None:
    rows: Rows = [("a", [11, 17], 16.0), ("b", [11], 9.0), ("c", [12, 12, 8, 8], 32.0)]
    assert fit_valence(rows) == Valence({11: 9.0, 17: 7.0})
    assert fit_valence([]) == Valence()
    # What is no whole number says nothing, and is named.
    found = fit_valence([*rows, ("cut", [8, 8], 11.6)])
    assert found == Valence({11: 9.0, 17: 7.0}, {}, ("cut",))
    assert "1 materials do not hold a whole number of electrons: cut" in found.complaints()


def test_the_cores_are_those_of_real_pseudopotentials() -> None:
    assert all(_possible(z, int(n)) for z, n in SET.items())
    vasp = {
        3: (1, 3),
        11: (1, 7, 9),
        12: (2, 8, 10),
        26: (8, 14, 16),
        31: (3, 13),
        45: (9, 15, 17),
        82: (4, 14),
    }
    for z, counts in vasp.items():
        assert all(_possible(z, n) for n in counts), z
    for z, count in ((8, 4), (8, 5), (14, 3), (12, 9), (26, 12), (6, 7)):
        assert not _possible(z, count), z


def test_the_real_densities_of_two_sets() -> None:
    materials = [tomat.read(path) for path in sorted(LABEL.iterdir())]
    rows = [(m.task_id, m.atomic_numbers.tolist(), m.n_electrons) for m in materials]
    found = fit_valence(rows)
    assert found.disputed == {12: Dispute(((10.0, ("qe-0770",)), (8.0, ("vasp-mp-2456484",))))}
    assert found.counts[8] == 6.0
    assert found.counts[14] == 4.0
    for prefix in ("qe", "vasp"):
        assert not fit_valence([row for row in rows if row[0].startswith(prefix)]).disputed


def test_normalising_asks_for_the_electrons_of_a_disputed_element() -> None:
    facts = TrainingFacts.of([tomat.read(path) for path in sorted(LABEL.iterdir())], QE)
    again = TrainingFacts.from_json(json.loads(json.dumps(facts.to_json())), QE)
    assert again == facts
    assert again.elements is not None
    assert {12, 26} <= again.elements

    class Trained(PromoleculePredictor):
        """Predicts the promolecule, and knows the counts of the mixed data."""

        @property
        def facts(self) -> TrainingFacts:
            return again

    predictor = Trained(tomat.PatchTokenizer("v3", "l1-1k", patch_size=10), QE)
    oxide = tomat.read(LABEL / "qe-0770.zarr").crystal

    def outcome(normalize: bool, electrons: float | None = None) -> Prediction | Failure:
        cell = CellRequest(oxide, (10, 10, 10), electrons=electrons)
        return next(iter(predict_densities(predictor, [cell], normalize=normalize)))

    failed = outcome(True)
    assert isinstance(failed, Failure)
    for part in ("Mg", "10 in qe-0770, 8 in vasp-mp-2456484", "--electrons"):
        assert part in str(failed.error)
    plain = outcome(False)
    assert isinstance(plain, Prediction)
    assert plain.electrons.expected is None
    given = outcome(True, 16.0)
    assert isinstance(given, Prediction)
    assert given.electrons.final == pytest.approx(16.0)


def test_a_promolecule_of_two_sets_asks_too(tmp_path: Path) -> None:
    fitted = Promolecule.fit(sorted(LABEL.iterdir()), steps=0, splines=8, voxels=300)
    fitted.save(tmp_path / "both.npz")
    oxide = LABEL / "qe-0770.zarr"
    with pytest.raises(ValueError, match="Mg: 10 in qe-0770, 8 in vasp-mp-2456484"):
        tomat.predict(oxide, f"promolecule:{tmp_path / 'both.npz'}", grid=(8, 8, 8), normalize=True)
