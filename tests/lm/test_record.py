"""What a checkpoint says of its tokenizer is enough to build it again, and proves that it is the same."""

import json
from pathlib import Path
from typing import Any

import pytest

import tomat
from tomat.lm.record import read_note, tokenizer_from, tokenizer_note, write_codec, write_note


@pytest.mark.parametrize(
    ("layout", "codec"), [("v3", "l1-1k"), ("v1", "two_token_9_12"), ("v2", "l1-1k-e_per_A3")]
)
def test_a_tokenizer_comes_back_from_its_note(layout: str, codec: str, tmp_path: Path) -> None:
    made = tomat.PatchTokenizer(layout, codec, 5, 512, [(4, 5, 5)])
    write_codec(made.density_codec, str(tmp_path))
    note = {"tokenizer": json.loads(json.dumps(tokenizer_note(made)))}
    back = tokenizer_from(note, [str(tmp_path / "elsewhere"), str(tmp_path)])
    assert tokenizer_note(back) == tokenizer_note(made)


@pytest.mark.parametrize("unit", tomat.UNITS)
def test_the_unit_of_a_log_codec_comes_back(unit: str, tmp_path: Path) -> None:
    made = tomat.PatchTokenizer("v3", "fp16_1token", 5, 512, unit=unit)
    write_codec(made.density_codec, str(tmp_path))
    note = {"tokenizer": json.loads(json.dumps(tokenizer_note(made)))}
    assert tokenizer_from(note, [str(tmp_path)]).unit == unit
    del note["tokenizer"]["unit"]
    with pytest.raises(ValueError, match=r"tomat\.json of .* states no unit"):
        tokenizer_from(note, [str(tmp_path)])


def test_another_unit_than_the_codecs_is_refused(tmp_path: Path) -> None:
    note = tokenizer_note(tomat.PatchTokenizer("v3", "l1-1k"))
    with pytest.raises(ValueError, match="encodes densities in chgcar, not in e_per_A3"):
        tokenizer_from({"tokenizer": note | {"unit": "e_per_A3"}}, [str(tmp_path)])
    # A fitted codec knows its unit: notes from before it was written there are read.
    del note["unit"]
    assert tokenizer_from({"tokenizer": note}, [str(tmp_path)]).unit == "chgcar"


def test_another_codec_under_the_same_name_is_refused(tmp_path: Path) -> None:
    made = tomat.PatchTokenizer("v3", "l1-1k")
    write_codec(tomat.load_codec("l1-4k"), str(tmp_path))
    with pytest.raises(ValueError, match=r"codec\.npz: codec .* is not"):
        tokenizer_from({"tokenizer": tokenizer_note(made)}, [str(tmp_path)])


def test_a_folder_without_a_note_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no tomat\.json there; give the folder of a run"):
        read_note(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2}', "{}"])
def test_a_damaged_or_later_note_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "tomat.json").write_text(content)
    with pytest.raises(ValueError, match=r"tomat\.json"):
        read_note(str(tmp_path))


WRONG: list[tuple[str, Any]] = [
    ("layout", "v9"),
    ("layout", 3),
    ("layout", None),
    ("patch_size", "5"),
    ("patch_size", -1),
    ("pad_to", 10**30),
    ("pad_to", True),
    ("fallback_shapes", None),
    ("fallback_shapes", [[1, 2]]),
    ("fallback_shapes", [[0, 1, 1]]),
    ("codec", None),
    ("codec", "nonsense"),
    ("codec_file", "../../codec.npz"),
    ("codec_file", ""),
    ("codec_hash", 7),
    ("vocabulary_hash", "0"),
    ("unit", 5),
    ("unit", "joule"),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=[f"{key}-{value}" for key, value in WRONG])
def test_what_a_note_cannot_say(key: str, value: Any, tmp_path: Path) -> None:
    """None of it is a KeyError or a TypeError of the program; all of it names the note."""
    about = tokenizer_note(tomat.PatchTokenizer("v3", "l1-1k"))
    with pytest.raises(ValueError, match=rf"tomat\.json of {tmp_path}|{tmp_path}: no codec"):
        tokenizer_from({"tokenizer": {**about, key: value}}, [str(tmp_path)])
    if value is None:
        del about[key]
        with pytest.raises(ValueError, match=rf"'{key}' is missing"):
            tokenizer_from({"tokenizer": about}, [str(tmp_path)])


def test_a_note_without_a_tokenizer(tmp_path: Path) -> None:
    notes: list[dict[str, Any]] = [{}, {"tokenizer": None}, {"tokenizer": []}]
    for note in notes:
        with pytest.raises(ValueError, match="'tokenizer' is"):
            tokenizer_from(note, [str(tmp_path)])


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "null", '{"step": "3"}', '{"step": null}', '{"step": tru']
)
def test_a_checkpoint_with_damaged_metadata(content: str, tmp_path: Path) -> None:
    pytest.importorskip("levanter")
    from tomat.lm.checkpoint import open_note

    tokenizer = tomat.PatchTokenizer("v3", "l1-1k")
    write_note(str(tmp_path), {"tokenizer": tokenizer_note(tokenizer)})
    (tmp_path / "metadata.json").write_text(content)
    with pytest.raises(ValueError, match=r"metadata\.json"):
        open_note(str(tmp_path))
    (tmp_path / "metadata.json").write_text('{"step": 3}')
    assert open_note(str(tmp_path))[1]["tokenizer"]["layout"] == "v3"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("objective", None),
        ("objective", {"kind": 3}),
        ("objective", []),
        ("model", {"preset": {}}),
        ("model", 1),
        ("step", "1"),
    ],
)
def test_a_checkpoint_whose_note_says_no_configuration(key: str, value: Any, tmp_path: Path) -> None:
    pytest.importorskip("levanter")
    from tomat.lm.checkpoint import open_checkpoint
    from tomat.lm.digests import complete

    tokenizer = tomat.PatchTokenizer("v3", "l1-1k")
    note = {"tokenizer": tokenizer_note(tokenizer), "objective": {}, "model": {}, key: value}
    write_note(str(tmp_path), note)
    complete(str(tmp_path), {"step": 3})
    # Weights are not there, which is said of a note that is sound.
    with pytest.raises((ValueError, OSError), match="tomat.json" if key != "step" else "."):
        open_checkpoint(str(tmp_path))
