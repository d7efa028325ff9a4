"""The model card of an export; needs no JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levanter.models.qwen import Qwen3Config

    from tomat.lm.vocabulary import ModelVocabulary

_CAUSAL = """Its attention is causal: every token sees the tokens before it.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this/directory")
tokenizer = AutoTokenizer.from_pretrained("this/directory")
ids = tokenizer("[BOS] [GRID_START] ...", return_tensors="pt")["input_ids"]  # a row as `tomat show` prints it
logits = model(ids).logits
```
"""

_BIDIRECTIONAL = """Its attention is bidirectional: **every token sees every other token of its row**, and the density
is predicted in one pass. `config.json` states this (`"is_causal": false`), and `transformers` 5.12 respects it. To be
independent of the version, give the attention mask explicitly: 4 dimensions, additive (0 where a token may be seen):

```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this/directory")
tokenizer = AutoTokenizer.from_pretrained("this/directory")
ids = tokenizer("[BOS] [GRID_START] ... [DENS_START] [MASK] [MASK] ...", return_tensors="pt")["input_ids"]
full = torch.zeros(1, 1, ids.shape[1], ids.shape[1], dtype=model.dtype)
logits = model(ids, attention_mask=full).logits
```

Padding must not be seen: leave it out, or put a large negative number in its columns.
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
    usage = _BIDIRECTIONAL if metadata["bidirectional"] else _CAUSAL
    front = "---\nlibrary_name: transformers\ntags: [materials, electron-density]\n---\n"
    facts = {
        "architecture": f"Qwen3, {config.num_layers} layers, hidden {config.hidden_dim}, {config.num_heads} heads of "
        f"{config.actual_head_size}, feed-forward {config.intermediate_dim}, tied embedding",
        "objective": objective,
        "layout": f"{tokenizer['layout']}, patches of {tokenizer['patch_size']} points per edge, rows of "
        f"{metadata['seq_len']} tokens",
        "codec": f"{tokenizer['codec']} (`{tokenizer['codec_file']}`), density tokens {density.start} to "
        f"{density.stop - 1}",
        "vocabulary": f"{vocabulary.size} ids in {vocabulary.padded_size} rows, hash `{vocabulary.hash}`",
        "written by": f"tomat {metadata['tomat']}",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return (
        f"{front}# An electron density model ({objective})\n\n"
        f"Predicts the electron density of a crystal, as tokens, from its structure.\n\n| | |\n|---|---|\n{table}\n\n"
        f"## Usage\n{usage}\n"
        "`tomat.json` records how the model was made and the checksum of every weight. `tomat predict` reads this "
        "directory directly.\n"
    )
