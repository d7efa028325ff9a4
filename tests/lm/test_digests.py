"""Checkpoints and notes whose files are not what was written are refused; those without digests need a word."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

import flips
from runs import tomat_main
from tomat._seal import sealed
from tomat.lm.digests import begin, check_folder, checkpoint_folders, complete
from tomat.lm.record import SEAL, read_note, write_note
from tomat.report.runs import load_training_run


def make(folder: Path, step: int = 3) -> Path:
    """Files as Levanter leaves them, a note, and the digests."""
    (folder / "d").mkdir(parents=True)
    (folder / "manifest.ocdbt").write_bytes(bytes(range(64)))
    (folder / "d" / "0a1b").write_bytes(b"weights" * 9)
    write_note(str(folder), {"name": "tiny", "step": step, "model": {"preset": "tiny"}})
    complete(str(folder), {"step": step, "timestamp": "2026-01-01T00:00:00", "is_temporary": False})
    return folder


def test_every_bit_of_every_file(tmp_path: Path) -> None:
    folder = make(tmp_path / "step-3")

    def read() -> object:
        check_folder(str(folder))
        return read_note(str(folder))

    for path in sorted(folder.rglob("*")):
        if path.is_file():
            refused, same = flips.survive(path, read, 1500)
            assert refused > 0
            # White space of the digests themselves is all that may change.
            assert path.name == "digests.json" or same == 0, path


def _more(folder: Path) -> None:
    (folder / "d" / "more").write_bytes(b"x")


def _swap(folder: Path) -> None:
    one, other = folder / "d" / "0a1b", folder / "manifest.ocdbt"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "d" / "0a1b").unlink(), "d/0a1b is missing"),
        (lambda folder: (folder / "tomat.json").unlink(), "tomat.json is missing"),
        (lambda folder: (folder / "metadata.json").unlink(), "metadata.json is missing"),
        (_more, "d/more is not listed in digests.json"),
        (_swap, r"d/0a1b is not what was written .*manifest.ocdbt is not what was written"),
        (lambda folder: (folder / "digests.json").unlink(), "has no digests.json.*tomat seal"),
        (lambda folder: (folder / "digests.json").write_text("{}"), "digests.json: no 'sha256' in it"),
        (lambda folder: (folder / "digests.json").write_text("["), "digests.json: damaged"),
    ],
)
def test_damage_is_named_with_its_remedy(
    damage: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    folder = make(tmp_path / "step-3")
    check_folder(str(folder))
    damage(folder)
    with pytest.raises(ValueError, match=words) as error:
        check_folder(str(folder))
    assert str(folder) in str(error.value)


def test_behind_a_url(tmp_path: Path) -> None:
    folder = make(tmp_path / "step-3")
    fs = fsspec.filesystem("memory")
    try:
        fs.put(str(folder), "/digests/step-3", recursive=True)
        url = "memory://digests/step-3"
        check_folder(url)
        assert checkpoint_folders("memory://digests") == [url]
        fs.pipe("/digests/step-3/d/0a1b", b"other")
        fs.pipe("/digests/step-3/extra", b"")
        with pytest.raises(ValueError, match=r"extra is not listed.*d/0a1b is not what was written"):
            check_folder(url)
        begin(url)
        assert checkpoint_folders("memory://digests") == []
        fs.rm("/digests/step-3/extra")
        complete(url, {"step": 3})
        check_folder(url)
    finally:
        fs.store.clear()


def test_the_latest_is_known_by_its_name(tmp_path: Path) -> None:
    """Not by what stands in a file that may be damaged."""
    for step in (2, 10, 9):
        make(tmp_path / f"step-{step}", step)
    (tmp_path / "step-11").mkdir()
    (tmp_path / "step-11" / "tomat.json").write_text("{}")
    (tmp_path / "other").mkdir()
    assert [Path(folder).name for folder in checkpoint_folders(str(tmp_path))] == [
        "step-2",
        "step-9",
        "step-10",
    ]
    assert checkpoint_folders(str(tmp_path / "nowhere")) == []


def older(folder: Path) -> None:
    """Take away what an earlier version did not write."""
    note = json.loads((folder / "tomat.json").read_text())
    del note["note_sha256"]
    (folder / "tomat.json").write_text(json.dumps({**note, "format": 1}))
    (folder / "digests.json").unlink(missing_ok=True)


def test_what_an_earlier_version_made_is_read_once_it_is_sealed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder = make(run / "checkpoints" / "step-3")
    shutil.copy(folder / "tomat.json", run)
    older(folder)
    older(run)
    with pytest.raises(ValueError, match=rf"no digest.*tomat seal {run}$"):
        read_note(str(run))
    with pytest.raises(ValueError, match=rf"tomat seal {folder}$"):
        check_folder(str(folder))
    result = tomat_main("seal", run, "--json")
    assert result.code == 0, result.err
    assert result.json == {
        "written": [str(run / "tomat.json"), str(folder / "tomat.json"), str(folder / "digests.json")]
    }
    check_folder(str(folder))
    assert read_note(str(run))["name"] == read_note(str(folder))["name"] == "tiny"
    assert "already has its digests" in tomat_main("seal", run).out
    # Damage is never sealed over.
    (folder / "d" / "0a1b").write_bytes(b"other")
    assert tomat_main("seal", run).code == 0
    with pytest.raises(ValueError, match="d/0a1b is not what was written"):
        check_folder(str(folder))
    note = (run / "tomat.json").read_text()
    (run / "tomat.json").write_text(note.replace("tiny", "tidy"))
    assert "is not what was written" in tomat_main("seal", run).err
    assert tomat_main("seal", tmp_path).code == 1


def test_a_report_refuses_a_damaged_note_and_reads_that_of_another_program(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "train/loss": 1.0}\n')
    (tmp_path / "tomat.json").write_text('{"name": "theirs"}')
    assert load_training_run(tmp_path).name == "theirs"
    write_note(str(tmp_path), {"name": "ours"})

    def read() -> object:
        run = load_training_run(tmp_path)
        return run.name, run.about

    refused, same = flips.survive(tmp_path / "tomat.json", read, 1 << 20)
    assert refused > 10 * same


# --- runs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps with two checkpoints."""
    pytest.importorskip("levanter")
    import tiny
    from tomat.lm.train import train

    folder = tmp_path_factory.mktemp("digests")
    train(tiny.config(folder, steps=4, keep=2))
    return folder / "runs" / "tiny"


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_run_lists_every_file_of_its_checkpoints(trained: Path) -> None:
    folders = checkpoint_folders(str(trained / "checkpoints"))
    assert [Path(folder).name for folder in folders] == ["step-2", "step-3"]
    for folder in folders:
        check_folder(folder)
        listed = json.loads((Path(folder) / "digests.json").read_text())["files"]
        assert sorted([*listed, "digests.json"]) == files(Path(folder))
        assert any(name.startswith("d/") for name in listed)


