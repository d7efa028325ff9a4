"""Nothing is clipped in silence: what a codec cannot hold is counted, named, and too much of it left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tomat
from runs import (
    IDS,
    LABEL,
    ROOT,
    SMALL,
    edit_meta,
    make_foreign,
    meta,
    rows_of,
    save_zarr,
    sound,
    tokenize,
    tomat_main,
    tree,
)
from tomat.clipping import Clipping, recount
from tomat.codec import Codec
from tomat.dataset.config import TokenizeConfig
from tomat.workplace import identity_hash, read_record, write_record

#: Rows with room for the atoms of a supercell.
LONG = ("--patch-size", "4", "--pad-to", "4096", "--patches-per-material", "4", "--codec", "lmq-16k")
FE3O4 = LABEL / "vasp-pmg-Fe3O4.zarr"
GOOD = LABEL / "qe-0039.zarr"


def clipping_of(codec: Codec, material: tomat.Material) -> Clipping | None:
    """What ``codec`` clips of a density that is in the unit it encodes; None where nothing is clipped."""
    found = codec.clipping(material.density.ravel())
    if found is None:
        return None
    voxels, above, below, total, worst, index = found
    volume = 1.0 if material.unit == "chgcar" else material.volume
    x, y, z = (int(n) for n in np.unravel_index(index, material.grid_shape))
    electrons = (above + below) * (volume / material.density.size)
    return Clipping(voxels, electrons, above / total + below / total, below / total, worst, (x, y, z))


def doubled(folder: Path, n: int = 2) -> Path:
    """Fe3O4, ``n`` times along each axis: the same density, which rho * V_cell shows as n^3 times as large."""
    path = folder / f"Fe3O4-{n}.zarr"
    save_zarr(path, tomat.read(FE3O4).supercell((n, n, n)))
    return path


def peaked(folder: Path, name: str, share: float, n_voxels: int = 1) -> Path:
    """Silicon with some voxels so far above 2,306 that ``share`` of the electrons is lost."""
    m = tomat.read(GOOD)
    clip = float(tomat.LloydMaxCodec.load("lmq-16k").clip_max)
    values = m.density.astype(np.float64)
    rest = float(values.sum()) - float(values.ravel()[:n_voxels].sum()) + n_voxels * clip
    values.ravel()[:n_voxels] = clip + share / (1 - share) * rest / n_voxels
    save_zarr(
        folder / f"{name}.zarr",
        tomat.Material.of(name, values, m.unit, m.lattice, m.atomic_numbers, m.frac_coords),
    )
    return folder / f"{name}.zarr"


def state(folder: Path, **changes: Any) -> None:
    """Make ``meta.json`` say other things, with digests that fit."""
    edit_meta(folder, lambda facts: facts.update(changes))


# --- counting -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["lmq-16k", "two_token_9_12", "l1-1k-e_per_A3"])
@pytest.mark.parametrize("unit", tomat.UNITS)
def test_what_is_clipped_is_counted_over_all_voxels(codec: str, unit: str) -> None:
    """The core's count is that of plain NumPy, in electrons whatever the unit."""
    rng = np.random.default_rng(1)
    values = 10.0 ** rng.uniform(-3, 6.5, (13, 17, 29)) * rng.choice([-1, 1, 1], (13, 17, 29))
    m = tomat.Material.of("m", values, unit, np.diag([2.0, 3.0, 5.0]), [92], [[0, 0, 0]])
    loaded = tomat.load_codec(codec)
    if isinstance(loaded, tomat.LogCodec):
        low, high = -(10**loaded.log_max), 10**loaded.log_max
    else:
        assert isinstance(loaded, tomat.LloydMaxCodec)
        low, high = loaded.clip_min, loaded.clip_max
    found = clipping_of(loaded, m)
    assert found is not None
    truth = m.density.astype(np.float64)
    lost = np.abs(truth - np.clip(truth, low, high))
    per_voxel = (1.0 if unit == "chgcar" else 30.0) / truth.size
    assert found.voxels == np.count_nonzero(lost) > 0
    assert found.electrons == pytest.approx(lost.sum() * per_voxel, rel=1e-12)
    assert found.share == pytest.approx(lost.sum() / np.abs(truth).sum(), rel=1e-12)
    assert found.share_below == pytest.approx(lost[truth < low].sum() / np.abs(truth).sum(), rel=1e-12)
    assert lost[found.worst_voxel] == lost.max()
    assert found.worst == truth[found.worst_voxel]
    again = recount(loaded, m.density, m.unit, m.volume)
    assert again is not None
    assert again.electrons == pytest.approx(found.electrons, rel=1e-12)


