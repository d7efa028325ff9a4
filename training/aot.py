"""Compile the training step for TPUs without having any, and record the memory it needs on each chip.

libtpu compiles for a named topology on any CPU: the step below is the trainer's own (Levanter's ``Trainer``: forward,
backward, optimizer), its arguments are shapes with shardings, and nothing is ever run. What comes out is whether the
step fits, and how much of the memory of a chip it takes at its peak.

    pip install 'tomat[tpu-aot]'
    python training/aot.py --preset 200M --topology v6e:2x4 --batch 128 --micro 4 --out aot.json

``--out`` gathers results: a run that is in the file is not compiled again. ``--markdown aot.json`` prints the table.
``--runs tiny`` is a small step in a minute or two (`make aot`), ``--runs table`` all of docs/tpu.md (`make aot
TABLE=1`, hours).
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

# Before JAX is imported: no TPU is looked for here, and several compilations may share a machine.
if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
os.environ.setdefault("TPU_LOG_DIR", str(Path(tempfile.gettempdir()) / "tpu_logs"))

import equinox as eqx
import haliax as hax
import haliax.partitioning as hp
import jax
import jax.numpy as jnp
import jmp
from jax.experimental import mesh_utils, topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from levanter.layers.attention import AttentionMask
from levanter.optim.config import AdamConfig
from levanter.tracker import NoopConfig
from levanter.trainer import Trainer, TrainerConfig
from levanter.trainer_state import TrainerState

from tomat.lm.example import DensityExample
from tomat.lm.model.flops import step_flops
from tomat.lm.model.presets import ModelConfig
from tomat.lm.model.qwen import build, levanter_config
from tomat.lm.vocabulary import ModelVocabulary
from tomat.tokenizer import PatchTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    type Loss = Callable[..., Any]

GIB = 2**30
#: Bytes of HBM that a program may use on a v6e chip: 32 GiB less the runtime's share.
USABLE_HBM = 31.25 * GIB
#: Exit code if the step is too large for a chip.
DOES_NOT_FIT = 3


@dataclass(frozen=True)
class Run:
    """A training step to compile.

    Attributes:
        preset: a model preset.
        topology: libtpu's name, such as ``v6e:2x4`` (chips along each axis).
        batch: rows per step, over all chips.
        micro: rows per chip at a time; -1 is its whole share at once.
        objective: ``causal`` or ``bidirectional`` attention.
        checkpointing: ``model.gradient_checkpointing``.
        loss: ``density`` (tomat's, blockwise over the density slice) or ``levanter`` (its own cross-entropy).
        codec: density codec, which fixes the vocabulary.
        seq_len: tokens a row; the preset's where None.
        sequences_per_row: packed sequences a row.
    """

    preset: str = "200M"
    topology: str = "v6e:2x4"
    batch: int = 128
    micro: int = -1
    objective: str = "causal"
    checkpointing: str = "full"
    loss: str = "density"
    codec: str = "l1-16k-e_per_A3-1e4"
    seq_len: int | None = None
    sequences_per_row: int = 1

    @property
    def key(self) -> str:
        """A name for the file of results."""
        return " ".join(f"{name}={value}" for name, value in dataclasses.asdict(self).items())


def _table() -> tuple[Run, ...]:
    """The runs of docs/tpu.md, in its order."""
    eight, sixteen = "v6e:2x4", "v6e:4x4"
    shapes = (
        ("30M", eight, 128, 16, "full"),
        ("30M", eight, 8, 1, "off"),
        ("30M", eight, 128, 4, "off"),
        ("30M", sixteen, 256, 16, "full"),
        ("200M", eight, 128, 16, "full"),
        ("200M", eight, 128, 4, "full"),
        ("200M", eight, 8, 1, "off"),
        ("200M", eight, 128, 2, "off"),
        ("200M", eight, 128, 4, "full", "bidirectional"),
        ("200M", sixteen, 256, 4, "full"),
        ("1B", eight, 128, 16, "full"),
        ("1B", eight, 128, 4, "full"),
        ("1B", eight, 128, 1, "off"),
        ("1B", sixteen, 256, 4, "full"),
    )
    return tuple(
        Run(preset, topology, batch, micro, objective[0] if objective else "causal", checkpointing)
        for preset, topology, batch, micro, checkpointing, *objective in shapes
    )


#: What ``--runs`` names: a step that compiles in a minute or two, and the table of docs/tpu.md.
RUNS = {
    "tiny": (
        Run(
            "tiny",
            "v6e:2x2",
            batch=8,
            micro=1,
            objective="bidirectional",
            codec="l1-1k-e_per_A3-1e4",
            seq_len=256,
        ),
    ),
    "table": _table(),
}


@dataclass(frozen=True)
class Compiled:
    """Result of a compilation; bytes are per chip.

    Attributes:
        run: the compiled step.
        chips: chips of the topology.
        parameters: parameters of the model.
        fits: whether it compiled; the compiler rejects steps that do not fit.
        error: first line of the error if it did not.
        peak_bytes: peak memory.
        argument_bytes: parameters, optimizer state and the batch.
        temporary_bytes: everything else, as the compiler counts it.
        model_flops: of a step, analytic; see :mod:`tomat.lm.model.flops`.
        hardware_flops: model FLOPs plus recomputation.
        splash_kernels: calls of kernels in the program (scanned layers count once).
        lower_seconds: tracing and lowering.
        compile_seconds: compiling.
    """

    run: Run
    chips: int
    parameters: int
    fits: bool
    model_flops: float
    hardware_flops: float
    splash_kernels: int = 0
    error: str = ""
    peak_bytes: int = 0
    argument_bytes: int = 0
    temporary_bytes: int = 0
    lower_seconds: float = 0.0
    compile_seconds: float = 0.0


@dataclass
class TopologyTrainerConfig(TrainerConfig):
    """Levanter's trainer on the chips of a topology instead of this machine's devices."""

    devices: tuple[Any, ...] = field(default_factory=tuple)

    @property
    def num_slices(self) -> int:
        """One slice: its chips are joined by ICI."""
        return 1

    @property
    def data_axis_size(self) -> int:
        """Every chip takes part in data parallelism."""
        return len(self.devices)

    @property
    def device_mesh(self) -> Mesh:
        """The mesh that Levanter makes: data, replica and model within the slice, replicas across slices."""
        chips = mesh_utils.create_device_mesh(
            (len(self.devices), 1, 1, 1), devices=list(self.devices), allow_split_physical_axes=True
        )
        return Mesh(chips, ("data", "replica", "model", "replica_dcn"))


def topology_devices(name: str) -> tuple[Any, ...]:
    """The chips of a topology such as ``v6e:2x2``.

    Raises:
        RuntimeError: libtpu is not installed or knows no such topology.
    """
    return tuple(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)


def load_loss(name: str, vocabulary: ModelVocabulary) -> Loss:
    """The trainer's loss by name: ``density`` or ``levanter``."""
    if name == "density":
        losses = importlib.import_module("tomat.lm.loss")
        return cast("Loss", losses.DensityLoss(losses.LossConfig(), vocabulary))
    if name == "levanter":
        return _levanter_loss
    raise ValueError(f"loss {name!r} is not known; one of density, levanter")


def _levanter_loss(
    model: Any, example: Any, *, key: Any = None, reduction: Any = hax.mean, reduction_axis: Any = None
) -> Any:
    return model.compute_next_token_loss(example, key=key, reduction=reduction, reduction_axis=reduction_axis)


def compile_step(run: Run, loss: Loss | None = None) -> Compiled:
    """Compile the training step of ``run``.

    Args:
        run: what to compile.
        loss: as the trainer takes it; the one ``run.loss`` names where None.

    Raises:
        RuntimeError: no libtpu.
        ValueError: a model or a batch that cannot be.
    """
    devices = topology_devices(run.topology)
    vocabulary = ModelVocabulary(PatchTokenizer("v3", run.codec))
    config = ModelConfig(
        preset=run.preset,
        seq_len=run.seq_len,
        gradient_checkpointing=run.checkpointing,
        attention="splash",
    )
    shape = config.shape()
    density = vocabulary.density
    flops = step_flops(shape, run.batch, density.stop - density.start, causal=run.objective == "causal")
    trainer = _trainer(run, devices, loss or load_loss(run.loss, vocabulary))
    model = levanter_config(
        config,
        platform="tpu",
        bidirectional=run.objective == "bidirectional",
        sequences_per_row=run.sequences_per_row,
    )
    started = time.monotonic()
    with jax.sharding.use_abstract_mesh(trainer.config.device_mesh.abstract_mesh):
        state, example = _arguments(trainer, model, vocabulary, run)
        lowered = _lower(trainer, state, example)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.model))
    result = Compiled(
        run=run,
        chips=len(devices),
        parameters=parameters,
        fits=False,
        model_flops=flops.model,
        hardware_flops=flops.hardware,
        splash_kernels=lowered.as_text().count("tpu_custom_call"),
        lower_seconds=time.monotonic() - started,
    )
    return _compile(lowered, result)


