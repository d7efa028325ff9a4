"""Training data on one core: examples per second from densities and from a dataset, against NumPy.

``numpy``: what one gets without compiled code of one's own: each row cut with ``np.take``, quantised with
``np.searchsorted``, its preamble put together in Python, arrays filled one by one. Both ways make the same examples
(checked). Then Levanter's own loader, on top of tomat's stream, and where its time goes. Times are CPU time of the one
thread that works, medians of rounds in turns, so that other work on the machine hardly counts.

    python benches/loader.py [--rounds 5] [--rows 256] [--materials 64] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import haliax as hax
import jax
import numpy as np
from levanter.data.loader import DataLoader, _stack_tree_on_host
from numpy.typing import NDArray

import tomat
from bars import Bars
from tomat.cli import tokenize_main
from tomat.lm.data import DataConfig, DensitySource, Rows, open_rows
from tomat.lm.data.shuffle import key_of, keys_of
from tomat.lm.objective import Objective, ObjectiveConfig
from tomat.lm.stream import ExampleDataset
from tomat.lm.vocabulary import ModelVocabulary

SIZE = 8192
GRID = (96, 108, 112)
N_ATOMS = 20
KINDS = tuple(Objective.get_known_choices())


def material(number: int) -> tomat.Material:
    """A smooth periodic density with exponential tails around the atoms, like a valence density."""
    rng = np.random.default_rng(number)
    positions = rng.random((N_ATOMS, 3))
    density = np.full(GRID, 1.0, dtype=np.float32)
    axes = [np.arange(n) / n for n in GRID]
    for x in positions[:6]:
        parts = [np.minimum(abs(a - p), 1 - abs(a - p)) ** 2 for a, p in zip(axes, x, strict=True)]
        squares = parts[0][:, None, None] + parts[1][None, :, None] + parts[2][None, None, :]
        density += (900.0 * np.exp(-20.0 * np.sqrt(squares))).astype(np.float32)
    numbers = rng.choice([3, 8, 12, 14, 22, 26, 34], N_ATOMS)
    return tomat.Material.of(f"m-{number}", density, "chgcar", np.diag([9.0, 10.0, 10.5]), numbers, positions)


def write(root: Path, materials: int) -> Path:
    """A ``rho_gga`` root of ``materials`` densities."""
    import zarr

    (root / "label").mkdir(parents=True)
    for number in range(materials):
        made = material(number)
        group = zarr.open_group(root / "label" / f"{made.task_id}.zarr", mode="w", zarr_format=3)
        group.attrs["structure"] = str(made.to_pymatgen().structure.to_json())
        group.attrs["metadata"] = json.dumps({"task_id": made.task_id})
        group.create_array("charge_density_total", data=made.density, chunks=GRID)
    return root


def numpy_examples(rows: Rows, indices: NDArray[np.int64]) -> list[dict[str, NDArray[Any]]]:
    """``next_token`` examples of rows of densities, one by one, without the core's encoder."""
    source = rows.source
    assert isinstance(source, DensitySource)
    tokenizer, codec = rows.tokenizer, rows.tokenizer.density_codec
    assert isinstance(codec, tomat.LloydMaxCodec)
    low, high = tokenizer.vocabulary.density_range
    boundaries, made = codec.boundaries, []
    for index, offset in zip(indices, source.offsets(0, indices), strict=True):
        known = source.store.material(int(source.materials[index]))
        shape = tokenizer.shape_for(len(known.atomic_numbers))
        cut = known.density
        for axis in range(3):
            cut = np.take(cut, np.arange(offset[axis], offset[axis] + shape[axis]), axis=axis, mode="wrap")
        values = cut.ravel()
        # The preamble, which takes the core a microsecond, is copied.
        tokens = np.zeros(SIZE, dtype=np.int32)
        n = tokenizer.length(len(known.atomic_numbers), shape)
        start = n - 2 - values.size
        tokens[:start] = _preamble(tokenizer, known, offset)[:start]
        tokens[start : n - 2] = low + np.searchsorted(
            boundaries, np.clip(values, codec.clip_min, codec.clip_max), side="right"
        )
        tokens[n - 2 : n] = [
            tokenizer.vocabulary.specials["[DENS_END]"],
            tokenizer.vocabulary.specials["[EOS]"],
        ]
        truth = np.zeros(SIZE, dtype=np.float32)
        truth[start : n - 2] = values
        segments = np.where(np.arange(SIZE) < n, 0, -1).astype(np.int32)
        targets = np.concatenate([tokens[1:], [0]]).astype(np.int32)
        asked = (targets >= low) & (targets < high)
        made.append(
            {
                "tokens": tokens,
                "targets": targets,
                "values": np.concatenate([truth[1:], [0]]).astype(np.float32),
                "loss_weight": asked.astype(np.float32),
                "pos_ids": np.where(segments == 0, np.arange(SIZE), 0).astype(np.int32),
                "segments": segments,
            }
        )
    return made