def test_a_density_in_range_is_not_clipped() -> None:
    codec = tomat.load_codec("lmq-16k")
    assert clipping_of(codec, tomat.read(GOOD)) is None
    assert codec.clipping(np.array([0.0, codec.range[1]])) is None
    with pytest.raises(ValueError, match="NaN"):
        codec.clipping(np.array([1.0, np.nan]))


# --- supercells -----------------------------------------------------------------------------------------------


def test_supercells_that_the_codec_cannot_hold_are_left_out(tmp_path: Path) -> None:
    """At 3 x 3 x 3, 14 of the 20 real densities lose 1.4 to 54 % to the codec of ``rho * V_cell``."""
    paths = []
    for name in IDS:
        paths.append(tmp_path / f"{name}.zarr")
        tomat.read(LABEL / f"{name}.zarr").supercell((3, 3, 3)).write(paths[-1])
    result = tokenize(*paths, "--out", tmp_path / "out", *LONG, "--json")
    assert result.code == 3, result.err
    assert result.json["left_out"] == {"clipped": 14}
    facts = meta(tmp_path / "out")
    assert facts["n_materials_clipped"] == len(facts["first_materials_clipped"]) == 14
    assert {"vasp-pmg-Fe3O4", "qe-0848", "qe-0040"} <= set(facts["first_materials_clipped"])
    assert set(rows_of(tmp_path / "out")) == set(IDS) - set(facts["first_materials_clipped"])
    # What is in holds its density: the negative voxels of one PAW density apart, nothing is clipped.
    assert facts["clipped_materials"].keys() == {"vasp-mp-2300242"}
    assert facts["clipped_materials"]["vasp-mp-2300242"]["share"] < 0.0012
    verified = tomat_main("verify", tmp_path / "out", *(x for path in paths for x in ("--source", path)))
    assert verified.code == 0, verified.out
    assert ": sound: " in verified.out


def test_the_default_codec_holds_supercells(tmp_path: Path) -> None:
    """In electrons per cubic angstrom the size of the cell says nothing: all that there is goes in, and is sound."""
    path = doubled(tmp_path)
    arguments = ("--patch-size", "4", "--pad-to", "4096", "--patches-per-material", "40")
    errors = []
    for source in (FE3O4, path):
        out = tmp_path / f"rows-{source.stem}"
        sound(source, "--out", out, *arguments, "--quiet")
        assert meta(out)["clipped_voxels"] == 0
        report = tomat_main("verify", out, "--source", source, "--json").json
        assert report["is_sound"]
        errors.append(report["nmae"]["mean"])
    assert max(errors) < 3e-4
    assert errors[0] == pytest.approx(errors[1], rel=0.2)  # other patches


