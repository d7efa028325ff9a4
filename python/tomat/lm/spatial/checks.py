"""Which runs can have positions in space or the field's eyes, and the space of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tomat.lm.data.on_the_fly import DensitySource
from tomat.lm.spatial.rows import SpatialRows

if TYPE_CHECKING:
    from tomat.lm.config import TrainConfig
    from tomat.lm.data.rows import Rows
    from tomat.lm.vocabulary import ModelVocabulary


def check_spatial(config: TrainConfig) -> None:
    """Check that a run of a model with positions in space or the field's eyes has what these need.

    Raises:
        ValueError: it has not; the message names the field.
    """
    shape = config.model.shape()
    if not shape.spatial:
        return
    asked = [
        name
        for name, there in (("positions: cartesian", shape.cartesian), ("field: true", shape.field))
        if there
    ]
    what = " and ".join(f"model.{name}" for name in asked)
    if config.objective.build().causal:
        raise ValueError(
            f"objective.kind = {config.objective.kind} predicts token after token, through a cache of positions in the "
            f"sequence, and is not to be told what follows: give {what} to the objectives guess and masked"
        )
    for name, part in (("data", config.data), ("validation", config.validation)):
        if part is None:
            continue
        if part.path is not None:
            raise ValueError(
                f"{name}.path: exact lattices and positions are needed for {what}, and a dataset of rows has its "
                f"patches alone; give the whole densities as {name}.densities"
            )
        if part.pack:
            raise ValueError(f"{name}.pack: rows of one patch each are needed for {what}; leave it out")
        if shape.field is not None and part.guess is None:
            raise ValueError(
                f"{name}.guess: model.field: true sees each atom's share of a promolecule; set it to fit, or to one"
            )


def space_of(
    config: TrainConfig, rows: Rows, vocabulary: ModelVocabulary, *, turn: int | None = None
) -> SpatialRows | None:
    """The space of a run's rows; None for a model to which it does not matter.

    Args:
        config: of the run.
        rows: of its data.
        vocabulary: of its model.
        turn: as for :class:`tomat.lm.spatial.rows.SpatialRows`.
    """
    shape, source = config.model.shape(), rows.source
    if not shape.spatial or not isinstance(source, DensitySource):
        return None
    return SpatialRows(rows, source, shape, vocabulary, turn=turn if shape.cartesian else None)