def _trainer(run: Run, devices: tuple[Any, ...], loss: Loss) -> Trainer:
    per_device = run.micro if run.micro > 0 else -1
    share = len(devices) * max(per_device, 1)
    if run.batch % share:
        raise ValueError(f"batch {run.batch} is not a multiple of {share}: chips x rows a chip at a time")
    config = TopologyTrainerConfig(
        devices=devices,
        mp=jmp.get_policy("p=f32,c=bf16"),
        train_batch_size=run.batch,
        per_device_parallelism=per_device,
        tracker=NoopConfig(),
        id="aot",
        require_accelerator=False,
        num_train_steps=1000,
        log_jaxprs=False,
        log_xla_hlo=False,
    )
    optimizer = AdamConfig(learning_rate=3e-4, weight_decay=0.1, max_grad_norm=1.0).build(1000)
    return Trainer(config, optimizer, loss, add_default_hooks=False)


def _arguments(trainer: Trainer, model: Any, vocabulary: ModelVocabulary, run: Run) -> tuple[Any, Any]:
    """Shapes and shardings of the trainer's state and of a batch."""

    def init(key: jax.Array) -> Any:
        return TrainerState.init(
            trainer.optimizer, build(model, vocabulary, key), key=key, is_trainable=True, mp=trainer.mp
        )

    batch = hax.Axis("batch", run.batch)
    position = model.max_Pos

    def example() -> DensityExample:
        whole = hax.zeros((batch, position), dtype=jnp.int32)
        mask = AttentionMask.causal() if run.objective == "causal" else AttentionMask()
        mask = mask.with_segment_ids(whole)
        real = hax.zeros((batch, position), dtype=jnp.float32)
        return DensityExample(
            tokens=whole, loss_weight=real, attn_mask=mask, targets=whole, values=real, pos_ids=whole
        )

    mesh = trainer.config.device_mesh
    state = eqx.filter_eval_shape(init, _shape((2,), jnp.uint32))
    return (
        _sharded(state, mesh, trainer.parameter_axis_mapping),
        _sharded(eqx.filter_eval_shape(example), mesh, trainer.compute_axis_mapping),
    )


