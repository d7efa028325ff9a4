"""Compile the training step of a field model for TPUs without having any; see :mod:`training.aot`.

    python -m training.aot_field                        # the table of docs/tpu.md, some minutes
    python -m training.aot_field --preset field-tiny --topology v6e:2x2 --batch 8

Prints one JSON object a run. A row is what one chip gets at a time: up to ``sites_per_row`` atoms of
``crystals_per_row`` crystals with ``voxels_per_crystal`` voxels each.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
from levanter.trainer_state import TrainerState

from tomat.codec.relative import RelativeCodec
from tomat.lm.field.config import FIELD_PRESETS
from tomat.lm.field.elements import N_FEATURES
from tomat.lm.field.example import FieldExample
from tomat.lm.field.flops import row_flops
from tomat.lm.field.levels import Levels
from tomat.lm.field.loss import FieldLoss
from tomat.lm.field.network import FieldModel
from tomat.lm.loss import LossConfig
from training import aot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.lm.field.config import FieldShape

#: Presets, topologies and rows per step of the table.
TABLE = (
    ("field-small", "v6e:2x2", 32),
    *(("field-base", f"v6e:{size}", 64) for size in ("2x2", "2x4", "4x4")),
)
#: Atoms of the largest crystal of a row.
ATOMS = 128


def compile_field(run: aot.Run, atoms: int = ATOMS) -> aot.Compiled:
    """Compile the training step of a field model.

    Args:
        run: preset, topology and rows; the rest does not apply.
        atoms: of the largest crystal, at most the ``sites_per_row`` of the preset.

    Raises:
        KeyError: an unknown preset.
        RuntimeError: no libtpu.
        ValueError: the rows do not divide over the chips.
    """
    shape = FIELD_PRESETS[run.preset]
    atoms = min(atoms, shape.sites_per_row)
    codec = RelativeCodec.load("rel-256")
    devices = aot.topology_devices(run.topology)
    trainer = aot._trainer(
        run, devices, FieldLoss(LossConfig(terms={"crps": 1.0, "kl_gaussian": 0.02}), codec)
    )

    def init(key: jax.Array) -> Any:
        model = FieldModel.init(key, shape, Levels.of(codec))
        return TrainerState.init(trainer.optimizer, model, key=key, is_trainable=True, mp=trainer.mp)

    started, mesh = time.monotonic(), trainer.config.device_mesh
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        state = aot._sharded(
            eqx.filter_eval_shape(init, aot._shape((2,), jnp.uint32)), mesh, trainer.parameter_axis_mapping
        )
        example = aot._sharded(
            eqx.filter_eval_shape(lambda: example(shape, run.batch, atoms)),
            mesh,
            trainer.compute_axis_mapping,
        )
        lowered = aot._lower(trainer, state, example)
    flops = run.batch * row_flops(shape, atoms, len(codec.levels))
    result = aot.Compiled(
        run=run,
        chips=len(devices),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.model) if hasattr(leaf, "size")),
        fits=False,
        model_flops=flops,
        hardware_flops=flops,
        splash_kernels=0,
        lower_seconds=time.monotonic() - started,
    )
    return aot._compile(lowered, result)


def example(shape: FieldShape, rows: int, atoms: int) -> FieldExample:
    """A batch of zeros."""
    batch, site = hax.Axis("batch", rows), hax.Axis("site", shape.sites_per_row)
    crystal, voxel = hax.Axis("crystal", shape.crystals_per_row), hax.Axis("voxel", shape.voxels_per_crystal)
    function = hax.Axis("function", shape.functions)

    def sums(name: str, points: int) -> tuple[hax.NamedArray, ...]:
        # Of each angular momentum, from 0 up.
        axes = [hax.Axis(f"{name}_{i}", points * (2 * i + 1)) for i in range(shape.l_max + 1)]
        return tuple(hax.zeros((batch, site, axis, function)) for axis in axes)

    of_voxels = hax.zeros((batch, crystal, voxel))
    return FieldExample(
        features=hax.zeros((batch, site, hax.Axis("feature", N_FEATURES + shape.functions * shape.fixed))),
        crystal=hax.zeros((batch, site), dtype=jnp.int32),
        place=hax.zeros((batch, site), dtype=jnp.int32),
        atoms=sums("atoms", atoms),
        voxels=sums("voxels", shape.voxels_per_crystal),
        guess=of_voxels,
        value=of_voxels,
        weight=of_voxels,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=sorted(FIELD_PRESETS))
    parser.add_argument("--topology", default="v6e:2x2", help="chips along each axis")
    parser.add_argument("--batch", type=int, default=8, help="rows per step, over all chips")
    parser.add_argument("--atoms", type=int, default=ATOMS, help="of the largest crystal")
    given = parser.parse_args(arguments)
    runs = TABLE if given.preset is None else ((given.preset, given.topology, given.batch),)
    for preset, topology, batch in runs:
        done = compile_field(aot.Run(preset, topology, batch), given.atoms)
        print(
            json.dumps(
                {
                    "preset": preset,
                    "topology": topology,
                    "chips": done.chips,
                    "rows": batch,
                    "parameters": done.parameters,
                    "fits": done.fits,
                    "peak_gib": round((done.peak_bytes or 0) / aot.GIB, 2),
                    "state_and_batch_gib": round((done.argument_bytes or 0) / aot.GIB, 3),
                    "tflop_per_chip": round(done.model_flops / done.chips / 1e12, 3),
                    "compile_seconds": round(done.compile_seconds),
                    **({"error": done.error} if done.error else {}),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