def test_a_material_left_out_is_named_with_what_it_loses(tmp_path: Path) -> None:
    path = doubled(tmp_path)
    result = tokenize(path, GOOD, "--out", tmp_path / "out", *LONG, columns=400)
    assert result.code == 3
    assert "left out 1 of 2 materials: 1 clipped" in result.err
    assert f"Fe3O4-2: clipped: {path}: the codec holds 0 to 2305.7" in result.err
    assert "would lose 25.112 % of the electrons (192.8582, in 31760 of 373248 voxels" in result.err
    assert "the worst 10520.79" in result.err
    assert "(18, 18, 18)" in result.err
    assert "tomat codec list" in result.err
    assert list(rows_of(tmp_path / "out")) == ["qe-0039"]
    assert tomat_main("info", tmp_path / "out", "--json").json["left_out"] == {"clipped": 1}
    skipped = tokenize(path, GOOD, "--out", tmp_path / "skip", *LONG, "--on-error", "skip")
    assert skipped.code == 0
    assert tree(tmp_path / "skip") == tree(tmp_path / "out")


def test_verify_never_calls_a_loss_of_a_quarter_sound(tmp_path: Path) -> None:
    path = doubled(tmp_path)
    result = sound(path, GOOD, "--out", tmp_path / "out", *LONG, "--max-clipped", 0.5, "--json")
    clipped = result.json["clipped"]
    assert (clipped["materials"], clipped["voxels"]) == (1, 31760)
    assert clipped["electrons"] == pytest.approx(192.858, abs=1e-3)
    assert (clipped["worst"]["task_id"], clipped["worst"]["worst_voxel"]) == ("Fe3O4-2", [18, 18, 18])
    sources = ("--source", path, "--source", GOOD)
    for arguments in ((), sources):
        verified = tomat_main("verify", tmp_path / "out", *arguments)
        assert verified.code == 0, verified.out  # it was agreed to
        assert "as written, with the loss that was allowed in 1 materials" in verified.out
        assert "lossy: Fe3O4-2: 25.1117% of its electrons" in verified.out
        assert "sound" not in verified.out
    report = tomat_main("verify", tmp_path / "out", *sources, "--json").json
    assert report["is_sound"] is False
    assert report["lossy"].keys() == {"Fe3O4-2"}
    error = report["errors"]["Fe3O4-2"]
    # Against the truth, not against what the codec made of it.
    assert error["nmae"] == pytest.approx(error["electrons_clipped"] / error["electrons"], rel=1e-2)
    assert error["nmae"] > 0.05
    assert error["electrons"] - error["electrons_decoded"] == pytest.approx(
        error["electrons_clipped"], rel=1e-2
    )
    assert report["errors"]["qe-0039"]["nmae"] < 1e-3
    assert report["nmae"]["task_id"] == "Fe3O4-2"
    # One that does not say what was agreed, or counted, has a problem.
    state(tmp_path / "out", max_clipped=0.001)
    found = tomat_main("verify", tmp_path / "out")
    assert found.code == 1
    assert "Fe3O4-2 loses 25.1117%" in found.out
    make_foreign(tmp_path / "out")
    found = tomat_main("verify", tmp_path / "out", *sources)
    assert found.code == 1
    assert "Fe3O4-2: the codec loses 25.1117%" in found.out


# --- the limit --------------------------------------------------------------------------------------------------


def test_the_limit(tmp_path: Path) -> None:
    inputs = [peaked(tmp_path, "little", 0.0009), peaked(tmp_path, "much", 0.0011, 7)]
    result = tokenize(*inputs, "--out", tmp_path / "out", *SMALL)
    assert result.code == 3
    assert "much: clipped: " in result.err
    assert "little" not in result.err
    assert "of 1 materials, most of little: 0.0900%" in " ".join(result.out.split())
    facts = meta(tmp_path / "out")
    assert list(facts["clipped_materials"]) == ["little"]
    stored = facts["clipped_materials"]["little"]
    assert (stored["voxels"], stored["worst_voxel"], stored["share_below"]) == (1, [0, 0, 0], 0.0)
    assert stored["share"] == pytest.approx(0.0009, rel=1e-4)
    assert (facts["clipped_voxels"], facts["clipped_electrons"]) == (1, stored["electrons"])
    assert facts["max_clipped"] == 0.001
    sound(*inputs, "--out", tmp_path / "more", *SMALL, "--max-clipped", "0.002", "--quiet")
    assert meta(tmp_path / "more")["clipped_voxels"] == 8
    assert tokenize(*inputs, "--out", tmp_path / "none", *SMALL, "--max-clipped", 0).code == 3
    assert meta(tmp_path / "none")["n_materials_clipped"] == 2
    for limit in ("-0.1", "1.5", "nan"):
        refused = tokenize(*inputs, "--out", tmp_path / "no", *SMALL, "--max-clipped", limit)
        assert refused.code == 1
        assert "max_clipped = " in refused.err


