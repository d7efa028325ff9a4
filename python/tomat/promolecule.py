"""Promolecules: a density as the sum of spherical atoms over all periodic images.

``rho(r) = sum_a sum_T f_Z(a)(|r - r_a - T|)``, one radial function per element. Fitted functions are cubic B-splines in
``ln(1 + r^2 / inner^2)``; the analytic ones follow Slater's rules (J. C. Slater, Phys. Rev. 36, 57 (1930)).

>>> from tomat.crystal import Crystal
>>> from tomat.promolecule import Promolecule
>>> silicon = Crystal.of([[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]], [14, 14], [[0, 0, 0], [0.25, 0.25, 0.25]])
>>> density = Promolecule.analytic("slater").evaluate(silicon, (24, 24, 24))
>>> round(float(density.mean()) * 2 * 2.7**3, 6)
8.0
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomat import _core
from tomat._npz import (
    DIGEST,
    Npz,
    about_bytes,
    bundled_file,
    bundled_names,
    check_digest,
    check_hash,
    npz_bytes,
)
from tomat._promolecule_fit import RadialFit, atomic_numbers_of
from tomat.crystal import Crystal
from tomat.material import UNITS, Entry, Material
from tomat.starting import StartingDensity, Triple
from tomat.storage.files import open_bytes, write_atomically

__all__ = ["FORMS", "LOSSES", "Form", "Loss", "Promolecule", "UnscaledPromolecule", "bundled_promolecules"]

type Form = Literal["gaussian", "two-shell", "slater"]
type Loss = Literal["squared", "relative", "absolute"]

#: Analytic forms by name.
FORMS: tuple[Form, ...] = get_args(Form.__value__)
#: What a fit can make small, see :meth:`Promolecule.fit`.
LOSSES: tuple[Loss, ...] = get_args(Loss.__value__)

#: The largest sum of members a file may hold, in bytes; 118 elements with 1,000 splines take 1 MB.
_LARGEST = 1 << 24
_MEMBERS = ("kind", "atomic_numbers", "electrons", "cutoff", "inner", "coefficients", "about")


@dataclass(frozen=True, eq=False)
class Promolecule(StartingDensity):
    """Radial functions of elements, fitted or analytic; a starting density with valence electron counts.

    Attributes:
        kind: ``splines``, or an analytic form (``gaussian``, ``two-shell``, ``slater``).
        atomic_numbers: (n_elements,) int32, ascending.
        electrons: (n_elements,) float64, valence electrons of each element; NaN if the training materials do not
            determine them or disagree (:mod:`tomat.valence`; ``about["disputed"]``).
        cutoff: radius in angstrom beyond which fitted functions are zero; 0 for analytic forms.
        inner: distance in angstrom around which knots are densest; 0 for analytic forms.
        coefficients: (n_elements, n_splines) float64 in electrons per cubic angstrom; empty for analytic forms.
        about: how it was made; stored in the file.

    Raises:
        ValueError: wrong shapes, or values out of range.
        KeyError: an unknown kind.
    """

    kind: str
    atomic_numbers: NDArray[np.int32]
    electrons: NDArray[np.float64]
    cutoff: float
    inner: float
    coefficients: NDArray[np.float64]
    about: dict[str, Any] = field(default_factory=dict)
    _native: _core.Promolecule = field(init=False, repr=False)

    def __post_init__(self) -> None:
        numbers = [int(z) for z in self.atomic_numbers]
        if numbers != sorted(set(numbers)) or not numbers or not 1 <= numbers[0] <= numbers[-1] <= 118:
            raise ValueError(f"atomic numbers {numbers} must ascend and lie between 1 and 118")
        if self.electrons.shape != (len(numbers),):
            raise ValueError(
                f"electrons have shape {self.electrons.shape}; one number an element, ({len(numbers)},)"
            )
        if self.kind == "splines":
            if np.any(self.electrons <= 0) or np.any(np.isinf(self.electrons)):
                raise ValueError("electrons of an element must be above zero, or NaN where not known")
            native = _core.Promolecule.splines(self.cutoff, self.inner, numbers, self.coefficients)
        else:
            counts = dict(zip(numbers, self.electrons.tolist(), strict=True))
            native = _core.Promolecule.analytic(self.kind, counts)
        object.__setattr__(self, "_native", native)

    @classmethod
    def analytic(cls, form: str, valence: dict[int, float] | None = None) -> Self:
        """An analytic form for all 118 elements: ``gaussian``, ``two-shell`` or ``slater``.

        Args:
            form: ``slater`` has one exponential shell for each group of electrons of Slater's rules; ``gaussian`` one
                Gaussian with the same mean square radius; ``two-shell`` one for the outermost principal quantum
                number and one for the electrons below it.
            valence: valence electrons by atomic number, in place of those outside the noble-gas core (without a closed
                4f or 5f shell); semicore shells are added from the outside in.

        Raises:
            KeyError: an unknown form; the message lists the known ones.
            ValueError: a count that is not above 0 and at most Z.
        """
        counts = {z: float(_core.valence_electrons(z)) for z in range(1, 119)} | dict(valence or {})
        numbers = sorted(counts)
        electrons = np.array([counts[z] for z in numbers], dtype=np.float64)
        about = {"source": "Slater, Phys. Rev. 36, 57 (1930)"}
        empty = np.zeros((0, 0))
        return cls(form, np.array(numbers, dtype=np.int32), electrons, 0.0, 0.0, empty, about)

    @classmethod
    def fit(
        cls,
        materials: Iterable[Material | Entry | str | Path],
        *,
        cutoff: float = 5.0,
        splines: int = 24,
        inner: float = 0.5,
        loss: str = "absolute",
        steps: int = 5,
        floor: float | None = None,
        ridge: float = 1e-4,
        smooth: float = 1e-9,
        conserve: bool = False,
        voxels: int | None = None,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Fit the radial functions of all elements in ``materials`` by linear least squares.

        Materials count equally: errors are divided by the mean \\|density\\| of the material, so that ``absolute`` is
        the mean NMAE over materials. Normal equations are summed in fixed point, so that the result does not depend on
        the number of threads or the order of materials. Files are read once per pass, a few at a time.

        Args:
            materials: materials, entries or paths; any units.
            cutoff: radius in angstrom beyond which the functions and two derivatives are zero.
            splines: number of cubic B-splines per element.
            inner: distance in angstrom around which knots are densest.
            loss: ``squared``: mean square error, one pass. ``relative``: square errors divided by the density, one
                pass. ``absolute``: mean \\|error\\|, by one pass of ``squared`` and ``steps`` passes of reweighted
                least squares.
            steps: reweighting passes of ``absolute``.
            floor: smallest divisor of ``relative`` (default 0.03) and ``absolute`` (0.001), in units of the mean
                \\|density\\| of a material.
            ridge: penalty on each coefficient, times its diagonal of the normal equations.
            smooth: penalty on second differences of coefficients, times the mean diagonal of their element.
            conserve: constrain each function to its element's valence electrons, where the materials determine them.
            voxels: fit to about this many voxels per material (:meth:`Material.subgrid`); to all if None. Electrons
                are always counted on the whole grid.
            threads: number of threads; one per processor by default.
            progress: called with the number of materials done in all passes, and their total.

        Raises:
            ValueError: no materials, invalid parameters, equations without a unique solution.
            OSError: a file cannot be read.
        """
        fit = RadialFit(
            cutoff=cutoff,
            splines=splines,
            inner=inner,
            loss=loss,
            steps=steps,
            floor=floor,
            ridge=ridge,
            smooth=smooth,
            conserve=conserve,
            voxels=voxels,
        )
        numbers, coefficients, valence, about = fit.run(list(materials), threads, progress)
        electrons = np.array([valence.counts.get(z, np.nan) for z in numbers], dtype=np.float64)
        return cls(
            "splines", np.array(numbers, dtype=np.int32), electrons, cutoff, inner, coefficients, about
        )

    def evaluate(
        self,
        crystal: Crystal,
        grid_shape: Sequence[int],
        unit: str = "e_per_A3",
        *,
        n_electrons: float | Literal["valence"] | None = "valence",
        fallback: str | None = None,
    ) -> NDArray[np.float64]:
        """The density on a grid, with negative values set to zero and scaled to the number of electrons if known.

        Args:
            crystal: the cell and its atoms.
            grid_shape: points along x, y, z; point (i, j, k) lies at (i/nx, j/ny, k/nz).
            unit: ``e_per_A3`` or ``chgcar``.
            n_electrons: number of electrons to scale to; ``valence``: the sum of :attr:`electrons` over the atoms,
                without scaling if one of them is unknown; None: do not scale.
            fallback: analytic form for elements without a function, which are otherwise an error.

        Returns:
            float64 (nx, ny, nz).

        Raises:
            ValueError: an element without a function, an invalid grid or unit, a cell too small to be in angstrom.
            KeyError: an unknown fallback.
        """
        if unit not in UNITS:
            raise ValueError(f"unit {unit!r} is not one of {', '.join(UNITS)}")
        shape = _grid_shape(grid_shape)
        spare = None if fallback is None else Promolecule.analytic(fallback)
        native = self._native if spare is None else self._native.or_else(spare._native)
        numbers = crystal.atomic_numbers.tolist()
        count = self.count_electrons(numbers, spare) if n_electrons == "valence" else n_electrons
        density = native.evaluate(
            crystal.lattice, numbers, crystal.frac_coords, shape, electrons=count, clip=True
        )
        return density * crystal.volume if unit == "chgcar" else density

    def predict(self, material: Material, **options: Any) -> NDArray[np.float64]:
        """:meth:`evaluate` on the grid and in the unit of a material; its density is not used."""
        return self.evaluate(material.crystal, material.grid_shape, material.unit, **options)

    @property
    def identity(self) -> str:
        """Equal for equal content."""
        return f"promolecule {self.hash}"

    @property
    def elements(self) -> frozenset[int]:
        """Atomic numbers with a function."""
        return frozenset(self.atomic_numbers.tolist())

    def per_volume(self, crystal: Crystal, grid_shape: Triple) -> NDArray[np.float64]:
        """:meth:`evaluate` with default options."""
        return self.evaluate(crystal, grid_shape)

    def kept(self) -> bytes:
        """The content of the file."""
        return self.to_bytes()

    def count_electrons(self, atomic_numbers: ArrayLike, fallback: Promolecule | None = None) -> float | None:
        """The sum of the valence electrons of atoms, or None if one is unknown.

        Elements without a function take those of ``fallback``.
        """
        known: dict[int, float] = {}
        for source in (fallback, self):
            if source is not None:
                known.update(zip(source.atomic_numbers.tolist(), source.electrons.tolist(), strict=True))
        total = float(sum(known.get(z, np.nan) for z in atomic_numbers_of(atomic_numbers)))
        return total if np.isfinite(total) else None

    def radial(self, atomic_number: int, distances: ArrayLike) -> NDArray[np.float64]:
        """The radial function of an element at ``distances`` (n,) in angstrom, in electrons per cubic angstrom.

        Raises:
            ValueError: an element without a function.
        """
        r = np.ascontiguousarray(distances, dtype=np.float64).reshape(-1)
        return self._native.radial(atomic_numbers_of([atomic_number])[0], r)

    @property
    def hash(self) -> str:
        """SHA-256 of kind, parameters and arrays, without ``about``."""
        digest = hashlib.sha256(f"tomat promolecule 1 {self.kind}\n".encode())
        digest.update(np.array([self.cutoff, self.inner], dtype="<f8").tobytes())
        for array, dtype in (
            (self.atomic_numbers, "<i4"),
            (self.electrons, "<f8"),
            (self.coefficients, "<f8"),
        ):
            digest.update(np.array(array.shape, dtype="<i8").tobytes())
            digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write an ``.npz`` without pickled objects, whose bytes depend on the promolecule alone."""
        write_atomically(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the file that :meth:`save` writes."""
        about = {**self.about, "hash": self.hash}
        members = {
            "kind": np.frombuffer(self.kind.encode(), dtype=np.uint8),
            "atomic_numbers": self.atomic_numbers.astype(np.int32),
            "electrons": self.electrons,
            "cutoff": np.float64(self.cutoff),
            "inner": np.float64(self.inner),
            "coefficients": self.coefficients,
        }
        return npz_bytes(members | {"about": about_bytes(members, about)})

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """A promolecule by bundled name (``qe-sg15``), analytic form (``slater``), path or URL.

        Raises:
            KeyError: neither a name nor a path.
            FileNotFoundError: no such file.
            ValueError: not a promolecule, or its content does not match its hash.
        """
        text = str(name)
        if text in FORMS:
            return cls.analytic(text)
        if text in bundled_promolecules():
            return cls.from_bytes(bundled_file("promolecules", f"{text}.npz").read_bytes(), text)
        if "/" not in text and "." not in text and not Path(text).exists():
            known = ", ".join([*bundled_promolecules(), *FORMS])
            raise KeyError(f"unknown promolecule {text!r}; known: {known}, or give the path of an .npz file")
        return cls.from_bytes(open_bytes(text), text)

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> Self:
        """A promolecule from :meth:`to_bytes`; ``source`` is named in errors.

        Raises:
            ValueError: not a promolecule, or its content does not match its hash.
        """
        try:
            archive = Npz(data, _LARGEST)
            missing = [name for name in _MEMBERS if name not in archive]
            if missing:
                raise ValueError(f"no member {', '.join(missing)}; it holds {', '.join(_MEMBERS)}")
            members = {name: archive[name] for name in _MEMBERS}
            about = json.loads(members["about"].tobytes())
            if not isinstance(about, dict):
                raise ValueError("the about record is not a JSON object")
            record = dict(about)
            about.pop(DIGEST, None)
            stated = about.pop("hash", None)
            promolecule = cls(
                members["kind"].tobytes().decode(),
                members["atomic_numbers"].astype(np.int32, casting="safe"),
                members["electrons"].astype(np.float64, casting="safe"),
                float(members["cutoff"].reshape(())),
                float(members["inner"].reshape(())),
                np.ascontiguousarray(members["coefficients"], dtype=np.float64),
                about,
            )
        except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
            reason = error.args[0] if error.args else error
            raise ValueError(f"{source}: not a promolecule file: {reason}") from error
        check_hash(stated, promolecule.hash, source)
        try:
            check_digest(archive, record)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
        return promolecule

    def __repr__(self) -> str:
        if self.kind != "splines":
            return f"Promolecule({self.kind!r})"
        n_elements, n_splines = self.coefficients.shape
        return f"Promolecule({n_elements} elements, {n_splines} splines to {self.cutoff:g} angstrom)"


