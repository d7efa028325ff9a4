"""The vocabulary as a Hugging Face tokenizer: one printed name a token, words apart by white space; needs no JAX.

A row in printed form is text (``tomat show`` prints it), and the tokenizer is the table that turns it into ids and
back. A word it does not know is an error, never a silent ``[UNK]``: there is none in the vocabulary.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomat.storage.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.tokenizer import Vocabulary

#: The roles `transformers` knows, and the special each is.
_ROLES = {"pad_token": "[PAD]", "bos_token": "[BOS]", "eos_token": "[EOS]", "mask_token": "[MASK]"}


def tokenizer_json(vocabulary: Vocabulary, extra_names: Sequence[str] = ()) -> dict[str, Any]:
    """The content of ``tokenizer.json``, as the `tokenizers` library reads it.

    Args:
        vocabulary: the tokenizer's vocabulary; its ids keep their places.
        extra_names: names of the ids that follow it, such as ``[MASK]``.

    Returns:
        A ``WordLevel`` model over a split at white space; the specials and those of ``extra_names`` that stand in
        square brackets are marked special, so that ``skip_special_tokens`` leaves them out.

    Raises:
        ValueError: two ids of the same name, or a name with white space in it.
    """
    names = [vocabulary.name(token) for token in range(vocabulary.total_size)]
    names.extend(extra_names)
    ids = {name: token for token, name in enumerate(names)}
    if len(ids) != len(names):
        twice = next(name for token, name in enumerate(names) if ids[name] != token)
        raise ValueError(f"two ids are named {twice!r}: give the extra ids names of their own")
    spaced = next((name for name in names if not name or name.split() != [name]), None)
    if spaced is not None:
        raise ValueError(f"name {spaced!r} is empty or holds white space, which parts words: choose another")
    special = set(vocabulary.specials) | {name for name in extra_names if name.startswith("[")}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(ids[name], name) for name in sorted(special, key=ids.__getitem__)],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": "[UNK]"},
    }


def tokenizer_config(content: dict[str, Any], max_length: int | None = None) -> dict[str, Any]:
    """The content of ``tokenizer_config.json`` beside the ``tokenizer.json`` of ``content``.

    Args:
        content: what :func:`tokenizer_json` returned.
        max_length: tokens a row, where it is fixed.
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
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` to an existing directory.

    ``transformers.AutoTokenizer.from_pretrained(directory)`` and
    ``tokenizers.Tokenizer.from_file(directory / "tokenizer.json")`` read them.

    Args:
        directory: a local directory.
        vocabulary: as for :func:`tokenizer_json`.
        extra_names: as for :func:`tokenizer_json`.
        max_length: tokens a row, where it is fixed.

    Raises:
        ValueError: as :func:`tokenizer_json`.
        OSError: the directory is not there or cannot be written.
    """
    content = tokenizer_json(vocabulary, extra_names)
    files = {"tokenizer.json": content, "tokenizer_config.json": tokenizer_config(content, max_length)}
    for name, value in files.items():
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        write_atomically(Path(directory) / name, text.encode())


def _added(token: int, name: str) -> dict[str, Any]:
    """An entry of ``added_tokens``: matched as a whole word of its own, never normalised."""
    return {
        "id": token,
        "content": name,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