def test_negative_voxels_have_a_limit_of_their_own(tmp_path: Path) -> None:
    """PAW densities have some 0.1 % below zero, which a codec takes for zero: no electron is lost."""
    m = tomat.read(GOOD)
    for name, factor in (("paw", -0.5), ("other", -80.0)):
        values = m.density.copy()
        values.ravel()[:40] *= factor
        save_zarr(
            tmp_path / f"{name}.zarr",
            tomat.Material.of(name, values, m.unit, m.lattice, m.atomic_numbers, m.frac_coords),
        )
    inputs = [tmp_path / "paw.zarr", tmp_path / "other.zarr"]
    result = tokenize(*inputs, "--out", tmp_path / "out", *SMALL, columns=400)
    assert result.code == 3
    assert "where 1 % may lie below (max_negative); take a codec for negative values" in result.err
    assert list(rows_of(tmp_path / "out")) == ["paw"]
    stored = meta(tmp_path / "out")["clipped_materials"]["paw"]
    assert stored["share"] == stored["share_below"] > 0
    assert stored["worst"] < 0
    sound(*inputs, "--out", tmp_path / "all", *SMALL, "--max-negative", "0.2", "--quiet")
    # A log codec has both signs.
    sound(*inputs, "--out", tmp_path / "log", *SMALL, "--codec", "fp16_1token", "--quiet")
    assert meta(tmp_path / "log")["clipped_voxels"] == 0


def test_the_limits_belong_to_the_identity_of_a_run(tmp_path: Path) -> None:
    arguments = (GOOD, "--out", tmp_path / "out", *SMALL)
    sound(*arguments, "--quiet")
    for option, words in (
        (("--max-clipped", "0.5"), "max_clipped was 0.001, is 0.5"),
        (("--max-negative", "0.5"), "max_negative was 0.01, is 0.5"),
        (("--strict",), "strict was False, is True"),
    ):
        result = tokenize(*arguments, "--resume", *option)
        assert result.code == 1
        assert words in result.err


# --- the account --------------------------------------------------------------------------------------------


def test_workers_add_up(tmp_path: Path) -> None:
    inputs = [peaked(tmp_path, f"m{k}", 0.00021 * (k + 1), k + 1) for k in range(6)]
    whole = tokenize(*inputs, "--out", tmp_path / "whole", *SMALL, "--json").json
    parts = tokenize(*inputs, "--out", tmp_path / "parts", *SMALL, "--workers", 2, "--json").json
    assert whole["left_out"] == parts["left_out"] == {"clipped": 2}
    assert whole["clipped"]["voxels"] == parts["clipped"]["voxels"] == 10
    assert parts["clipped"]["electrons"] == pytest.approx(whole["clipped"]["electrons"], rel=1e-12)
    assert parts["clipped"]["worst"] == whole["clipped"]["worst"]
    metas = [meta(tmp_path / "parts" / f"worker-{k:02d}") for k in range(2)]
    assert sum(part["clipped_voxels"] for part in metas) == 10
    assert sum(part["n_materials_clipped"] for part in metas) == 2
    info = tomat_main("info", tmp_path / "parts", "--json").json["clipped"]
    assert info["electrons"] == pytest.approx(whole["clipped"]["electrons"], rel=1e-12)
    assert "10 voxels of 4 materials, most of m3: 0.0840%" in " ".join(
        tomat_main("info", tmp_path / "parts").out.split()
    )
    verified = tomat_main("verify", tmp_path / "parts", *(x for path in inputs for x in ("--source", path)))
    assert verified.code == 0, verified.out


