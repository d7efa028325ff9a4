"""``charge-density.hdf5``: the Fourier components of a density as builds of Quantum ESPRESSO with HDF5 keep them.

Attributes ``gamma_only`` (".TRUE." or ".FALSE."), ``ngm_g`` and ``nspin``; the dataset ``MillerIndices`` (n, 3) int32
with attributes ``bg1``, ``bg2``, ``bg3`` in 1/bohr; and ``rhotot_g`` (2 n,) float64, real and imaginary parts in turn,
in electrons per cubic bohr (``Modules/io_base.f90: write_rhog``, ``Modules/qeh5_module.f90``). Densities of spins
follow under other names and are not read. Needs h5py.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat.formats.qe.charge import SPINS, Components, check

#: Name in a save folder.
NAME = "charge-density.hdf5"
_MILLER, _DENSITY = "MillerIndices", "rhotot_g"
_VECTORS = ("bg1", "bg2", "bg3")
#: Most bytes that a file may unpack to, for each of its own.
_RATIO = 20


def h5py_for(name: str) -> Any:
    """The module h5py; ``name`` is what needs it.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise ValueError(
            f"{name}: HDF5 needs h5py: pip install 'tomat[hdf5]'; or use a pw.x without HDF5, whose densities are "
            "charge-density.dat"
        ) from error
    return h5py


def dump(components: Components) -> bytes:
    """The content of the file.

    Raises:
        ValueError: h5py is not installed.
    """
    h5py = h5py_for(NAME)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("earliest", "v110")) as file:
        file.attrs["gamma_only"] = np.bytes_(".TRUE." if components.gamma_only else ".FALSE.")
        file.attrs["ngm_g"] = np.int32(len(components.miller))
        file.attrs["nspin"] = np.int32(1)
        miller = file.create_dataset(_MILLER, data=components.miller.astype("<i4"))
        for key, vector in zip(_VECTORS, components.reciprocal, strict=True):
            miller.attrs.create(key, vector.astype("<f8"), dtype=np.dtype(("<f8", (3,))))
        values = np.ascontiguousarray(components.values.astype("<c16"))
        file.create_dataset(_DENSITY, data=values.view("<f8"))
    return buffer.getvalue()


def parse(data: bytes, name: str) -> Components:
    """The components in the content of a file; ``name`` is for messages.

    Raises:
        ValueError: damaged or cut off, or h5py is not installed.
    """
    h5py = h5py_for(name)
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            components = _read(file, len(data))
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, OverflowError, MemoryError) as error:
        # h5py raises any of these for damaged files.
        text = str(error).strip("'\"") or type(error).__name__
        raise ValueError(f"{name}: cut off or damaged ({text}); copy it again, or run pw.x again") from error
    check(components, name)
    return components


def _read(file: Any, size: int) -> Components:
    flag = file.attrs["gamma_only"]
    text = (flag.decode("ascii", "replace") if isinstance(flag, bytes) else str(flag)).strip(" \0")
    if text.upper() not in (".TRUE.", ".FALSE."):
        raise ValueError(f"gamma_only is {text!r}, neither .TRUE. nor .FALSE.")
    n, n_spins = (_whole(file.attrs[key], key) for key in ("ngm_g", "nspin"))
    if not (n >= 1 and 28 * n <= _RATIO * size) or n_spins not in SPINS:
        raise ValueError(f"ngm_g is {n} and nspin {n_spins} in a file of {size} bytes")
    miller = file[_MILLER]
    vectors = [np.asarray(miller.attrs[key], dtype="<f8") for key in _VECTORS]
    if any(vector.shape != (3,) for vector in vectors):
        raise ValueError("bg1, bg2, bg3 are not three numbers each")
    values = _values(file[_DENSITY], (2 * n,), _DENSITY).astype("<f8")
    return Components(
        text.upper() == ".TRUE.",
        np.array(vectors),
        _values(miller, (n, 3), _MILLER).astype("<i4"),
        np.ascontiguousarray(values).view("<c16"),
        n_spins,
    )


def _whole(value: Any, key: str) -> int:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{key} is no whole number")
    return int(array.ravel()[0])


def _values(dataset: Any, shape: tuple[int, ...], key: str) -> NDArray[Any]:
    if dataset.shape != shape or dataset.dtype.kind not in "if" or dataset.dtype.itemsize > 8:
        raise ValueError(f"{key} is {dataset.dtype} {dataset.shape}, where ngm_g asks for {shape}")
    return np.asarray(dataset[()])
