"""Models out to Hugging Face and in again: equal logits, whole weights, from one and from four devices."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from levanter.layers.attention import AttentionMask
from safetensors.numpy import load_file, save_file

import flips
from buckets import bucket, somewhere, upload
from random_models import random_model
from tomat.lm.checkpoint import open_checkpoint
from tomat.lm.export import export_model, load_exported, state_dict, with_state_dict
from tomat.lm.model.presets import ModelConfig
from tomat.lm.model.qwen import DensityLM, levanter_config
from tomat.lm.record import read_note
from tomat.lm.vocabulary import ModelVocabulary
from tomat.tokenizer import PatchTokenizer

LENGTH = 48
CONFIG = ModelConfig(
    hidden_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16, intermediate_dim=48, seq_len=LENGTH
)


def _vocabulary(layout: str = "v3", codec: str = "l1-1k") -> ModelVocabulary:
    return ModelVocabulary(PatchTokenizer(layout, codec, pad_to=LENGTH, patch_size=2))


def _model(vocabulary: ModelVocabulary, *, bidirectional: bool) -> Any:
    levanter = levanter_config(CONFIG, platform="cpu", bidirectional=bidirectional)
    return random_model(levanter, vocabulary, seed=3)


@pytest.fixture(scope="session", params=[False, True], ids=["causal", "bidirectional"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("export") / "model"
    vocabulary = _vocabulary()
    kind = "masked" if request.param else "next_token"
    model = _model(vocabulary, bidirectional=request.param)
    export_model(model, vocabulary, directory, objective={"kind": kind}, data={"seed": 5}, extra={"step": 7})
    return directory


@pytest.fixture(scope="session")
def tokens() -> Any:
    return np.random.default_rng(0).integers(0, _vocabulary().size, (2, LENGTH))


@eqx.filter_jit
def _forward(model: Any, tokens: Any, mask: AttentionMask) -> Any:
    return (
        model(hax.named(tokens, ("batch", "position")), mask).rearrange(("batch", "position", "vocab")).array
    )


def _logits(model: Any, tokens: Any, *, bidirectional: bool) -> Any:
    mask = AttentionMask() if bidirectional else AttentionMask.causal()
    return np.asarray(_forward(model, jnp.asarray(tokens), mask))


def _qwen3(directory: Path, tokens: Any, *, causal: bool) -> Any:
    """Qwen3 in float64 from the files alone, written from its definition; logits (batch, position, vocab)."""
    config = json.loads((directory / "config.json").read_text())
    weights = {
        name: array.astype(np.float64) for name, array in load_file(directory / "model.safetensors").items()
    }

    def norm(x: Any, name: str) -> Any:
        return (
            x / np.sqrt((x**2).mean(-1, keepdims=True) + config["rms_norm_eps"]) * weights[name + ".weight"]
        )

    heads, kv, size = (config[name] for name in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    length = tokens.shape[1]
    theta = config["rope_parameters"]["rope_theta"]
    angle = np.arange(length)[:, None] / theta ** (np.arange(0, size, 2) / size)
    cos, sin = (np.tile(part, 2)[:, None] for part in (np.cos(angle), np.sin(angle)))

    def rotate(x: Any) -> Any:
        first, second = np.split(x, 2, axis=-1)
        return x * cos + np.concatenate([-second, first], -1) * sin

    x = weights["model.embed_tokens.weight"][tokens]
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}."
        y = norm(x, layer + "input_layernorm")
        q, k, v = (y @ weights[f"{layer}self_attn.{n}_proj.weight"].T for n in "qkv")
        q, k, v = (a.reshape(*a.shape[:2], -1, size) for a in (q, k, v))
        q, k = (rotate(norm(a, f"{layer}self_attn.{n}_norm")) for a, n in ((q, "q"), (k, "k")))
        k, v = (np.repeat(a, heads // kv, axis=2) for a in (k, v))
        scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(size)
        if causal:
            scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        out = np.einsum("bhqk,bkhd->bqhd", scores / scores.sum(-1, keepdims=True), v)
        x = x + out.reshape(*out.shape[:2], -1) @ weights[layer + "self_attn.o_proj.weight"].T
        y = norm(x, layer + "post_attention_layernorm")
        gate, up = (y @ weights[f"{layer}mlp.{n}_proj.weight"].T for n in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[layer + "mlp.down_proj.weight"].T
    return norm(x, "model.norm") @ weights["model.embed_tokens.weight"].T


def test_the_files_give_the_logits_of_the_model(exported: Path, tokens: Any) -> None:
    read = load_exported(exported)
    assert isinstance(read.model, DensityLM)
    want = _logits(
        _model(read.vocabulary, bidirectional=read.bidirectional), tokens, bidirectional=read.bidirectional
    )
    got = _logits(read.model, tokens, bidirectional=read.bidirectional)
    np.testing.assert_array_equal(got, want)
    oracle = _qwen3(exported, tokens, causal=not read.bidirectional)
    assert np.abs(want).max() > 1
    np.testing.assert_allclose(want, oracle, atol=1e-5)


#: Logits of the exported model by transformers, in a process of its own: PyTorch lies in a folder that the tests do
#: not see.
_TRANSFORMERS = """
import sys
import numpy as np
import torch
from transformers import AutoModelForCausalLM