def test_verify_compares_the_account_with_the_source(tmp_path: Path) -> None:
    path = peaked(tmp_path, "m", 0.0005, 3)
    sound(path, GOOD, "--out", tmp_path / "out", *SMALL, "--quiet")
    original = meta(tmp_path / "out")
    stored = original["clipped_materials"]["m"]
    for name, change in {
        "voxels": {"voxels": 4},
        "electrons": {"electrons": stored["electrons"] * 0.999},
        "worst_voxel": {"worst_voxel": [0, 0, 1]},
        "share_below": {"share_below": 0.0001},
    }.items():
        forged = stored | change
        state(
            tmp_path / "out",
            clipped_materials={"m": forged},
            clipped_voxels=forged["voxels"],
            clipped_electrons=forged["electrons"],
        )
        result = tomat_main("verify", tmp_path / "out", "--source", path, "--source", GOOD)
        assert result.code == 1, name
        assert "m: meta.json says that" in result.out, name
    for changes, words in (
        ({"clipped_voxels": 4}, "clipped_voxels = 4, but its materials add up to 3"),
        ({"clipped_electrons": 0.0}, "clipped_electrons = 0.0, but its materials add up to"),
        ({"clipped_materials": {"x": stored}}, "clipped_materials has x, which has no rows"),
        (
            {"clipped_materials": {"m": {}}},
            "clipped_materials does not hold what is clipped of each material",
        ),
        ({"max_clipped": 7}, "max_clipped is 7, not a share"),
    ):
        state(tmp_path / "out", **(original | changes))
        result = tomat_main("verify", tmp_path / "out")
        assert result.code == 1, changes
        assert words in result.out, result.out
    # Nothing said where something is clipped.
    nothing = {"clipped_materials": {}, "clipped_voxels": 0, "clipped_electrons": 0.0}
    state(tmp_path / "out", **(original | nothing))
    assert tomat_main("verify", tmp_path / "out").code == 0
    result = tomat_main("verify", tmp_path / "out", "--source", path, "--source", GOOD)
    assert "m: meta.json says that nothing is clipped, the source says 0.0500%" in result.out


def test_a_run_begun_before_clipping_was_counted_goes_on(tmp_path: Path) -> None:
    """Its records do not say what is clipped: their shards are written again."""
    late = tmp_path / "late.zarr"
    arguments = (GOOD, late, "--out", tmp_path / "out", *SMALL, "--rows-per-shard", 3)
    assert tokenize(*arguments).code == 1
    progress = tmp_path / "out" / ".progress"
    identity = json.loads((progress / "run.json").read_text())["identity"]
    for key in ("max_clipped", "max_negative", "strict"):
        del identity[key]
    (progress / "run.json").write_text(json.dumps({"identity": identity}))
    path = progress / "shard-00000.parquet.json"
    record = read_record(path)
    assert record is not None
    for material in record["materials"]:
        del material["clipped"], material["warnings"]
    write_record(path, record | {"identity": identity_hash(identity)})
    shutil.copytree(FE3O4, late)
    assert sound(*arguments, "--resume", "--json").json["resumed_shards"] == 0
    sound(*arguments[:2], "--out", tmp_path / "calm", *arguments[4:], "--quiet")
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def test_a_record_that_does_not_say_what_is_clipped_redoes_its_shard(tmp_path: Path) -> None:
    late = tmp_path / "late.zarr"
    arguments = (GOOD, LABEL / "qe-0048.zarr", late, "--out", tmp_path / "out", *SMALL, "--rows-per-shard", 3)
    assert tokenize(*arguments).code == 1
    path = tmp_path / "out" / ".progress" / "shard-00001.parquet.json"
    record = read_record(path)
    assert record is not None
    del record["materials"][0]["clipped"]
    write_record(path, record)
    shutil.copytree(FE3O4, late)
    assert sound(*arguments, "--resume", "--json").json["resumed_shards"] == 1
    assert tomat_main("verify", tmp_path / "out").code == 0


