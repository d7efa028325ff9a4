"""The stream a trainer sees: determined by (seed, index), through Levanter's own loader, on one device and on four."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import haliax as hax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from haliax import Axis
from levanter.data.loader import DataLoader
from levanter.models.qwen import Qwen3Config
from numpy.typing import NDArray

import example_oracle
from data_sets import CASES
from places import TESTS
from tomat.lm.data import DataConfig, Rows, open_rows
from tomat.lm.data.shuffle import key_of
from tomat.lm.example import DensityExample
from tomat.lm.objective import ObjectiveConfig
from tomat.lm.stream import ExampleDataset
from tomat.lm.vocabulary import ModelVocabulary

SIZE = 1024


@pytest.fixture(scope="module")
def rows() -> Rows:
    return open_rows(CASES["v3"].on_the_fly(pack=True, guess="slater"), SIZE)


def stream(rows: Rows, kind: str = "masked", **settings: Any) -> ExampleDataset:
    settings = {"seed": 5} | settings
    vocabulary = ModelVocabulary(rows.tokenizer)
    return ExampleDataset(rows, ObjectiveConfig(kind), vocabulary, Axis("position", rows.size), **settings)


def wait[T](work: Coroutine[Any, Any, T]) -> T:
    try:
        work.send(None)
    except StopIteration as result:
        return result.value  # type: ignore[no-any-return]
    raise AssertionError("it waits for something")


def digest(arrays: dict[str, NDArray[Any]]) -> str:
    content = hashlib.sha256()
    for name in sorted(arrays):
        content.update(np.ascontiguousarray(arrays[name]).tobytes())
    return content.hexdigest()


@pytest.mark.parametrize("kind", ["next_token", "masked", "guess"])
def test_examples_are_the_arrays(kind: str, rows: Rows) -> None:
    data = stream(rows, kind)
    indices = [3, 0, 40, len(rows) + 2, 7 * len(rows)]
    arrays = data.arrays(indices)
    examples = wait(data.get_batch(indices))
    for number, example in enumerate(examples):
        assert isinstance(example, DensityExample)
        for name in ("tokens", "targets", "values", "loss_weight", "pos_ids"):
            field = getattr(example, name)
            assert [axis.name for axis in field.axes] == ["position"]
            np.testing.assert_array_equal(field.array, arrays[name][number], err_msg=name)
        assert example.attn_mask.is_causal == (kind == "next_token")
        for segments in example.attn_mask.segment_ids:
            np.testing.assert_array_equal(segments.array, arrays["segments"][number])


@pytest.mark.parametrize(
    "config", [ObjectiveConfig("next_token"), ObjectiveConfig("masked"), ObjectiveConfig("guess")]
)
@pytest.mark.parametrize("source", ["densities", "dataset"])
def test_arrays_are_those_of_the_oracle(
    source: str, config: ObjectiveConfig, rows: Rows, datasets: dict[str, Path]
) -> None:
    if source == "dataset":
        rows = open_rows(
            DataConfig(path=str(datasets["v3"]), pack=True, guess="slater", max_guess_nmae=100), SIZE
        )
    data, vocabulary = stream(rows, config.kind), ModelVocabulary(rows.tokenizer)
    n = len(rows)
    indices = [*range(n - 20, n + 3), 5, 3 * n, 6, 2 * n + 1, 2 * n + 2]  # epochs side by side and in turns
    arrays = data.arrays(indices)
    for number, (epoch, row) in enumerate(zip(*data.places(indices), strict=True)):
        keys = example_oracle.keys_of(key_of(5, "mask", int(epoch)), np.array([row]))
        expected = example_oracle.examples(config, rows.rows(int(epoch), [row]), vocabulary, keys)
        for name, array in expected.items():
            assert arrays[name].dtype == array.dtype, name
            np.testing.assert_array_equal(arrays[name][number], array[0], err_msg=name)
    assert data.arrays([])["tokens"].shape == (0, SIZE)


def test_an_example_follows_from_seed_and_index(rows: Rows) -> None:
    n = len(rows)
    indices = list(range(0, 3 * n, 5))
    together = stream(rows).arrays(indices)
    one_by_one = [stream(rows).arrays([index]) for index in indices[::7]]
    for number, arrays in enumerate(one_by_one):
        for name, array in arrays.items():
            np.testing.assert_array_equal(array[0], together[name][7 * number], err_msg=name)
    assert digest(stream(rows, threads=3).arrays(indices)) == digest(together)
    assert digest(stream(rows, seed=6).arrays(indices)) != digest(together)
    backwards = stream(rows).arrays(indices[::-1])
    assert digest({name: array[::-1] for name, array in backwards.items()}) == digest(together)


def test_an_epoch_holds_every_row_once_in_an_order_of_its_own(rows: Rows) -> None:
    data, n = stream(rows), len(rows)
    epochs, places = data.places(list(range(3 * n)))
    np.testing.assert_array_equal(epochs, np.repeat([0, 1, 2], n))
    orders = places.reshape(3, n)
    assert all(np.array_equal(np.sort(order), np.arange(n)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 3
    assert not data.is_finite()
    with pytest.raises(ValueError, match="no length"):
        wait(data.async_len())


def test_row_ids_name_what_is_in_an_example(rows: Rows) -> None:
    data = stream(rows)
    index = len(rows) + 4
    tokens = data.arrays([index])["targets"][0]
    segments = data.arrays([index])["segments"][0]
    names = data.row_id(index).split("+")
    assert len(names) == segments.max() + 1
    for segment, name in enumerate(names):
        found = rows.tokenizer.decode(tokens[segments == segment])
        task_id = name.split("@")[0]
        source: Any = rows.source
        material = source.store.material(source.store.task_ids.index(task_id))
        assert found.grid_shape == material.grid_shape
        np.testing.assert_array_equal(found.atomic_numbers, material.atomic_numbers)


def test_a_finite_stream_shows_every_row_once_with_fixed_masks(rows: Rows) -> None:
    data, n = stream(rows, finite=True), len(rows)
    assert data.is_finite()
    assert wait(data.async_len()) == n
    _, places = data.places(list(range(n)))
    np.testing.assert_array_equal(places, np.arange(n))
    everything = list(range(n))
    assert digest(data.arrays(everything)) == digest(stream(rows, finite=True).arrays(everything))
    part = stream(rows, finite=True, limit=9)
    _, chosen = part.places(list(range(9)))
    assert wait(part.async_len()) == 9
    assert len(set(chosen.tolist())) == 9
    assert chosen.max() > n // 2, "drawn from all"
    with pytest.raises(IndexError, match="example 9 of 9"):
        part.arrays([9])


def test_streams_check_what_they_are_given(rows: Rows) -> None:
    vocabulary = ModelVocabulary(rows.tokenizer)
    with pytest.raises(ValueError, match="512 positions, the rows 1024"):
        ExampleDataset(rows, ObjectiveConfig(), vocabulary, Axis("position", 512))
    other = open_rows(CASES["v2-lat"].on_the_fly(limit=2), SIZE)
    with pytest.raises(ValueError, match="not that of the rows"):
        ExampleDataset(rows, ObjectiveConfig(), ModelVocabulary(other.tokenizer), Axis("position", SIZE))
    with pytest.raises(ValueError, match=r"set data\.guess"):
        stream(other, "guess")


# --- through Levanter's loader --------------------------------------------------------------------------------

LOADED = """
import json, sys
sys.path[:0] = {path!r}
import numpy as np, jax, haliax as hax
from haliax import Axis
from haliax.partitioning import ResourceAxis
from jax.sharding import Mesh
from levanter.data.loader import DataLoader
import test_stream as t
from data_sets import CASES
from tomat.lm.data import open_rows

