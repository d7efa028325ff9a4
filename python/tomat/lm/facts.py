"""What training data say about grids and electrons: defaults of predictions; needs no JAX."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from tomat.lm.data.on_the_fly import DensitySource
from tomat.prediction.grid import mean_spacing
from tomat.prediction.predictor import TrainingFacts
from tomat.promolecule import Promolecule
from tomat.valence import Valence, fit_valence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tomat.lm.data import DataConfig, Rows


def data_facts(rows: Rows, config: DataConfig, valence: Valence | None = None) -> dict[str, Any]:
    """What predictions take from the training data, JSON.

    ``guess``: the starting density's name; ``promolecule``: the whole of it, where it is one. ``elements``: atomic
    numbers met. Of densities also ``spacing``, ``valence`` and ``disputed``, as
    :class:`tomat.prediction.predictor.TrainingFacts` has them; rows of a dataset hold no whole grids. ``valence`` is
    what :func:`training_valence` gave, where it is at hand.
    """
    source = rows.source
    facts: dict[str, Any] = {"guess": config.guess}
    if source.starting is not None and source.starting.source is not None:
        facts["promolecule"] = base64.b64encode(source.starting.source.to_bytes()).decode()
    spacing = None
    if isinstance(source, DensitySource):
        store = source.store
        spacing = mean_spacing(zip(store.lattice, store.grid, strict=True))
    valence = valence or training_valence(rows)
    known = TrainingFacts(
        spacing, valence.counts, disputed=valence.disputed, elements=frozenset(source.elements)
    )
    return facts | known.to_json()


def training_valence(rows: Rows) -> Valence:
    """Valence electrons of the elements in the training densities; of rows of a dataset nothing is known."""
    source = rows.source
    if not isinstance(source, DensitySource):
        return Valence()
    # From what the store knows: the densities themselves are not read again.
    store = source.store
    atoms = [store.atomic_numbers(index) for index in range(len(store))]
    return fit_valence(zip(store.task_ids, atoms, store.n_electrons.tolist(), strict=True))


def kept_promolecule(note: Mapping[str, Any], where: str) -> Promolecule | None:
    """The promolecule in a note that :func:`data_facts` is part of; None where it keeps none.

    Raises:
        ValueError: it is damaged.
    """
    stored = dict(note.get("data_facts") or {}).get("promolecule")
    if stored is None:
        return None
    source = f"{where}: the promolecule in tomat.json"
    try:
        content = base64.b64decode(str(stored), validate=True)
    except ValueError as error:
        raise ValueError(f"{source} is damaged: {error}; fetch the checkpoint again") from error
    return Promolecule.from_bytes(content, source)