directory, tokens, out, is_bidirectional = sys.argv[1:]
ids = torch.from_numpy(np.load(tokens))
full = torch.zeros(len(ids), 1, ids.shape[1], ids.shape[1])
found = {}
for attention in ("sdpa", "eager"):
    model = AutoModelForCausalLM.from_pretrained(directory, attn_implementation=attention)
    # The configuration alone, and as the card says.
    masks = {"alone": {}, "as the card says": {"attention_mask": full}} if is_bidirectional == "True" else {"alone": {}}
    for name, mask in masks.items():
        with torch.no_grad():
            found[f"{attention}, {name}"] = model(ids, **mask).logits.numpy()
np.savez(out, **found)
"""


@pytest.fixture(scope="session")
def with_torch() -> dict[str, str]:
    """An environment in which PyTorch is found: this one, or with the folder that `make test` puts it in."""
    folder = Path(sys.prefix, "torch")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    if (folder / "torch").is_dir():
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(folder), os.environ.get("PYTHONPATH", "")])
        )
    elif find_spec("torch") is None:
        pytest.skip(f"no PyTorch: `make test` installs it, or: python scripts/torch_on_cpu.py {folder}")
    return environment


def test_transformers_gives_the_logits_of_the_model(
    exported: Path, tokens: Any, with_torch: dict[str, str], tmp_path: Path
) -> None:
    read = load_exported(exported)
    want = _logits(read.model, tokens, bidirectional=read.bidirectional)
    np.save(tmp_path / "tokens.npy", tokens)
    out = tmp_path / "logits.npz"
    command = [
        sys.executable,
        "-c",
        _TRANSFORMERS,
        exported,
        tmp_path / "tokens.npy",
        out,
        read.bidirectional,
    ]
    ran = subprocess.run(
        [str(word) for word in command], env=with_torch, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    with np.load(out) as found:
        assert len(found.files) == (4 if read.bidirectional else 2)
        for name in found.files:
            np.testing.assert_allclose(found[name], want, atol=1e-5, err_msg=name)


def test_levanter_reads_it_as_any_checkpoint(exported: Path, tokens: Any) -> None:
    from levanter.compat.hf_checkpoints import HFCheckpointConverter
    from levanter.models.qwen import Qwen3Config, Qwen3LMHeadModel
    from transformers import Qwen3Config as HfConfig

    converter = HFCheckpointConverter(
        Qwen3Config, reference_checkpoint=str(exported), tokenizer=str(exported), HfConfigClass=HfConfig
    )
    with hax.partitioning.set_mesh(jax.make_mesh((1,), ("data",))):
        model = converter.load_pretrained(Qwen3LMHeadModel, ref=str(exported))
    ours = state_dict(load_exported(exported).model)
    theirs = state_dict(model)
    assert set(ours) == set(theirs)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_an_exported_model_brings_codec_vocabulary_and_history(exported: Path) -> None:
    read = load_exported(exported)
    vocabulary = _vocabulary()
    assert read.vocabulary.hash == vocabulary.hash
    assert read.vocabulary.tokenizer.patch_size == 2
    assert read.metadata["data"] == {"seed": 5}
    assert read.metadata["step"] == 7
    assert read.model.Vocab.size == vocabulary.padded_size
    config = json.loads((exported / "config.json").read_text())
    assert config["is_causal"] is not read.bidirectional
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["tie_word_embeddings"] is True
    card = (exported / "README.md").read_text()
    assert ("attention_mask=full" in card) == read.bidirectional
    assert vocabulary.hash in card


def test_no_bit_of_an_export_gives_another_model(exported: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(exported, tmp_path / "model"))
    (directory / "README.md").write_text("what people write on their cards")
    load_exported(directory)
    for path in sorted(directory.iterdir()):
        content = path.read_bytes()
        if path.name == "README.md":
            continue
        if path.name == "tomat.json":
            flips.survive(path, lambda: read_note(str(directory)), 400)
            continue
        for _, raw in flips.turned(content, flips.positions(len(content), 12)):
            path.write_bytes(raw)
            with pytest.raises(ValueError, match=rf"{path.name}: .*fetch it again"):
                load_exported(directory)
        path.write_bytes(content)


def test_two_tokens_a_voxel_and_half_precision(tmp_path: Path) -> None:
    vocabulary = _vocabulary("v1", "two_token_9_12")
    model = _model(vocabulary, bidirectional=False)
    directory = tmp_path / "model"
    export_model(model, vocabulary, directory, objective={"kind": "next_token"}, dtype="bfloat16")
    read = load_exported(directory)
    assert read.vocabulary.codec.name == vocabulary.codec.name
    assert read.vocabulary.hash == vocabulary.hash
    for name, weight in state_dict(model).items():
        rounded = np.asarray(jnp.asarray(weight).astype(jnp.bfloat16).astype(jnp.float32))
        np.testing.assert_array_equal(state_dict(read.model)[name], rounded)
    # An export may take the place of an older one, and of nothing else.
    export_model(model, vocabulary, directory, objective={"kind": "next_token"})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="not an exported model"):
        export_model(model, vocabulary, tmp_path / "other", objective={"kind": "next_token"})
    assert (tmp_path / "other" / "thesis.tex").exists()


def test_an_export_opens_from_a_bucket(
    exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = load_exported(exported)
    url = somewhere()
    with bucket(monkeypatch):
        upload(exported, url)
        there = open_checkpoint(url)
        ours, theirs = state_dict(here.model), state_dict(there.model)
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
        assert there.path == url
        assert there.vocabulary.hash == here.vocabulary.hash
        assert there.objective.causal is not here.bidirectional
        path = tmp_path / "model.safetensors"
        path.write_bytes((exported / path.name).read_bytes()[:-1])
        upload(path, f"{url}/{path.name}")
        with pytest.raises(ValueError, match=f"{url}/{path.name}: damaged"):
            open_checkpoint(url)
        with pytest.raises(FileNotFoundError, match="has no initial weights"):
            open_checkpoint(url, weights="start")


def test_a_changed_weight_is_noticed(exported: Path, tmp_path: Path) -> None:
    vocabulary = _vocabulary()
    model = load_exported(exported).model
    weights = state_dict(model)
    name = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(ValueError, match=f"{name} has shape .*12, 32.*, the configuration says .*48, 32"):
        with_state_dict(model, weights | {name: weights[name][:12]})
    with pytest.raises(ValueError, match=r"missing or unknown weights: model\.norm\.weight"):
        with_state_dict(model, {key: weight for key, weight in weights.items() if key != "model.norm.weight"})
    export_model(model, vocabulary, tmp_path / "model", objective={"kind": "masked"})
    changed = load_file(tmp_path / "model" / "model.safetensors")
    changed[name] = changed[name] + np.float32(1e-3)
    save_file(changed, tmp_path / "model" / "model.safetensors")
    with pytest.raises(ValueError, match=f"weight {name} is not the one that was exported"):
        load_exported(tmp_path / "model")


_ON_FOUR_DEVICES = """
import sys
import haliax as hax, jax, numpy as np
from jax.sharding import Mesh
from tomat.lm.export import export_model, load_exported

assert jax.device_count() == 4
read = load_exported(sys.argv[1])
mesh = Mesh(np.array(jax.devices()).reshape(4, 1), ("data", "model"))
with hax.partitioning.set_mesh(mesh):
    model = hax.named_jit(lambda model: model, out_axis_resources={"embed": "data", "vocab": "model"})(read.model)
assert len(model.embeddings.token_embeddings.weight.array.addressable_shards) == 4
assert model.embeddings.token_embeddings.weight.array.addressable_shards[0].data.shape[1] == 8
export_model(model, read.vocabulary, sys.argv[2], objective=read.metadata["objective"])
"""


@pytest.mark.parametrize("exported", [False], indirect=True, ids=["causal"])
def test_four_devices_write_the_file_of_one(exported: Path, tmp_path: Path) -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    subprocess.run(
        [sys.executable, "-c", _ON_FOUR_DEVICES, exported, tmp_path / "model"],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        check=True,
    )
    one, four = ((place / "model.safetensors").read_bytes() for place in (exported, tmp_path / "model"))
    assert one == four
