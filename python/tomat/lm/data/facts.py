"""Facts about training data that predictions need, and that a note keeps."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from tomat.prediction.grid import mean_spacing
from tomat.prediction.predictor import TrainingFacts
from tomat.valence import Valence, fit_valence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tomat.lm.data.store import DensityStore
    from tomat.starting import StartingDensity


def store_valence(store: DensityStore) -> Valence:
    """Valence electrons of the elements in the densities, from stored statistics."""
    atoms = [store.atomic_numbers(index) for index in range(len(store))]
    return fit_valence(zip(store.task_ids, atoms, store.n_electrons.tolist(), strict=True))


def data_facts(
    name: str | None,
    starting: StartingDensity | None,
    store: DensityStore | None,
    elements: Iterable[int],
    valence: Valence,
) -> dict[str, Any]:
    """Facts about the training data for predictions, as JSON.

    ``guess``: name of the starting density; ``promolecule``: its content, if it is one, or that of the model it is
    predicted by; ``guess_model``: path and identity of that model; ``elements``: atomic numbers.
    For densities also ``spacing``, ``valence`` and ``disputed``, see
    :class:`tomat.prediction.predictor.TrainingFacts`.
    """
    facts: dict[str, Any] = {"guess": name}
    kept = None if starting is None else starting.kept()
    if kept is not None:
        facts["promolecule"] = base64.b64encode(kept).decode()
    if starting is not None and starting.model() is not None:
        facts["guess_model"] = {"path": starting.model(), "identity": starting.identity}
    spacing = None if store is None else mean_spacing(zip(store.lattice, store.grid, strict=True))
    known = TrainingFacts(spacing, valence.counts, disputed=valence.disputed, elements=frozenset(elements))
    return facts | known.to_json()
