"""Field models trained without a fold each, as starting densities of the crystals that they have not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tomat.lm.data.folds import Division, Fold, LeftOut
from tomat.lm.data.guess_fit import FIT
from tomat.lm.field.starting import FieldStart
from tomat.lm.record import differences

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tomat.lm.data.folds import OwnStarts
    from tomat.lm.data.store import DensityStore
    from tomat.lm.record import Change
    from tomat.starting import StartingDensity

#: Sections of the notes that must be equal: the models differ in what they were trained without.
_SAME = ("data", "codec", "model")
#: Crystals in a message.
_NAMED = 3


def cross_fitted(store: DensityStore, whole: StartingDensity, paths: Sequence[str]) -> OwnStarts:
    """The starting densities of the crystals of a store whose chemical systems a fold has.

    Each starts from the model trained without its fold. All others start from the model trained on all: those of
    chemical systems that are in no fold, which none of the models has seen, and those with an element that the
    promolecule of their model lacks.

    Args:
        store: the training densities.
        whole: the field model trained on all folds.
        paths: runs or checkpoints of the models trained without a fold each (``data.fold``), in any order.

    Raises:
        FileNotFoundError: a model is not found.
        ValueError: a model is damaged or of another kind, or they are not those of all folds of one division, trained
            like ``whole`` but for the fold.
    """
    if not isinstance(whole, FieldStart):
        raise ValueError(
            f"data.guess = {whole.name} is no field model; data.guess_crossfit needs the one trained on all folds"
        )
    without = _left_out(whole)
    if without is not None:
        raise ValueError(
            f"data.guess: {whole.name} was trained without fold {without.fold}; give the model trained on all folds, "
            "and this one in data.guess_crossfit"
        )
    starts: dict[Fold, FieldStart] = {}
    parts: dict[Fold, LeftOut] = {}
    for start, part in map(_opened, paths):
        fold = part.fold
        if fold in starts:
            raise ValueError(
                f"data.guess_crossfit: {starts[fold].name} and {start.name} were both trained without fold {fold}; "
                "give one model of each fold"
            )
        _check_like(whole, start)
        starts[fold], parts[fold] = start, part
    division, of = _division(store, parts), len(parts)
    own: dict[int, StartingDensity] = {}
    for material, place in enumerate(division.places(store).tolist()):
        start = starts.get(Fold(place + 1, of), whole)
        if start is not whole and set(store.atomic_numbers(material)) <= start.promolecule.elements:
            own[material] = start
    return own


def _left_out(start: FieldStart) -> LeftOut | None:
    """What a model was trained without, by its note.

    Raises:
        ValueError: the note is damaged.
    """
    stored = dict(start.note.get("data") or {}).get("fold")
    try:
        return None if stored is None else LeftOut.from_json(stored)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{start.name}: its note is damaged, data.fold: {error}; copy it again") from error


def _opened(path: str) -> tuple[FieldStart, LeftOut]:
    start = FieldStart.open(path)
    part = _left_out(start)
    if part is None:
        raise ValueError(
            f"data.guess_crossfit: {path} was trained on all its data, no fold left out; train a model for each fold "
            "with the same configuration: tomat train CONFIG --name NAME-1 --data.fold 1/3, and so on"
        )
    return start, part


def _check_like(whole: FieldStart, start: FieldStart) -> None:
    """Check that a model was trained like the one of all folds, but for the fold."""
    changes = list(_changes(whole, start))
    if changes:
        raise ValueError(
            f"data.guess_crossfit: {start.name} was not trained like {whole.name}: "
            f"{'; '.join(map(str, changes[:_NAMED]))}; train both with one configuration, and only data.fold different"
        )


def _changes(whole: FieldStart, start: FieldStart) -> Iterator[Change]:
    names = [dict(one.note.get("data_facts") or {}).get("guess") for one in (whole, start)]
    for change in differences(whole.note, start.note):
        # A promolecule fitted to the data is fitted without the fold.
        fitted = change.path == "guess" and names == [FIT, FIT]
        if change.section in _SAME and not fitted and change.path != "fold":
            yield change


def _division(store: DensityStore, parts: dict[Fold, LeftOut]) -> Division:
    """The division that the folds are of.

    Raises:
        ValueError: a fold is missing, or they are not of one division.
    """
    numbers = sorted({fold.of for fold in parts})
    if len(numbers) > 1:
        raise ValueError(
            f"data.guess_crossfit: the models are of {' and '.join(map(str, numbers))} folds; give those of one "
            "division"
        )
    every = [Fold(number, numbers[0]) for number in range(1, numbers[0] + 1)]
    missing = [str(fold) for fold in every if fold not in parts]
    if missing:
        known = Division(tuple(part.systems for part in parts.values())).places(store)
        names = [store.task_ids[i] for i, fold in enumerate(known.tolist()) if fold < 0]
        shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        raise ValueError(
            f"data.guess_crossfit: no model without fold {' and '.join(missing)}, so that all models given have seen "
            f"the chemical systems of {shown or 'that fold'}; train one with --data.fold {missing[0]}, and add it"
        )
    division = Division(tuple(parts[fold].systems for fold in every))
    if any(part.division != division.hash for part in parts.values()):
        raise ValueError(
            "data.guess_crossfit: the models are not of one division of the chemical systems; train them again with "
            "one version of tomat"
        )
    return division
