"""A starting density of another kind than the data is noticed, and one of the data's own kind is fitted."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import families
import tomat
from runs import LABEL, ROOT, farm, sound
from tomat.lm.data import DataConfig, open_rows
from tomat.lm.data.folds import Fold
from tomat.lm.data.guess_check import GuessCheck, Misfit
from tomat.lm.data.guess_fit import CrossFit, fitted_promolecule
from tomat.lm.data.store import DensityStore
from tomat.promolecule import Promolecule, UnscaledPromolecule
from tomat.starting import StartingDensity

QE = DataConfig(
    densities=(str(ROOT),), prefix=("qe",), codec="l1-1k-e_per_A3", patch_size=6, patches_per_material=3
)
VASP = replace(QE, prefix=("vasp",))


def checked(config: DataConfig, **options: Any) -> GuessCheck:
    found = open_rows(config, 512, **options).source.guess_check
    assert found is not None
    return found


@pytest.mark.parametrize("unit", ["e_per_A3", "chgcar"])
def test_a_guess_of_the_right_kind_passes_and_is_measured(unit: str) -> None:
    config = replace(QE, guess="qe-sg15", codec="l1-1k" if unit == "chgcar" else "l1-1k-e_per_A3")
    check = checked(config)
    errors, counts = [], []
    for path in sorted(LABEL.glob("qe*.zarr")):
        m = tomat.read(path).in_unit("e_per_A3")
        start = UnscaledPromolecule.load("qe-sg15").density(m.crystal, m.grid_shape)
        errors.append(float(np.abs(start - m.density).sum() / m.density.sum()))
        counts.append(float(start.sum() / m.density.sum() - 1))
    # Fourteen crystals, all looked at; grids of more than 65,536 voxels in part.
    assert (len(check.misfits), check.of, check.whole) == (14, 14, True)
    assert check.nmae_mean == pytest.approx(np.mean(errors), rel=0.02)
    assert check.worst.nmae == pytest.approx(max(errors), rel=0.02)
    assert abs(check.off.electrons) == pytest.approx(np.abs(counts).max(), abs=2e-3)
    assert check.to_json()["nmae_mean"] < 0.06
    assert check.worst.material in str(check)


@pytest.mark.parametrize("config", [VASP, replace(QE, prefix=())], ids=["another kind", "two kinds"])
def test_a_guess_of_another_kind_stops(config: DataConfig) -> None:
    with pytest.raises(ValueError, match="qe-sg15 is not of the kind of these data") as error:
        open_rows(replace(config, guess="qe-sg15"), 512)
    for part in (
        "its electron count in vasp-pmg-Li-nospin is off by",
        "tomat promolecule fit",
        "data.max_guess_nmae",
        "prefix",
    ):
        assert part in str(error.value)
    # The limit is the user's.
    allowed = checked(replace(config, guess="qe-sg15", max_guess_nmae=None))
    assert abs(allowed.off.electrons) > 1.5
    checked(replace(config, guess="qe-sg15", max_guess_nmae=5.0))
    with pytest.raises(ValueError, match="must be above 0"):
        replace(config, max_guess_nmae=-1.0)


def test_rows_of_a_dataset_are_compared_by_their_patches(tmp_path: Path) -> None:
    options = ("--layout", "v3", "--codec", "l1-4k-e_per_A3", "--patch-size", "12", "--pad-to", "2048")
    budget = ("--patches-per-material", "8")
    for kind in ("qe", "vasp"):
        sound(*sorted(LABEL.glob(f"{kind}*.zarr")), "--out", tmp_path / kind, *options, *budget)
    config = DataConfig(path=str(tmp_path / "qe"), guess="qe-sg15")
    check = checked_dataset(config)
    assert not check.whole
    assert check.nmae_mean < 0.08
    with pytest.raises(ValueError, match="not of the kind of these data"):
        open_rows(replace(config, path=str(tmp_path / "vasp")), 2048)
    assert checked_dataset(replace(config, path=str(tmp_path / "vasp"), max_guess_nmae=None)).nmae_mean > 0.3
    with pytest.raises(ValueError, match=r"qe: data.guess: fit needs whole densities.*tomat promolecule fit"):
        open_rows(replace(config, guess="fit"), 2048)
    fitted = open_rows(replace(VASP, guess="fit"), 512).source.starting
    assert (
        checked_dataset(replace(config, path=str(tmp_path / "vasp"), guess="fit"), guess=fitted).nmae_mean
        < 0.1
    )


def checked_dataset(config: DataConfig, guess: StartingDensity | None = None) -> GuessCheck:
    found = open_rows(config, 2048, guess=guess).source.guess_check
    assert found is not None
    return found


def test_elements_that_are_not_in_the_promolecule_are_told_and_not_judged() -> None:
    silicon = [LABEL / "qe-0039.zarr", LABEL / "qe-0040.zarr"]
    fitted = UnscaledPromolecule(Promolecule.fit(silicon[:1], steps=1, voxels=4000))
    config = replace(QE, densities=tuple(map(str, silicon)), prefix=(), guess="fit")
    check = checked(config, guess=fitted)
    assert [one.material for one in check.judged] == ["qe-0039"]
    assert check.to_json()["lacking"] == [42]
    assert "Mo: not in it" in str(check)
    # Where it has none of the elements, it is judged all the same.
    with pytest.raises(ValueError, match="Mo: not in it, taken from slater"):
        open_rows(replace(config, densities=config.densities[1:]), 512, guess=fitted)


def test_a_limit_is_on_the_mean_and_on_the_electrons_of_any_cell() -> None:
    good = tuple(Misfit(f"m{i}", 0.05, 0.01) for i in range(15))
    GuessCheck(good, 15, whole=True).enforce(0.15, "x")
    odd = (*good, Misfit("odd", 0.3, -0.3))
    with pytest.raises(
        ValueError, match=r"its electron count in odd is off by -30 %; at most 15 % NMAE on average"
    ):
        GuessCheck(odd, 16, whole=True).enforce(0.15, "x")
    GuessCheck(odd, 16, whole=False).enforce(0.15, "x")
    bad = tuple(Misfit(f"m{i}", 0.2, 0.0) for i in range(3))
    with pytest.raises(ValueError, match="its NMAE is 20 % on average"):
        GuessCheck(bad, 3, whole=False).enforce(0.15, "x")


# --- data.guess: fit -----------------------------------------------------------------------------------------


def test_the_fitted_promolecule_suits_its_data(tmp_path: Path) -> None:
    config = replace(VASP, guess="fit", cache=str(tmp_path), threads=1)
    rows = open_rows(config, 512)
    assert rows.source.guess_check is not None
    assert rows.source.guess_check.nmae_mean < 0.08
    assert isinstance(rows.source.starting, UnscaledPromolecule)
    source = rows.source.starting.source
    assert source.atomic_numbers.tolist() == [3, 8, 12, 14, 26, 28]
    # Cached by content; without a cache and with other threads, the same to the last bit.
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("promolecule-*/*.u1")}
    assert len(files) == 1
    again = open_rows(config, 512).source.starting
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("promolecule-*/*.u1")} == files
    anew = open_rows(replace(config, cache=None, threads=3), 512).source.starting
    assert again is not None
    assert anew is not None
    assert again.identity == anew.identity == rows.source.starting.identity
    # Other data, another promolecule.
    other = open_rows(replace(config, limit=3), 512).source.starting
    assert other is not None
    assert other.identity != again.identity
    assert len(list(tmp_path.glob("promolecule-*"))) == 2


def test_it_is_fitted_once_and_to_what_is_the_same_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    fit = Promolecule.fit.__func__  # type: ignore[attr-defined]

    def counted(cls: Any, *arguments: Any, **options: Any) -> Promolecule:
        calls.append(1)
        return fit(cls, *arguments, **options)  # type: ignore[no-any-return]

    monkeypatch.setattr(Promolecule, "fit", classmethod(counted))
    config = replace(QE, guess="fit", limit=4, cache=str(tmp_path / "cache"))
    first = open_rows(config, 512).source.starting
    moved = farm(tmp_path / "moved", ["qe-0003", "qe-0015", "qe-0039", "qe-0040"])
    for name in ("qe-0003", "qe-0015", "qe-0039", "qe-0040"):
        link = moved / "label" / f"{name}.zarr"
        link.unlink()
        link.symlink_to(LABEL / f"{name}.zarr")
    second = open_rows(replace(config, densities=(str(moved),)), 512).source.starting
    assert isinstance(first, UnscaledPromolecule)
    assert second is not None
    assert first.identity == second.identity
    assert len(calls) == 1
    # What an earlier part of the run fitted is taken without any cache, and only for the same densities.
    earlier = first.source
    for limit, fits in ((4, 1), (3, 2)):
        open_rows(replace(config, cache=None, limit=limit), 512, earlier=earlier)
        assert len(calls) == fits


def test_processes_that_share_a_cache_fit_once(tmp_path: Path) -> None:
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
from tomat.lm.data import DataConfig, open_rows
config = DataConfig(densities=({str(ROOT)!r},), prefix=("qe",), limit=5, patch_size=6, patches_per_material=2,
    guess="fit", cache={str(tmp_path)!r})
print(open_rows(config, 512).source.starting.identity)
"""
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    told = {process.communicate(timeout=120)[0] for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(told) == 1
    assert len(list(tmp_path.glob("promolecule-*"))) == 1


def test_rare_elements_are_fitted_to_and_the_rest_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from tomat.lm.data import guess_fit

    monkeypatch.setattr(guess_fit, "MATERIALS", 3)
    monkeypatch.setattr(guess_fit, "OF_ELEMENT", 1)
    monkeypatch.setattr(guess_fit, "VOXELS", 5000)
    # So few voxels make no good one.
    starting = open_rows(replace(QE, guess="fit", max_guess_nmae=None), 512).source.starting
    assert isinstance(starting, UnscaledPromolecule)
    about = starting.source.about
    elements = {int(z) for path in LABEL.glob("qe*.zarr") for z in tomat.read(path).atomic_numbers}
    assert set(starting.source.atomic_numbers.tolist()) == elements
    assert about["fitted_to"]["materials"] == about["materials"] < 14
    assert about["voxels"] <= about["materials"] * max(2048, 5000 // about["materials"])


# --- a run ---------------------------------------------------------------------------------------------------


def test_a_run_keeps_its_promolecule_and_predicts_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("levanter")
    import tiny
    from tomat.lm.decode.opening import open_predictor
    from tomat.lm.record import kept_promolecule, read_note
    from tomat.lm.train import train

    changes = (
        "--data.guess",
        "fit",
        "--validation.guess",
        "fit",
        "--data.prefix",
        "[vasp]",
        "--model.seq_len",
        "256",
        "--trainer.num_train_steps",
    )
    only = ("--validation.split", "train", "--validation.prefix", "[vasp]")
    outcome = train(tiny.config(tmp_path, *changes, "2", *only))
    run = outcome.files.root
    assert outcome.notices[0].startswith("starting density: NMAE")
    assert outcome.notices[1].startswith("starting density, validation: NMAE")
    assert outcome.notices[0] in str(outcome)
    note = (
        read_note(f"{run}/checkpoints/step-2")
        if Path(f"{run}/checkpoints/step-2").exists()
        else read_note(run)
    )
    assert note["guess_check"]["data"]["nmae_mean"] < 0.08
    assert note["data_facts"]["elements"] == [3, 8, 12, 14, 26, 28]
    kept = kept_promolecule(note, run)
    assert kept is not None
    predictor = open_predictor(run)
    assert predictor.facts.promolecule is not None
    assert predictor.facts.promolecule.hash == kept.hash
    # The start that prediction gives is the one that training gave, not that of another kind.
    m = tomat.read(LABEL / "vasp-pmg-Li-nospin.zarr").in_unit("e_per_A3")
    start = predictor.facts.starting_density(m.crystal, m.grid_shape, "e_per_A3")
    assert np.abs(start - m.density).sum() / np.abs(m.density).sum() < 0.1
    # It goes on with what it fitted, wherever fits of other machines might end.
    with caplog.at_level(logging.ERROR):
        on = train(tiny.config(tmp_path, *changes, "3", *only, "--allow_change", "[schedule]"))
    assert (on.first_step, on.steps) == (2, 3)


def test_a_run_on_another_kind_stops_before_it_trains(tmp_path: Path) -> None:
    pytest.importorskip("levanter")
    import tiny
    from tomat.lm.token_task import open_data

    with pytest.raises(ValueError, match="qe-sg15 is not of the kind of these data"):
        open_data(tiny.config(tmp_path, "--data.prefix", "[vasp]"))
    both = ("--validation.split", "train", "--validation.prefix", "[vasp]")
    # MgO, Si and O2: only the electrons of Mg are others.
    with pytest.raises(
        ValueError, match=r"validation: the starting density qe-sg15.*electron count in vasp-mp-2456484"
    ):
        open_data(tiny.config(tmp_path, *both))
    with pytest.raises(ValueError, match="set both or neither"):
        open_data(tiny.config(tmp_path, "--validation.guess", "fit"))


# --- cross-fitted ---------------------------------------------------------------------------------------------


def _family(folder: Path, changed: str | None = None) -> DensityStore:
    return DensityStore.of(families.write(folder, changed), "e_per_A3")


def test_a_crystal_does_not_teach_its_own_starting_density(tmp_path: Path) -> None:
    before, after = (CrossFit.of(_family(tmp_path / str(changed), changed), 3) for changed in (None, "c"))
    np.testing.assert_array_equal(after.fold, before.fold)
    own = int(before.fold[2])
    for k in range(3):
        assert (before.promolecules[k].hash == after.promolecules[k].hash) == (k == own)
    # Crystals of one system are in one fold; lithium is in a single crystal, which no other can teach.
    assert before.fold[2] == before.fold[3]
    assert before.alone.tolist() == [False, False, False, False, True]
    assert (before.fold != before.fold[4]).sum() >= 3


def test_a_promolecule_without_a_fold_is_that_of_the_cross_fit(tmp_path: Path) -> None:
    store = _family(tmp_path)
    of_each = CrossFit.of(store, 2).promolecules
    without = [fitted_promolecule(store, without=Fold(number, 2)) for number in (1, 2)]
    assert [one.hash for one in without] == [one.hash for one in of_each]
    assert without[0].hash != without[1].hash != fitted_promolecule(store).hash


@pytest.mark.parametrize(
    "options", [{"guess": "qe-sg15", "guess_folds": 4}, {"guess": "fit", "guess_folds": 1}]
)
def test_folds_are_for_a_fit(options: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"data\.guess_folds = \d: give at least 2 folds, with data\.guess: fit"
    ):
        replace(QE, **options)
