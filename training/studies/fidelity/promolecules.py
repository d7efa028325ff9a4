"""Promolecules by name, for studies in several processes."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomat.promolecule import Promolecule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.crystal import Crystal


@dataclass(frozen=True)
class NamedPromolecule:
    """A promolecule of :mod:`tomat.promolecule` by name or path; each process loads it once.

    Attributes:
        name: an analytic form (``slater``), one in the package, or a file.
        fallback: analytic form for elements it does not know; without it they are an error.
    """

    name: str
    fallback: str | None = None

    def evaluate(
        self,
        crystal: Crystal,
        grid_shape: tuple[int, int, int],
        unit: str,
    ) -> NDArray[np.float64]:
        """The density (nx, ny, nz) in ``unit``.

        Raises:
            KeyError, OSError, ValueError: no such promolecule, or an element it does not know.
        """
        values = _load(self.name).evaluate(crystal, grid_shape, unit, fallback=self.fallback)
        return np.asarray(values, dtype=np.float64)

    @property
    def identity(self) -> str:
        """Everything its densities depend on.

        Raises:
            KeyError, OSError, ValueError: no such promolecule.
        """
        return f"{_load(self.name).hash}, fallback {self.fallback}"


@functools.cache
def _load(name: str) -> Promolecule:
    return Promolecule.load(name)
