"""What training data say about grids and electrons: defaults of predictions; needs no JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tomat.lm.data.on_the_fly import DensitySource
from tomat.predict.grid import mean_spacing
from tomat.predict.predictor import TrainingFacts
from tomat.promolecule import valence_of

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
        # From what the store knows: the densities themselves are not read again.
        store = source.store
        spacing = mean_spacing(zip(store.lattice, store.grid, strict=True))
        atoms = [store.atomic_numbers(index) for index in range(len(store))]
        valence = valence_of(zip(atoms, store.n_electrons.tolist(), strict=True))
        facts |= TrainingFacts(spacing, valence).to_json()
    return facts
