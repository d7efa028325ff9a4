"""tokenizer.json: the printed names of the format page, one word a token."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tomat.dataset.hf_tokenizer import tokenizer_json, write_tokenizer
from tomat.lm.vocabulary import ModelVocabulary
from tomat.tokenizer import PatchTokenizer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module", params=["v1", "v3"])
def tokenizer(request: pytest.FixtureRequest) -> PatchTokenizer:
    """Both vocabularies, and a codec of two tokens a voxel."""
    codec = "two_token_9_12" if request.param == "v1" else "l1-1k"
    return PatchTokenizer(str(request.param), codec, patch_size=3, pad_to=256)


def _row(tokenizer: PatchTokenizer) -> Any:
    density = np.random.default_rng(3).gamma(1.0, 2.0, (5, 4, 6))
    fractions = np.array([[0.0, 0.5, 0.25], [0.1, 0.2, 0.9]])
    return tokenizer.encode(density, np.eye(3) * 4, [8, 22], fractions, [[1, 2, 3]])[0]


def test_transformers_reads_a_printed_row_and_prints_it_again(
    tokenizer: PatchTokenizer, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    write_tokenizer(tmp_path, tokenizer.vocabulary, ["[MASK]"], max_length=256)
    read: Any = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(read, PreTrainedTokenizerFast)
    row = _row(tokenizer)
    row = row[row != 0]
    text = " ".join(tokenizer.show(row))
    assert read(text)["input_ids"] == row.tolist()
    assert read.decode(row) == text
    assert len(read) == tokenizer.vocabulary.total_size + 1
    vocabulary = ModelVocabulary(tokenizer)
    assert (read.pad_token_id, read.mask_token_id) == (vocabulary.pad, vocabulary.mask)
    assert read.model_max_length == 256
    plain: Any = read.decode(row, skip_special_tokens=True)
    assert plain.split()[:3] == ["5", "4", "6"]


def test_a_word_it_does_not_know_is_an_error(tokenizer: PatchTokenizer, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    write_tokenizer(tmp_path, tokenizer.vocabulary)
    read = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert read.encode("[BOS] O").ids == [1, tokenizer.vocabulary.atom_range[0] + 7]
    with pytest.raises(Exception, match="UNK"):
        read.encode("[BOS] d999999")


def test_every_id_of_the_model_has_its_own_name(tokenizer: PatchTokenizer) -> None:
    vocabulary = ModelVocabulary(tokenizer)
    total = tokenizer.vocabulary.total_size
    extra = [vocabulary.name(token) for token in range(total, vocabulary.padded_size)]
    content = json.loads(json.dumps(tokenizer_json(tokenizer.vocabulary, extra)))
    assert list(content["model"]["vocab"].values()) == list(range(vocabulary.padded_size))
    assert [token["content"] for token in content["added_tokens"]][-len(extra) :] == extra


@pytest.mark.parametrize("name", ["[BOS]", "d0", "two words", ""])
def test_a_name_that_cannot_be_told_apart_is_refused(tokenizer: PatchTokenizer, name: str) -> None:
    with pytest.raises(ValueError, match=r"named|white space"):
        tokenizer_json(tokenizer.vocabulary, [name])
