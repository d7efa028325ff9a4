"""The vocabulary as a Hugging Face tokenizer: one printed name per token, separated by white space; needs no JAX.

It converts rows in printed form (``tomat show``) to ids and back. An unknown word is an error, since the vocabulary has
no ``[UNK]``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomat.storage.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.tokenizer import Vocabulary

#: Special tokens by their role in `transformers`.
_ROLES = {"pad_token": "[PAD]", "bos_token": "[BOS]", "eos_token": "[EOS]", "mask_token": "[MASK]"}

#: How special tokens are found in a text: as they are.
_FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)


def tokenizer_json(vocabulary: Vocabulary, extra_names: Sequence[str] = ()) -> dict[str, Any]:
    """The content of ``tokenizer.json`` for the `tokenizers` library.

    Args:
        vocabulary: the tokenizer's vocabulary, whose ids are kept.
        extra_names: names of the ids that follow it, such as ``[MASK]``.

    Returns:
        A ``WordLevel`` model with a white-space splitter; the specials and the ``extra_names`` in square brackets are
        special tokens, which ``skip_special_tokens`` omits.

    Raises:
        ValueError: two ids with one name, or a name with white space.
    """
    names = [vocabulary.name(token) for token in range(vocabulary.total_size)]
    names.extend(extra_names)
    ids = {name: token for token, name in enumerate(names)}
    if len(ids) != len(names):
        twice = next(name for token, name in enumerate(names) if ids[name] != token)
        raise ValueError(f"two ids are named {twice!r}: give the extra ids names of their own")
    spaced = next((name for name in names if not name or name.split() != [name]), None)
    if spaced is not None:
        raise ValueError(
            f"name {spaced!r} is empty or holds white space, which separates words: choose another"
        )
    special = set(vocabulary.specials) | {name for name in extra_names if name.startswith("[")}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ids[name], "content": name, **_FLAGS, "special": True}
            for name in sorted(special, key=ids.__getitem__)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": "[UNK]"},
    }


def tokenizer_config(content: dict[str, Any], max_length: int | None = None) -> dict[str, Any]:
    """The content of ``tokenizer_config.json``.

    Args:
        content: of ``tokenizer.json``, from :func:`tokenizer_json`.
        max_length: tokens per row, if fixed.
    """
    roles = {role: name for role, name in _ROLES.items() if name in content["model"]["vocab"]}
    length = {} if max_length is None else {"model_max_length": max_length}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "padding_side": "right",
        **roles,
        **length,
    }


def write_tokenizer(
    directory: str | Path,
    vocabulary: Vocabulary,
    extra_names: Sequence[str] = (),
    max_length: int | None = None,
) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``, for ``AutoTokenizer.from_pretrained(directory)``.

    Args:
        directory: an existing local directory.
        vocabulary: as for :func:`tokenizer_json`.
        extra_names: as for :func:`tokenizer_json`.
        max_length: tokens per row, if fixed.

    Raises:
        ValueError: as :func:`tokenizer_json`.
        OSError: the directory does not exist or cannot be written to.
    """
    content = tokenizer_json(vocabulary, extra_names)
    files = {"tokenizer.json": content, "tokenizer_config.json": tokenizer_config(content, max_length)}
    for name, value in files.items():
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        write_atomically(Path(directory) / name, text.encode())
