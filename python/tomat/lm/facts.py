"""What training data say about grids and electrons: defaults of predictions; needs no JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tomat.lm.data.on_the_fly import DensitySource
from tomat.predict.predictor import TrainingFacts

if TYPE_CHECKING:
    from tomat.lm.data import DataConfig, Rows

__all__ = ["data_facts"]


def data_facts(rows: Rows, config: DataConfig) -> dict[str, Any]:
    """What predictions take from the training data, JSON.

    ``guess``: the starting density's name. Of densities also ``spacing`` and ``valence``, as
    :class:`tomat.predict.predictor.TrainingFacts` has them; rows of a dataset hold no whole grids.
    """
    facts: dict[str, Any] = {"guess": config.guess}
    source = rows.source
    if isinstance(source, DensitySource):
        store = source.store
        facts |= TrainingFacts.of(store.material(index) for index in range(len(store))).to_json()
    return facts
