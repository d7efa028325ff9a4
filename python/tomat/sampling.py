"""Samplers: where patches are placed, and how often they cover each voxel.

A sampler is any object with the members of :class:`Sampler`. ``uniform``, ``electrons`` and ``tiling`` are built in;
packages add their own under the entry point group ``tomat.samplers``, used as ``--sampler name:option=value``.
docs/sampling.md defines the built-in ones exactly.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomat import _core

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

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

#: The entry point group of samplers; an entry is a class or function that makes a :class:`Sampler` from its options.
GROUP = "tomat.samplers"


@runtime_checkable
class Sampler(Protocol):
    """A rule for the origins of patches.

    The result must depend on the arguments alone (not on the worker, the order or earlier calls), and the origins of
    fewer patches must be the first of those of more. ``offsets`` must be thread-safe.
    """

    @property
    def needs_density(self) -> bool:
        """Whether ``offsets`` needs ``density``, which is otherwise None."""

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
        """The origins (low corners) of patches 0 to n - 1: int32 (n, 3), grid points along x, y, z.

        ``density`` is float32 (nx, ny, nz) in the unit of the codec.
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
            ValueError: a grid axis outside 1 to 1023, an empty patch, a negative number, or a needed density that is
                missing, not finite, or of another shape than the grid.
        """
        for name, number in {"n": n, "seed": seed, "epoch": epoch}.items():
            if not 0 <= number < 2**64:
                raise ValueError(f"{name} = {number} must be between 0 and 2**64 - 1")
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
        return _core.sample_offsets(
            *native_arguments(self),
            shape,
            _shape(patch_shape),
            values,
            n,
            seed=seed,
            task_id=task_id,
            epoch=epoch,
        )


@dataclass(frozen=True)
class Uniform(_BuiltIn):
    """Every grid point with the same probability.

    Attributes:
        replacement: draw with replacement; without, all origins are used once before any repeats.
    """

    name: ClassVar[str] = "uniform"
    replacement: bool = True


@dataclass(frozen=True)
class Electrons(_BuiltIn):
    """Every grid point with probability proportional to the sum of ``|rho|`` in its patch.

    ``|rho|`` rather than ``max(rho, 0)``, as in the NMAE; they differ only where a PAW density is negative.

    Attributes:
        replacement: draw with replacement; without, all origins are used once before any repeats.
    """

    name: ClassVar[str] = "electrons"
    needs_density: ClassVar[bool] = True
    replacement: bool = True


@dataclass(frozen=True)
class Tiling(_BuiltIn):
    """Passes of tiles from a random origin, in random order: first disjoint tiles, then those that close the gaps.

    The first ``tiles(grid, patch)[0]`` patches of a pass cover no voxel twice, and all ``[1]`` of them cover every
    voxel; then another pass begins with another origin.
    """

    name: ClassVar[str] = "tiling"


#: The samplers built in, by name.
SAMPLERS: dict[str, type[Uniform | Electrons | Tiling]] = {s.name: s for s in (Uniform, Electrons, Tiling)}


@dataclass(frozen=True)
class NamedSampler:
    """A sampler and its name.

    Attributes:
        sampler: the sampler.
        spec: its name with the options that are not defaults: ``uniform``, ``uniform:replacement=false``.
        source: its package and version; None if it is built in.
    """

    sampler: Sampler
    spec: str
    source: str | None = None


def load_sampler(spec: str) -> NamedSampler:
    """The sampler of ``name`` or ``name:option=value,option=value``; values are JSON, or plain words.

    Raises:
        KeyError: an unknown sampler; the message lists the known ones.
        ValueError: invalid options, several packages with one name, or a package that fails.
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
    if isinstance(sampler, Uniform | Electrons) and not isinstance(sampler.replacement, bool):
        raise ValueError(f"sampler {spec!r}: replacement is true or false")
    if not isinstance(sampler, Sampler):
        raise ValueError(f"sampler {name!r} of {_source(found[0])} has no needs_density and offsets(...)")
    return NamedSampler(sampler, _canonical(name, options, sampler), _source(found[0]) if found else None)


def known_samplers() -> list[str]:
    """Names of samplers: the built-in ones, then those of other packages."""
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
    """The origins that ``sampler`` returns, checked: int32 (n, 3), grid points along x, y, z.

    Raises:
        ValueError: the sampler returns something else; the message names the material.
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
    """Name and replacement of a built-in sampler, as the core takes them; an empty name for others."""
    if type(sampler) not in SAMPLERS.values():
        return "", True
    return cast("_BuiltIn", sampler).name, bool(getattr(sampler, "replacement", True))


def tiles(grid_shape: Sequence[int], patch_shape: Sequence[int]) -> tuple[int, int]:
    """Tiles in a pass of :class:`Tiling`: the number of disjoint ones, and the number that covers every voxel.

    Along an axis of n points that is ``max(floor(n / P), 1)`` and ``ceil(n / P)``; over a grid, their products.
    """
    return _core.tiling(_shape(grid_shape), _shape(patch_shape))


def sample_offsets(
    grid_shape: Sequence[int], n: int, *, seed: int, task_id: str, epoch: int = 0
) -> NDArray[np.int32]:
    """The origins of patches 0 to n - 1 of a material, int32 (n, 3), uniform over all grid points: :class:`Uniform`.

    They depend on the arguments alone, and fewer patches are the first of more; docs/format.md has the formula.

    Raises:
        ValueError: a grid axis outside 1 to 1023, or a negative number.
    """
    return Uniform().offsets(grid_shape, (1, 1, 1), None, n, seed=seed, task_id=task_id, epoch=epoch)


def coverage_histogram(
    grid_shape: Sequence[int], patch_shape: Sequence[int], offsets: ArrayLike
) -> NDArray[np.int64]:
    """``h[k]``: the number of voxels that patches cover exactly k times, int64, without trailing zeros.

    A patch longer than a grid axis covers some voxels repeatedly; ``sum(k * h[k])`` is always the number of patches
    times the voxels of one.

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
    """The canonical spec, the same for equal samplers."""
    defaults = {}
    if is_dataclass(sampler):
        defaults = {f.name: f.default for f in fields(sampler) if f.default is not MISSING}
    given = {k: v for k, v in sorted(options.items()) if k not in defaults or defaults[k] != v}
    return name + (":" if given else "") + ",".join(f"{k}={json.dumps(v)}" for k, v in given.items())


def _added() -> list[EntryPoint]:
    """Samplers of other packages; one found twice on the path counts once."""
    from importlib.metadata import entry_points

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
