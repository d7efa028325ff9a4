"""Open the rows that a data configuration describes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tomat.budget import patches_of
from tomat.dataset.inputs import resolve_inputs
from tomat.lm.data.folds import Fold, LeftOut
from tomat.lm.data.guess_check import check_store
from tomat.lm.data.guess_fit import FIT, fitted_promolecule
from tomat.lm.data.on_the_fly import DensitySource
from tomat.lm.data.parquet import ParquetSource
from tomat.lm.data.rows import Rows
from tomat.lm.data.store import DensityStore
from tomat.lm.record import NOTE
from tomat.promolecule import UnscaledPromolecule
from tomat.sampling import draw, load_sampler
from tomat.starting import StartingDensity
from tomat.storage.remote import place

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tomat.lm.data.config import DataConfig
    from tomat.lm.data.folds import OwnStarts
    from tomat.lm.data.guess_check import GuessCheck
    from tomat.lm.data.on_the_fly import Budget, Sampler
    from tomat.lm.data.rows import Source
    from tomat.material import Entry, Material, Unit
    from tomat.promolecule import Promolecule
    from tomat.sampling import Sampler as DensitySampler
    from tomat.tokenizer import PatchTokenizer


def open_rows(
    config: DataConfig,
    size: int,
    *,
    guess: StartingDensity | None = None,
    sampler: Sampler | None = None,
    budget: Budget | None = None,
    earlier: Promolecule | None = None,
) -> Rows:
    """Open the rows of a configuration.

    Args:
        config: the data configuration.
        size: tokens per row of the model.
        guess: the starting density; None is ``config.guess``.
        sampler: places the patches, named ``config.sampler``; None looks the name up.
        budget: patches per material; None is ``config.patches_per_material``.
        earlier: the promolecule of an earlier part of the run, see :func:`fitted_promolecule`.

    Raises:
        FileNotFoundError: the data are not found.
        KeyError: an unknown codec, promolecule or sampler.
        ValueError: the data contradict the configuration or do not fit the model, or the promolecule is of another
            kind than the data.
    """
    if guess is None and config.guess and config.guess != FIT:
        guess = open_starting(config.guess)
    source: Source
    if config.path is None:
        source = _densities(config, size, guess, sampler, budget, earlier)
    elif guess is None and config.guess == FIT:
        raise ValueError(
            f"{config.path}: data.guess: fit needs whole densities (data.densities), and a dataset has only patches; "
            "run tomat promolecule fit on the densities it was made from, and give the file as data.guess"
        )
    else:
        source = ParquetSource(config, guess)
    return Rows(source, size, packed=config.pack, seed=config.seed)


def _densities(
    config: DataConfig,
    size: int,
    guess: StartingDensity | None,
    sampler: Sampler | None,
    budget: Budget | None,
    earlier: Promolecule | None,
) -> DensitySource:
    tokenizer = config.tokenizer(size).tokenizer
    patches = config.patches_per_material
    patches = tokenizer.layout.patches_per_material if patches is None else patches
    opened = open_store(config, tokenizer.unit, guess=guess, earlier=earlier)
    store = opened.store
    name = config.sampler
    if sampler is None:
        named = load_sampler(name)
        sampler, name = _sampler(named.sampler, tokenizer), named.spec
    return DensitySource(
        store,
        tokenizer,
        config,
        budget=budget or _shares(config.budget, patches, store),
        sampler=sampler,
        sampler_name=name,
        guess=opened.starting,
        guess_check=opened.check,
        own=opened.own,
    )


@dataclass(frozen=True, eq=False)
class OpenStore:
    """Densities with their starting density.

    Attributes:
        store: the densities.
        starting: the starting density, or None.
        check: its deviations on a sample of the densities, if its elements are known.
        own: starting densities of materials that have another, cross-fitted.
        left_out: the fold that is not trained on, or None.
    """

    store: DensityStore
    starting: StartingDensity | None
    check: GuessCheck | None
    own: OwnStarts = field(default_factory=dict)
    left_out: LeftOut | None = None


def open_store(
    config: DataConfig,
    unit: Unit,
    *,
    guess: StartingDensity | None = None,
    earlier: Promolecule | None = None,
) -> OpenStore:
    """Open the whole densities of a configuration, and fit or load the starting density.

    Args:
        config: the data configuration, with ``densities``.
        unit: of the densities.
        guess: the starting density; None is ``config.guess``.
        earlier: the promolecule of an earlier part of the run.

    Raises:
        FileNotFoundError, KeyError, ValueError: as :func:`open_rows`.
    """
    if guess is None and config.guess and config.guess != FIT:
        guess = open_starting(config.guess)
    entries = resolve_inputs(
        config.densities,
        split_file=config.split_file,
        split=config.split,
    )
    entries = _with_prefix(entries, config.prefix)[: config.limit]
    store = DensityStore.of(
        entries,
        unit,
        cache=config.cache,
        on_error=config.on_error,
        threads=config.threads,
    )
    fold = None if config.fold is None else Fold.parse(config.fold)
    left_out = None if fold is None else LeftOut.of(store, fold)
    if guess is None and config.guess == FIT:
        fitted = fitted_promolecule(store, without=fold, earlier=earlier, threads=config.threads)
        guess = UnscaledPromolecule.load(fitted)
    own: OwnStarts = {}
    if guess is not None and config.guess_crossfit:
        from tomat.lm.field.crossfit import cross_fitted  # needs JAX, which promolecules do not

        own = cross_fitted(store, guess, config.guess_crossfit)
    check = None
    if guess is not None and guess.elements is not None:
        # Before the densities of all materials are computed.
        check = check_store(store, guess, own)
        check.enforce(config.max_guess_nmae, config.guess or guess.identity)
    return OpenStore(store, guess, check, own, left_out)


def open_starting(name: str) -> StartingDensity:
    """A starting density by name: a promolecule, or the run or checkpoint of a field model.

    Raises:
        KeyError, OSError, ValueError: it is not found, or neither.
    """
    if not place(f"{name.rstrip('/')}/{NOTE}").exists():
        return UnscaledPromolecule.load(name)
    from tomat.lm.field.starting import FieldStart  # needs JAX, which promolecules do not

    return FieldStart.open(name)


def _with_prefix(entries: list[Entry], prefix: Sequence[str]) -> list[Entry]:
    kept = [entry for entry in entries if not prefix or entry.task_id.startswith(tuple(prefix))]
    if not kept:
        raise ValueError(f"data.prefix: no material's id begins with {' or '.join(prefix)}")
    return kept


def _sampler(sampler: DensitySampler, tokenizer: PatchTokenizer) -> Sampler:
    """A sampler of :mod:`tomat.sampling` with the source's signature."""

    def draw_of(material: Material, n: int, seed: int, epoch: int) -> NDArray[np.int32]:
        patch = tokenizer.shape_for(len(material.atomic_numbers))
        density = material.density if sampler.needs_density else None
        return draw(
            sampler, material.grid_shape, patch, density, n, seed=seed, task_id=material.task_id, epoch=epoch
        )

    return draw_of


def _shares(budget: str, mean: int, store: DensityStore) -> Budget:
    """Patches per material, ``mean`` on average; see :mod:`tomat.budget`."""
    electrons = store.n_electrons.tolist() if budget == "electrons" else None
    patches = patches_of(budget, mean, store.task_ids, electrons)
    shares = dict(zip(store.task_ids, patches.tolist(), strict=True))
    return lambda material: shares[material.task_id]