def _sharded(tree: Any, mesh: Mesh, mapping: Any) -> Any:
    """The shapes of ``tree`` with the shardings of their named axes."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, hax.NamedArray):
            spec = hp.pspec_for_axis(leaf.axes, mapping)
            sharding = NamedSharding(mesh, spec)
            return hax.NamedArray(_shape(leaf.array.shape, leaf.array.dtype, sharding), leaf.axes)
        if isinstance(leaf, jax.ShapeDtypeStruct):
            everywhere = NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call]
            return _shape(leaf.shape, leaf.dtype, everywhere)
        return leaf

    return jax.tree.map(one, tree, is_leaf=lambda leaf: isinstance(leaf, hax.NamedArray))


def _shape(shape: tuple[int, ...], dtype: Any, sharding: Any = None) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)  # type: ignore[no-untyped-call]


def _lower(trainer: Trainer, state: Any, example: Any) -> Any:
    """Levanter's step, jitted as the trainer jits it: the state donated, parameters sharded in and out.

    ``named_jit`` tells arrays from other leaves by their type and would take shapes for constants; here they are
    parted before.
    """

    def is_shape(leaf: Any) -> bool:
        return isinstance(leaf, jax.ShapeDtypeStruct)

    arrays, rest = eqx.partition((state, example), is_shape)

    def step(state_arrays: Any, example_arrays: Any) -> Any:
        full_state, full_example = eqx.combine((state_arrays, example_arrays), rest)
        with hax.axis_mapping(trainer.parameter_axis_mapping):
            result = trainer._train_step(full_state, (full_example,), {}, _no_hooks=True)
        return eqx.filter(result, eqx.is_array)

    return jax.jit(step, donate_argnums=0).lower(*arrays)


def _compile(lowered: Any, result: Compiled) -> Compiled:
    started = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        text = " ".join(str(error).split())
        if "RESOURCE_EXHAUSTED" not in text and "memory" not in text:
            raise
        return dataclasses.replace(result, error=text[:400], compile_seconds=time.monotonic() - started)
    memory = compiled.memory_analysis()
    return dataclasses.replace(
        result,
        fits=memory.peak_memory_in_bytes <= USABLE_HBM,
        peak_bytes=memory.peak_memory_in_bytes,
        argument_bytes=memory.argument_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        compile_seconds=time.monotonic() - started,
    )


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """The results as a table."""
    lines = [
        "| model | topology | attention | rows per step | rows per chip at a time | checkpointing | "
        "peak GiB per chip | state GiB per chip | model TFLOP per chip and step | seconds at 45 % MFU | fits |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        run = result["run"]
        share = run["batch"] // result["chips"]
        flops = result["model_flops"] / result["chips"]
        peak, state = (
            f"{result[name] / GIB:.{digits}f}" if result[name] else "-"
            for name, digits in (("peak_bytes", 1), ("argument_bytes", 2))
        )
        lines.append(
            f"| {run['preset']} | {run['topology']} | {run['objective']} | {run['batch']} | "
            f"{run['micro'] if run['micro'] > 0 else share} | {run['checkpointing']} | {peak} | "
            f"{state} | {flops / 1e12:.0f} | {flops / (0.45 * 918e12):.2f} | "
            f"{'yes' if result['fits'] else 'no: ' + _needed(result['error'])} |"
        )
    return "\n".join(lines)


def _needed(error: str) -> str:
    """The memory needed, from the compiler's message."""
    found = re.search(r"Used ([\d.]+)G|\(([\d.]+)G\) exceeds", error)
    return f"{found[1] or found[2]} GiB needed" if found else error[:60]


