"""Transformers that see space, small enough for tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import haliax as hax

import tiny
from tomat.lm.config import TrainConfig
from tomat.lm.data.config import DataConfig
from tomat.lm.data.on_the_fly import DensitySource
from tomat.lm.data.opening import open_rows
from tomat.lm.field.config import FieldShape
from tomat.lm.model.presets import PRESETS
from tomat.lm.objective import ObjectiveConfig
from tomat.lm.spatial.rows import SpatialRows
from tomat.lm.stream import ExampleDataset
from tomat.lm.vocabulary import ModelVocabulary

#: Small eyes that see sums of all l, and the length of the rows that :func:`dataset` gives them.
EYES = FieldShape(
    radial=8, state=12, channels=(8, 6, 5, 4), embedding=16, message=16, mlp=(24, 20), descriptors=True
)
ROW = 128

#: Both options, with eyes of some thousand parameters.
POSITIONS = ("--model.positions", "cartesian")
FIELD = (
    "--model.field.tokens=true",
    "--model.field.radial=8",
    "--model.field.channels=[8,4]",
    "--model.field.state=8",
    "--model.field.embedding=8",
    "--model.field.message=8",
    "--model.field.mlp=[12]",
    "--model.field.rounds=1",
)


def config(folder: Path, *arguments: str, kind: str = "guess", steps: int = 4) -> TrainConfig:
    """A run with both options; ``arguments`` as on the command line."""
    return tiny.config(folder, *POSITIONS, *FIELD, *arguments, kind=kind, steps=steps)


def data() -> DataConfig:
    """Rows of four crystals."""
    return DataConfig(
        densities=(str(tiny.DATA),),
        split="train",
        limit=4,
        codec="l1-1k-e_per_A3",
        patch_size=3,
        patches_per_material=2,
        guess="qe-sg15",
    )


def dataset(kind: str = "guess", *, turn: int | None = None, finite: bool = True) -> ExampleDataset:
    """Examples of these rows with their space."""
    rows = open_rows(data(), ROW)
    assert isinstance(rows.source, DensitySource)
    vocabulary = ModelVocabulary(rows.tokenizer)
    shape = dataclasses.replace(PRESETS["tiny"], seq_len=ROW, positions="cartesian", field=EYES)
    space = SpatialRows(rows, rows.source, shape, vocabulary, turn=turn)
    Pos = hax.Axis("position", ROW)
    return ExampleDataset(rows, ObjectiveConfig(kind), vocabulary, Pos, finite=finite, space=space, seed=3)
