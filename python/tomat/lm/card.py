"""The model card of an export; needs no JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levanter.models.qwen import Qwen3Config

    from tomat.lm.vocabulary import ModelVocabulary

_CAUSAL = """It is causal: every token sees those before it.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this/directory")
tokenizer = AutoTokenizer.from_pretrained("this/directory")
ids = tokenizer("[BOS] [GRID_START] ...", return_tensors="pt")["input_ids"]  # a row as `tomat show` prints it
logits = model(ids).logits
```
"""

_BOTH_WAYS = """It looks both ways: **every token sees every other token of its row**, and the density is predicted
in one pass. `config.json` says so (`"is_causal": false`), and `transformers` 5.12 heeds it; for every version, give
the mask explicitly, of 4 dimensions and additive (0 where a token may be seen):

```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this/directory")
tokenizer = AutoTokenizer.from_pretrained("this/directory")
ids = tokenizer("[BOS] [GRID_START] ... [DENS_START] [MASK] [MASK] ...", return_tensors="pt")["input_ids"]
full = torch.zeros(1, 1, ids.shape[1], ids.shape[1], dtype=model.dtype)
logits = model(ids, attention_mask=full).logits
```

Padding must not be seen: leave it away, or put a large negative number in its columns.
"""


def model_card(metadata: dict[str, Any], config: Qwen3Config, vocabulary: ModelVocabulary) -> str:
    """The text of ``README.md``.

    Args:
        metadata: the content of ``tomat.json``.
        config: Levanter's configuration.
        vocabulary: the model's ids.
    """
    objective = metadata["objective"].get("kind", "unknown")
    density, tokenizer = vocabulary.density, metadata["tokenizer"]
    asked = _BOTH_WAYS if metadata["bidirectional"] else _CAUSAL
    front = "---\nlibrary_name: transformers\ntags: [materials, electron-density]\n---\n"
    facts = {
        "architecture": f"Qwen3, {config.num_layers} layers, hidden {config.hidden_dim}, {config.num_heads} heads of "
        f"{config.actual_head_size}, feed-forward {config.intermediate_dim}, tied embedding",
        "objective": objective,
        "layout": f"{tokenizer['layout']}, patches of {tokenizer['patch_size']} points an edge, rows of "
        f"{metadata['seq_len']} tokens",
        "codec": f"{tokenizer['codec']} (`{tokenizer['codec_file']}`), density tokens {density.start} to "
        f"{density.stop - 1}",
        "vocabulary": f"{vocabulary.size} ids in {vocabulary.padded_size} rows, hash `{vocabulary.hash}`",
        "made by": f"tomat {metadata['tomat']}",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return (
        f"{front}# An electron density model ({objective})\n\n"
        f"Predicts the electron density of a crystal, as tokens, from its structure.\n\n| | |\n|---|---|\n{table}\n\n"
        f"## Asking it\n{asked}\n"
        "`tomat.json` holds what made the model and the checksum of every weight; `tomat predict` opens this "
        "directory as it is.\n"
    )