def _options(run: Run, out: Path) -> list[str]:
    """The command line that compiles ``run``."""
    given = {name: value for name, value in dataclasses.asdict(run).items() if value is not None}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    return [*words, "--out", str(out)]


def _known(out: Path | None) -> dict[str, Any]:
    """Results so far, by the key of their run."""
    return dict(json.loads(out.read_text())) if out is not None and out.exists() else {}


def compile_all(runs: Sequence[Run], out: Path) -> None:
    """Compile the runs that are not in ``out`` yet, each in its own process, and print the table of ``runs``.

    Raises:
        SystemExit: a compilation failed for another reason than memory; what was compiled is in ``out``.
    """
    for run in runs:
        if run.key in _known(out):
            continue
        print(f"compiling {run.key}", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, *_options(run, out)]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        if done.returncode not in (0, DOES_NOT_FIT):
            raise SystemExit(f"{run.key}: not compiled, exit code {done.returncode}; results so far: {out}")
    known = _known(out)
    print(markdown([known[run.key] for run in runs]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile one run or a named set of runs, or print the table of results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for item in dataclasses.fields(Run):
        kind = int if item.name in ("batch", "micro", "seq_len", "sequences_per_row") else str
        parser.add_argument("--" + item.name.replace("_", "-"), type=kind, default=item.default)
    parser.add_argument("--out", type=Path, help="JSON file that gathers results")
    parser.add_argument("--markdown", type=Path, help="print the table of a file of results, compile nothing")
    parser.add_argument(
        "--runs", choices=sorted(RUNS), help="compile these into --out, and print their table"
    )
    given = vars(parser.parse_args(arguments))
    out, table, runs = given.pop("out"), given.pop("markdown"), given.pop("runs")
    if table is not None:
        print(markdown(list(json.loads(table.read_text()).values())))
        return
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    if runs is not None:
        if out is None:
            parser.error("--runs needs --out FILE")
        compile_all(RUNS[runs], out)
        return
    run = Run(**given)
    known = _known(out)
    if run.key not in known:
        known[run.key] = dataclasses.asdict(compile_step(run))
        if out is not None:
            out.write_text(json.dumps(known, indent=1) + "\n")
    print(json.dumps(known[run.key], indent=1))
    sys.exit(0 if known[run.key]["fits"] else DOES_NOT_FIT)


if __name__ == "__main__":
    main()
