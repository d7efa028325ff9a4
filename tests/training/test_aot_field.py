"""Training steps of field models, compiled for TPUs on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import pytest

pytest.importorskip("levanter")
import tiny_field
from tomat.lm.field.task import FieldTask
from training import aot, aot_field

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_compiled_is_a_row_of_training(tmp_path: Path) -> None:
    task = FieldTask.open(tiny_field.config(tmp_path))
    row = task.examples().row(0)
    atoms = row.atoms[0].array.shape[1]
    zeros = jax.eval_shape(lambda: aot_field.example(task.shape, 3, atoms))
    found = {name: jax.tree.leaves(value) for name, value in vars(zeros).items()}
    for name, value in vars(row).items():
        for real, zero in zip(jax.tree.leaves(value), found[name], strict=True):
            assert (3, *real.shape) == zero.shape, name
            assert real.dtype == zero.dtype, name


def test_an_unknown_topology_is_an_error() -> None:
    pytest.importorskip("libtpu")
    with pytest.raises(Exception, match=r"v6e:7x9|topology"):
        aot_field.compile_field(aot.Run("field-tiny", "v6e:7x9", 63))
