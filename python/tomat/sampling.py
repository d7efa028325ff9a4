"""Where patches are cut, and how often they cover each voxel.

A sampler is anything with the two members of :class:`Sampler`. ``uniform``, ``electrons`` and ``tiling`` are built in;
a package adds its own under the entry point group ``tomat.samplers``, and ``--sampler name:option=value`` finds it.
docs/sampling.md has the definitions, to the bit.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np

from tomat import _core

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.metadata import EntryPoint

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "GROUP",
    "SAMPLERS",
    "Electrons",
    "NamedSampler",
    "Sampler",
    "Tiling",
    "Uniform",
    "coverage_histogram",
    "draw",
    "known_samplers",
    "load_sampler",
    "sample_offsets",
    "tiles",
]

#: The entry point group of samplers: an entry is a class or a function that makes a :class:`Sampler` of its options.
GROUP = "tomat.samplers"


@runtime_checkable
class Sampler(Protocol):
    """A rule for the origins of patches.

    What it gives must depend on the arguments alone (never on the worker, the order or earlier calls), be safe to call
    from several threads, and give for fewer patches the first of those it gives for more.
    """

    @property
    def needs_density(self) -> bool:
        """Whether ``density`` must be there; it is not read where no sampler asks."""

    def offsets(
        self,
        grid_shape: tuple[int, int, int],
        patch_shape: tuple[int, int, int],
        density: NDArray[np.float32] | None,
        n: int,
        *,
        seed: int,
        task_id: str,
        epoch: int,
    ) -> NDArray[np.int32]:
        """The origins (low corners) of patches 0 to n - 1: int32 (n, 3) grid points along x, y, z.

        ``density`` is float32 (nx, ny, nz) in the unit of the run: that of the codec, ``chgcar`` for most.
        """


class _BuiltIn:
    """A sampler of the core."""

    name: ClassVar[str]
    needs_density: ClassVar[bool] = False

    def offsets(
        self,
        grid_shape: Sequence[int],
        patch_shape: Sequence[int],
        density: ArrayLike | None,
        n: int,
        *,
        seed: int,
        task_id: str,
        epoch: int = 0,
    ) -> NDArray[np.int32]:
        """The origins of patches 0 to n - 1 of a material, int32 (n, 3); see the class.

        Raises:
            ValueError: a grid axis outside 1 to 1023, an empty patch, a negative number; a density that is needed and
                missing, or has another shape than the grid or values that are not finite.
        """
        _check_numbers(n=n, seed=seed, epoch=epoch)
        shape = _shape(grid_shape)
        values = None
        if self.needs_density:
            if density is None:
                raise ValueError(
                    f"{task_id}: the sampler {self.name} needs the density of the material; give it"
                )
            values = np.ascontiguousarray(density, dtype=np.float32)
            if values.shape != shape:
                raise ValueError(f"{task_id}: the density has shape {values.shape}, the grid {shape}")
        native = native_arguments(self)
        return _core.sample_offsets(
            *native, shape, _shape(patch_shape), values, n, seed=seed, task_id=task_id, epoch=epoch
        )


@dataclass(frozen=True)
class Uniform(_BuiltIn):
    """Every grid point with the same probability.

    Attributes:
        replacement: whether an origin may come twice; without, none does before every one was there.
    """

    name: ClassVar[str] = "uniform"
    replacement: bool = True


@dataclass(frozen=True)
class Electrons(_BuiltIn):
    """Every grid point with probability proportional to the density its patch holds, the sum of ``|rho|``.

    ``|rho|``, and not ``max(rho, 0)``: it is what NMAE divides by, so patches are drawn as the score weighs them; the
    two differ only where a PAW density is negative.

    Attributes:
        replacement: whether an origin may come twice; without, none does before every one was there.
    """

    name: ClassVar[str] = "electrons"
    needs_density: ClassVar[bool] = True
    replacement: bool = True


@dataclass(frozen=True)
class Tiling(_BuiltIn):
    """A random origin, then tiles in shuffled order: those first that overlap no other, then those that close the gaps.

    No voxel is covered twice by the first ``tiles(grid, patch)[0]`` patches, every voxel is after ``[1]`` of them; then
    another pass begins, with another origin.
    """

    name: ClassVar[str] = "tiling"


#: The samplers built in, by name.
SAMPLERS: dict[str, type[Uniform | Electrons | Tiling]] = {s.name: s for s in (Uniform, Electrons, Tiling)}


@dataclass(frozen=True)
class NamedSampler:
    """A sampler with what it is called.

    Attributes:
        sampler: the sampler.
        spec: its name and the options that differ from its defaults: ``uniform``, ``uniform:replacement=false``.
        source: the package it comes from with its version; None for those built in.
    """

    sampler: Sampler
    spec: str
    source: str | None = None


def load_sampler(spec: str) -> NamedSampler:
    """The sampler of ``name`` or ``name:option=value,option=value``; values are JSON, or plain words.

    Raises:
        KeyError: no such sampler; the message lists those there are.
        ValueError: options it does not take, two packages with one name, or a package that fails.
    """
    name, options = _parse(spec)
    found = [point for point in _added() if point.name == name]
    if len(found) + (name in SAMPLERS) > 1:
        rivals = ", ".join((["tomat"] if name in SAMPLERS else []) + [_source(point) for point in found])
        raise ValueError(f"several packages have a sampler called {name!r}: {rivals}; uninstall all but one")
    if name not in SAMPLERS and not found:
        raise KeyError(f"unknown sampler {name!r}; known: {', '.join(known_samplers())}")
    factory: Any = SAMPLERS[name] if name in SAMPLERS else _load(found[0])
    try:
        sampler = factory(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"sampler {spec!r}: {error}") from error
    _check_options(sampler, spec)
    if not isinstance(sampler, Sampler):
        raise ValueError(f"sampler {name!r} of {_source(found[0])} has no needs_density and offsets(...)")
    return NamedSampler(sampler, _canonical(name, options, sampler), _source(found[0]) if found else None)


def known_samplers() -> list[str]:
    """Names that :func:`load_sampler` knows: those built in, then those of other packages."""
    return [*SAMPLERS, *sorted({point.name for point in _added()} - SAMPLERS.keys())]


def draw(
    sampler: Sampler,
    grid_shape: Sequence[int],
    patch_shape: Sequence[int],
    density: NDArray[np.float32] | None,
    n: int,
    *,
    seed: int,
    task_id: str,
    epoch: int = 0,
) -> NDArray[np.int32]:
    """What ``sampler`` gives, checked: int32 (n, 3), all of them points of the grid.

    Raises:
        ValueError: it gives something else; the message names the material.
    """
    shape, patch = _shape(grid_shape), _shape(patch_shape)
    given = density if sampler.needs_density else None
    drawn = np.asarray(sampler.offsets(shape, patch, given, n, seed=seed, task_id=task_id, epoch=epoch))
    if drawn.shape != (n, 3) or not np.issubdtype(drawn.dtype, np.integer):
        raise ValueError(
            f"{task_id}: the sampler gave an array of {drawn.dtype} {drawn.shape}, not integers ({n}, 3)"
        )
    outside = np.flatnonzero(((drawn < 0) | (drawn >= shape)).any(axis=1))
    if len(outside):
        raise ValueError(
            f"{task_id}: the sampler gave origin {drawn[outside[0]].tolist()} (patch {outside[0]}), outside the grid "
            f"{shape}"
        )
    return drawn.astype(np.int32)


def native_arguments(sampler: Sampler | _BuiltIn) -> tuple[str, bool]:
    """Name and replacement, as the core takes its own samplers; an empty name for others."""
    if type(sampler) not in SAMPLERS.values():
        return "", True
    return cast("_BuiltIn", sampler).name, bool(getattr(sampler, "replacement", True))


def tiles(grid_shape: Sequence[int], patch_shape: Sequence[int]) -> tuple[int, int]:
    """Tiles of a pass of :class:`Tiling`: how many overlap no other, and how many cover every voxel.

    Along an axis of n points that is ``max(floor(n / P), 1)`` and ``ceil(n / P)``; over a grid, their products.
    """
    return _core.tiling(_shape(grid_shape), _shape(patch_shape))


def sample_offsets(
    grid_shape: Sequence[int], n: int, *, seed: int, task_id: str, epoch: int = 0
) -> NDArray[np.int32]:
    """The origins of patches 0 to n - 1 of a material, int32 (n, 3), uniform over all grid points.

    They depend on the arguments alone, and the first patches of a longer draw are those of a shorter one:
    docs/format.md gives the formula. It is what :class:`Uniform` gives.

    Raises:
        ValueError: a grid axis outside 1 to 1023, or a negative number.
    """
    return Uniform().offsets(grid_shape, (1, 1, 1), None, n, seed=seed, task_id=task_id, epoch=epoch)


def coverage_histogram(
    grid_shape: Sequence[int], patch_shape: Sequence[int], offsets: ArrayLike
) -> NDArray[np.int64]:
    """``h[k]``: how many of the grid's voxels the patches cover exactly k times, int64, without trailing zeros.

    Every voxel of every patch counts, also the repeated ones of a patch longer than a grid axis, so that
    ``sum(k * h[k])`` is the number of patches times the voxels of one.

    Raises:
        ValueError: an offset outside the grid, or an empty axis.
    """
    array = np.asarray(offsets, dtype=np.int64)
    array = np.ascontiguousarray(array.reshape(0, 3) if array.size == 0 else array)
    if array.ndim != 2:
        raise ValueError(f"offsets have shape {array.shape}; give (n, 3)")
    return _core.coverage_histogram(_shape(grid_shape), _shape(patch_shape), array)


def _shape(shape: Sequence[int]) -> tuple[int, int, int]:
    numbers = [int(n) for n in shape]
    if len(numbers) != 3 or any(n < 1 for n in numbers):
        raise ValueError(f"shape {tuple(shape)} is not three numbers above zero")
    return numbers[0], numbers[1], numbers[2]


def _check_numbers(**numbers: int) -> None:
    for name, value in numbers.items():
        if not 0 <= value < 2**64:
            raise ValueError(f"{name} = {value} must be between 0 and 2**64 - 1")


def _parse(spec: str) -> tuple[str, dict[str, Any]]:
    name, _, rest = spec.strip().partition(":")
    options: dict[str, Any] = {}
    for part in filter(None, (item.strip() for item in rest.split(","))):
        key, equals, text = part.partition("=")
        if not equals or not key.strip().isidentifier() or key.strip() in options:
            raise ValueError(f"sampler {spec!r}: {part!r} is not option=value, once each")
        try:
            options[key.strip()] = json.loads(text)
        except ValueError:
            options[key.strip()] = text.strip()
    return name.strip(), options


def _canonical(name: str, options: dict[str, Any], sampler: object) -> str:
    """Name and options in one way, so that equal samplers are called the same."""
    defaults = {}
    if is_dataclass(sampler):
        defaults = {f.name: f.default for f in fields(sampler) if f.default is not MISSING}
    given = {k: v for k, v in sorted(options.items()) if k not in defaults or defaults[k] != v}
    return name + (":" if given else "") + ",".join(f"{k}={json.dumps(v)}" for k, v in given.items())


def _check_options(sampler: object, spec: str) -> None:
    if isinstance(sampler, Uniform | Electrons) and not isinstance(sampler.replacement, bool):
        raise ValueError(f"sampler {spec!r}: replacement is true or false")


def _added() -> list[EntryPoint]:
    """Samplers of other packages; one that is found twice on the path counts once."""
    return list({(point.name, _source(point)): point for point in entry_points(group=GROUP)}.values())


def _source(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value


def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        raise ValueError(
            f"sampler {point.name!r} of {_source(point)} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