def test_no_bit_of_a_checkpoint_gives_other_weights(trained: Path) -> None:
    from tomat.lm.checkpoint import open_checkpoint

    folder = Path(checkpoint_folders(str(trained / "checkpoints"))[-1])
    sound = open_checkpoint(str(trained), weights="latest")

    def read() -> Any:
        # Where nothing is refused the weights would be loaded: those of `sound`, by the test of open_checkpoint below.
        check_folder(str(folder))
        return read_note(str(folder))

    for name in files(folder):
        if name != "digests.json":
            refused, same = flips.survive(folder / name, read, 40)
            assert same == 0, (name, refused)
    weights = folder / next(name for name in files(folder) if name.startswith("d/"))
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        for place in (trained, folder):
            with pytest.raises(ValueError, match=f"{weights.name} is not what was written"):
                open_checkpoint(str(place), weights="latest")
    finally:
        weights.write_bytes(content)
    assert open_checkpoint(str(trained), weights="latest").fingerprint == sound.fingerprint


def test_weights_a_run_keeps_are_checked_too(trained: Path, tmp_path: Path) -> None:
    from tomat.lm.checkpoint import open_checkpoint
    from tomat.lm.record import read_best

    run = Path(shutil.copytree(trained, tmp_path / "tiny"))
    best = read_best(str(run / "best.json"))
    assert best is not None
    refused, same = flips.survive(run / "best.json", lambda: read_best(str(run / "best.json")), 1 << 20)
    assert refused > 10 * same
    for folder in {"start", best.folder}:
        check_folder(str(run / folder))
        (run / folder / "more").write_bytes(b"")
    for weights in ("start", "best"):
        with pytest.raises(ValueError, match=r"more is not listed"):
            open_checkpoint(str(run), weights=weights)
    stored = json.loads((run / "best.json").read_text())
    for name in ("../elsewhere", "/etc", "best-1/.."):
        (run / "best.json").write_text(json.dumps(sealed({**stored, "folder": name}, SEAL)))
        with pytest.raises(ValueError, match="is no folder of kept weights"):
            read_best(str(run / "best.json"))


def test_a_run_does_not_go_on_from_a_damaged_checkpoint(trained: Path, tmp_path: Path) -> None:
    import tiny
    from tomat.lm.train import train

    run = Path(shutil.copytree(trained, tmp_path / "runs" / "tiny"))
    latest, earlier = run / "checkpoints" / "step-3", run / "checkpoints" / "step-2"
    weights = latest / next(name for name in files(latest) if name.startswith("d/"))
    weights.write_bytes(b"x" + weights.read_bytes()[1:])

    def again() -> Any:
        return train(tiny.config(tmp_path, "--allow_change", "[schedule]", steps=5, keep=2))

    with pytest.raises(ValueError, match=rf"step-3: the checkpoint is damaged: d/{weights.name}"):
        again()
    shutil.rmtree(latest)
    (earlier / "digests.json").rename(tmp_path / "digests.json")
    with pytest.raises(ValueError, match=r"step-2: has no digests\.json.*tomat seal"):
        again()
    (tmp_path / "digests.json").rename(earlier / "digests.json")
    assert again().first_step == 3