_PREAMBLES: dict[tuple[str, tuple[int, ...]], NDArray[np.int32]] = {}


def _preamble(
    tokenizer: tomat.PatchTokenizer, known: tomat.Material, offset: NDArray[np.int64]
) -> NDArray[np.int32]:
    key = (known.task_id, tuple(offset.tolist()))
    if key not in _PREAMBLES:  # filled before anything is timed
        _PREAMBLES[key] = tokenizer.encode_material(known, offset[None])[0]
    return _PREAMBLES[key]


def wait[T](work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("it waits for something")


def race(ways: dict[str, Callable[[], object]], rows: int, rounds: int) -> dict[str, float]:
    """Million tokens per CPU second of each implementation: medians over alternating rounds."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = time.thread_time()
            way()
            times[name].append(time.thread_time() - start)
    return {name: rows * SIZE / statistics.median(spent[1:]) / 1e6 for name, spent in times.items()}


def check(rows: Rows, indices: NDArray[np.int64]) -> None:
    """Check that both implementations make the same examples."""
    vocabulary = ModelVocabulary(rows.tokenizer)
    batch = rows.rows(0, indices)
    ours = ObjectiveConfig("next_token").build().examples(batch, vocabulary, keys_of(0, indices))
    for number, theirs in enumerate(numpy_examples(rows, indices)):
        for name, array in theirs.items():
            np.testing.assert_array_equal(array, ours[name][number], err_msg=name)


def sources(rows: Rows, stored: Rows, count: int, rounds: int) -> dict[str, float]:
    """The rate of ``get_batch`` from each source and for each objective, and of NumPy."""
    vocabulary, axis = ModelVocabulary(rows.tokenizer), hax.Axis("position", SIZE)
    order = ExampleDataset(rows, ObjectiveConfig("next_token"), vocabulary, axis).places(range(count))[1]
    check(rows, order[:8])
    numpy_examples(rows, order)
    ways: dict[str, Callable[[], object]] = {"numpy, next_token": lambda: numpy_examples(rows, order)}
    for name, data in (("densities", rows), ("dataset", stored)):
        for kind in KINDS:
            stream = ExampleDataset(data, ObjectiveConfig(kind), vocabulary, axis)
            ways[f"{name}, {kind}"] = lambda stream=stream: wait(stream.get_batch(range(count)))  # type: ignore[misc]
    return race(ways, count, rounds)


def parts(rows: Rows, count: int, rounds: int) -> dict[str, float]:
    """The time of each part of making ``masked`` examples of densities."""
    vocabulary, axis = ModelVocabulary(rows.tokenizer), hax.Axis("position", SIZE)
    stream = ExampleDataset(rows, ObjectiveConfig("masked"), vocabulary, axis)
    order = stream.places(range(count))[1]
    # The promolecule is for other objectives.
    batch, keys = replace(rows.rows(0, order[:16]), guess=None), keys_of(key_of(0), order[:16])
    arrays = {
        "tokens": np.empty_like(batch.tokens),
        "targets": batch.tokens,
        "values": batch.values,
        "loss_weight": batch.weight,
        "pos_ids": batch.positions,
        "segments": batch.segments,
    }
    objective = ObjectiveConfig("masked").build()

    def write() -> None:
        for block in blocks:
            rows.write(0, block, batch)

    def ask() -> None:
        for _ in blocks:
            objective.ask(arrays, None, vocabulary, keys)

    blocks = [order[start : start + 16] for start in range(0, count, 16)]
    zeros = np.zeros(16, dtype=np.int64)
    examples = wait(stream.get_batch(range(count)))
    return race(
        {
            "order": lambda: stream.places(range(count)),
            "cut, quantise, lay out (core)": lambda: [
                rows.source.fill(0, block, np.arange(16), zeros, batch) for block in blocks
            ],
            "rows (with the core)": write,
            "objective": ask,
            "all arrays": lambda: stream.arrays(range(count)),
            "get_batch": lambda: wait(stream.get_batch(range(count))),
            "stacking (Levanter)": lambda: _stack_tree_on_host("batch", examples),
        },
        count,
        rounds,
    )


def loader(rows: Rows, batch: int, steps: int) -> dict[str, float]:
    """End to end through Levanter's loader on this thread: CPU and wall time."""
    vocabulary, axis = ModelVocabulary(rows.tokenizer), hax.Axis("position", SIZE)
    stream = ExampleDataset(rows, ObjectiveConfig("masked"), vocabulary, axis)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
    found = DataLoader(
        stream, batch, mesh=mesh, axis_resources={"batch": "data"}, max_buffered_batches=0, fetch_batch_size=1
    )
    batches = found.iter_from_step(0)
    next(batches)
    wall, spent = time.perf_counter(), time.process_time()
    for _ in range(steps):
        np.asarray(next(batches).tokens.array)
    tokens = batch * steps * SIZE / 1e6
    result = {
        "CPU time": tokens / (time.process_time() - spent),
        "wall clock": tokens / (time.perf_counter() - wall),
    }
    batches.close()
    return result


def main() -> None:
    """Print tables, and optionally write them as JSON."""
    options = argparse.ArgumentParser(description="Examples a second of the training data.")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--rows", type=int, default=256)
    options.add_argument("--materials", type=int, default=64)
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    with TemporaryDirectory() as folder:
        root = write(Path(folder) / "root", chosen.materials)
        start = time.perf_counter()
        # The densities are made up: a promolecule of any kind costs the same time.
        common: dict[str, Any] = {"cache": f"{folder}/cache", "guess": "qe-sg15", "max_guess_nmae": 100}
        rows = open_rows(DataConfig(densities=(str(root),), **common), SIZE)
        built = time.perf_counter() - start
        import sys

        command = ["tomat-tokenize", str(root), "--out", f"{folder}/set", "--patches-per-material", "8"]
        with mock.patch.object(sys, "argv", command), contextlib.suppress(SystemExit):
            tokenize_main()
        stored = open_rows(DataConfig(path=f"{folder}/set", **common), SIZE)
        results: dict[str, dict[str, float]] = {
            "get_batch, million tokens a second and core": sources(rows, stored, chosen.rows, chosen.rounds),
            "parts of densities, masked": parts(rows, chosen.rows, chosen.rounds),
            "Levanter's loader, batches of 32, densities, masked": loader(
                rows, 32, max(chosen.rows // 32, 2)
            ),
        }
        for title, table in results.items():
            print(f"\n{title}")
            for name, rate in table.items():
                print(f"  {name:34}{rate:8.1f} M tokens/s{SIZE / rate:9.0f} us a row")
        table = results["get_batch, million tokens a second and core"]
        print(f"\ntomat / numpy: {table['densities, next_token'] / table['numpy, next_token']:.1f}")
        print(f"store of {chosen.materials} materials with guesses: {built:.1f} s")
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1))
    bars = Bars()
    unit = "million tokens a CPU second"
    through = results["Levanter's loader, batches of 32, densities, masked"]["CPU time"]
    bars.at_least("loader, from densities, next_token", 60, table["densities, next_token"], unit)
    bars.at_least("loader, through Levanter's, masked", 30, through, unit)
    bars.finish()


if __name__ == "__main__":
    main()