rows = open_rows(CASES["v3"].on_the_fly(pack=True, guess="slater"), t.SIZE)
data = t.stream(rows)
mesh = Mesh(np.array(jax.devices()).reshape(-1, 1), ("data", "model"))
loader = DataLoader(data, 8, mesh=mesh, axis_resources={{"batch": "data"}}, max_buffered_batches=1, fetch_batch_size=1)
out = {{"devices": len(jax.devices()), "batches": [], "local": []}}
steps = loader.iter_from_step(4)
for step in (4, 5):
    local = loader.local_data_indices_by_device_for_step(step)
    out["local"].append([list(local[device]) for device in jax.devices()])
    batch = next(steps)
    expected = data.arrays(range(8 * step, 8 * step + 8))
    for name in ("tokens", "targets", "values", "loss_weight", "pos_ids"):
        np.testing.assert_array_equal(np.asarray(getattr(batch, name).array), expected[name])
    np.testing.assert_array_equal(np.asarray(batch.attn_mask.segment_ids[0].array), expected["segments"])
    out["batches"].append(t.digest(expected))
    shards = batch.tokens.array.addressable_shards
    out["shards"] = [[shard.index[0].start, shard.index[0].stop] for shard in shards]
steps.close()
print(json.dumps(out))
"""


def loaded(devices: int) -> dict[str, Any]:
    """What the loader gives in another process with so many devices."""
    here = TESTS / "lm"
    program = LOADED.format(path=[str(here), str(here / "data"), str(TESTS)])
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout.splitlines()[-1]))


def test_four_devices_share_each_batch_without_overlap(rows: Rows) -> None:
    four = loaded(4)
    assert four["devices"] == 4
    for local in four["local"]:
        asked = Counter(index for part in local for index in part)
        assert asked == Counter(range(8)), "every index once"
    assert sorted(four["shards"]) == [[0, 2], [2, 4], [4, 6], [6, 8]]
    # Another process, from the same step: the same bytes.
    data = stream(rows)
    assert four["batches"] == [digest(data.arrays(range(8 * step, 8 * step + 8))) for step in (4, 5)]


def test_the_loader_resumes_at_any_step(rows: Rows) -> None:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
    loader = DataLoader(
        stream(rows),
        4,
        mesh=mesh,
        axis_resources={"batch": "data"},
        max_buffered_batches=1,
        fetch_batch_size=2,
    )
    steps = loader.iter_from_step(0)
    straight = [np.asarray(next(steps).tokens.array) for _ in range(6)]
    steps.close()
    resumed = loader.iter_from_step(4)
    for expected in straight[4:]:
        np.testing.assert_array_equal(np.asarray(next(resumed).tokens.array), expected)
    resumed.close()
    far = loader.iter_from_step(10**9)
    assert next(far).tokens.array.shape == (4, SIZE)
    far.close()


# --- packed sequences do not see each other -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["next_token", "masked"])
def test_sequences_of_a_row_do_not_see_each_other(kind: str) -> None:
    rows = open_rows(CASES["v3"].on_the_fly(pack=True, patch_size=3, limit=8), 256)
    data = stream(rows, kind)
    index = next(i for i in range(40) if data.row_id(i).count("+") == 1)
    (example,) = wait(data.get_batch([index]))
    segments = data.arrays([index])["segments"][0]
    assert set(segments.tolist()) == {-1, 0, 1}
    config = Qwen3Config(
        max_seq_len=256,
        hidden_dim=16,
        intermediate_dim=32,
        num_layers=1,
        num_heads=2,
        num_kv_heads=2,
        head_dim=8,
    )
    vocabulary = ModelVocabulary(rows.tokenizer)
    model = config.build(Axis("vocab", vocabulary.padded_size), key=jax.random.PRNGKey(0))

    def forward(example: DensityExample, tokens: hax.NamedArray) -> Any:
        return model.activations(tokens, example.attn_mask, pos_ids=example.pos_ids).array

    activations = hax.named_jit(forward)
    device = jax.tree.map(jnp.asarray, example)
    before = np.asarray(activations(device, device.tokens))
    for changed in (0, 1, -1):
        tokens = np.where(segments == changed, 1 + (example.tokens.array + 7) % 500, example.tokens.array)
        after = np.asarray(activations(device, hax.named(jnp.asarray(tokens), "position")))
        for segment in (0, 1):
            inside = segments == segment
            same = np.array_equal(after[inside], before[inside])
            assert same == (segment != changed), f"{changed} changed, {segment} looked at"
    # Positions start again: a sequence gives the same alone in a row.
    second = np.flatnonzero(segments == 1)
    assert example.pos_ids.array[second[0]] == 0
