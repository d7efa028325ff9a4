"""What a checkpoint says of its tokenizer is enough to build it again, and proves that it is the same."""

import json
from pathlib import Path

import pytest

import tomat
from tomat.lm.note import read_note, tokenizer_from, tokenizer_note, write_codec


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