# --- plausibility -------------------------------------------------------------------------------------------


def implausible(folder: Path) -> dict[str, Path]:
    """Densities that cannot be of their crystal."""
    m = tomat.read(GOOD)
    spike = m.density.copy()
    spike[3, 2, 1] = (
        10.0 * spike.size
    )  # ten electrons, of 28 that two silicon atoms can have and 8 of valence
    made = {
        "times-volume": (m.density * np.float32(m.volume), m.lattice, "electrons, but its atoms can have"),
        "negative": (-m.density, m.lattice, "holds -8.0000 electrons"),
        "spike": (spike, m.lattice, "one voxel holds 10.0000 electrons"),
        "bohr": (m.density, m.lattice * 0.2, "cubic angstrom an atom"),
    }
    for name, (values, lattice, _) in made.items():
        material = tomat.Material.of(name, values, "chgcar", lattice, m.atomic_numbers, m.frac_coords)
        save_zarr(folder / f"{name}.zarr", material)
    return {words: folder / f"{name}.zarr" for name, (_, _, words) in made.items()}


def test_implausible_densities_are_warned_of(tmp_path: Path) -> None:
    made = implausible(tmp_path)
    options = (*SMALL, "--max-clipped", 1, "--max-negative", 1)
    result = tokenize(*made.values(), GOOD, "--out", tmp_path / "out", *options, columns=400)
    assert result.code == 0, result.err
    assert "warning: 4 of 5 materials are implausible" in result.err
    facts = meta(tmp_path / "out")
    assert facts["n_materials_warned"] == 4
    for words, path in made.items():
        assert any(line.startswith(f"  {path.stem}: ") and words in line for line in result.err.splitlines())
        assert any(words in text for text in facts["warnings"][path.stem])
    assert "qe-0039" not in facts["warnings"]
    summary = tokenize(*made.values(), GOOD, "--out", tmp_path / "out", *options, "--resume", "--json").json
    assert (summary["n_warned"], summary["warnings"]) == (4, facts["warnings"])
    assert tomat_main("info", tmp_path / "out", "--json").json["warnings"] == 4


def test_strict_takes_them_for_unreadable(tmp_path: Path) -> None:
    made = implausible(tmp_path)
    for words, path in made.items():
        result = tokenize(
            GOOD, path, "--out", tmp_path / "out", *SMALL, "--strict", "--overwrite", columns=400
        )
        assert result.code == 1
        assert result.err.startswith(f"error: {path}: implausible: "), result.err
        assert words in result.err
    result = tokenize(
        GOOD,
        *made.values(),
        "--out",
        tmp_path / "out",
        *SMALL,
        "--strict",
        "--overwrite",
        "--on-error",
        "skip",
    )
    assert result.code == 0
    assert meta(tmp_path / "out")["n_materials_unreadable"] == 4
    assert list(rows_of(tmp_path / "out")) == ["qe-0039"]


def test_all_real_densities_are_plausible(tmp_path: Path) -> None:
    sound(ROOT, "--out", tmp_path / "out", *SMALL, "--strict", "--quiet")
    assert meta(tmp_path / "out")["n_materials_warned"] == 0


def test_the_limits_of_a_configuration() -> None:
    for limit in (-1.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"max_clipped = .* must be between 0"):
            TokenizeConfig(max_clipped=limit)
        with pytest.raises(ValueError, match=r"max_negative = .* must be between 0"):
            TokenizeConfig(max_negative=limit)