@dataclass(frozen=True, eq=False)
class UnscaledPromolecule(StartingDensity):
    """A promolecule as used for training: not scaled to an electron count, and patches without the whole grid.

    Attributes:
        source: the promolecule; missing elements are taken from ``slater``.
    """

    source: Promolecule
    _native: _core.Promolecule = field(init=False, repr=False)

    def __post_init__(self) -> None:
        native = self.source._native.or_else(Promolecule.analytic("slater")._native)
        object.__setattr__(self, "_native", native)

    @classmethod
    def load(cls, name: str | Path | Promolecule) -> Self:
        """From a promolecule, or from what :meth:`Promolecule.load` takes.

        Raises:
            KeyError, OSError, ValueError: as :meth:`Promolecule.load`.
        """
        return cls(name if isinstance(name, Promolecule) else Promolecule.load(name))

    @property
    def identity(self) -> str:
        """Equal for equal content."""
        return f"{self.source.identity} or slater"

    @property
    def elements(self) -> frozenset[int]:
        """Those of the promolecule, without ``slater``."""
        return self.source.elements

    def kept(self) -> bytes:
        """The content of the promolecule's file."""
        return self.source.kept()

    @property
    def native(self) -> _core.Promolecule:
        """The radial functions of all elements, for the core."""
        return self._native

    def radial(self, atomic_number: int, distances: ArrayLike) -> NDArray[np.float64]:
        """The radial function of an element, see :meth:`Promolecule.radial`."""
        return self._native.radial(
            atomic_number, np.ascontiguousarray(distances, dtype=np.float64).reshape(-1)
        )

    def per_volume(self, crystal: Crystal, grid_shape: Triple) -> NDArray[np.float64]:
        """The sum of the spherical atoms, with negative values set to zero."""
        numbers = crystal.atomic_numbers.tolist()
        return self._native.evaluate(
            crystal.lattice, numbers, crystal.frac_coords, grid_shape, electrons=None, clip=True
        )

    def patch_per_volume(
        self, crystal: Crystal, grid_shape: Triple, offset: Triple, patch_shape: Triple
    ) -> NDArray[np.float64]:
        """The sum on the patch alone."""
        numbers = crystal.atomic_numbers.tolist()
        return self._native.evaluate_patch(
            crystal.lattice, numbers, crystal.frac_coords, grid_shape, offset, patch_shape
        )


def bundled_promolecules() -> list[str]:
    """Names of the fitted promolecules in the package."""
    return bundled_names("promolecules")


def _grid_shape(values: Sequence[int]) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in values)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"grid shape {shape}; give three numbers of points, each at least 1")
    return shape[0], shape[1], shape[2]
