"""Fitting codecs: sketch densities, merge sketches, fit bins to a sketch.

>>> sketch = sketch_entries(resolve_inputs(["/data/rho_gga"], split="train"), "chgcar")  # doctest: +SKIP
>>> codec = fit_codec(sketch, 16384)  # doctest: +SKIP
>>> codec.save("mine.npz")  # doctest: +SKIP
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self, override

import numpy as np

from tomat import _core
from tomat._threads import in_order
from tomat.codec import LloydMaxCodec
from tomat.material import Entry, Material
from tomat.storage.files import open_bytes, write_atomically
from tomat.tail import Tail

type Method = Literal["l1", "l2", "companding", "lloyd", "equal-mass"]
type Weighting = Literal["voxel", "material"]
type Points = Literal["mean", "median"]

#: Methods of placing bins. ``l1`` and ``l2`` minimise the absolute and squared error on the sketch exactly;
#: ``companding`` places points with density p^(1/2) (medians) or p^(1/3) (means); ``lloyd`` runs thirty Lloyd
#: iterations from ``equal-mass``, bins of equal weight.
METHODS: tuple[Method, ...] = ("l1", "l2", "companding", "lloyd", "equal-mass")

#: Default reconstruction points other than the median.
_POINTS: dict[str, Points] = {"l2": "mean", "lloyd": "mean"}

#: First bytes of an ``.xz`` file.
_XZ = b"\xfd7zXZ"
#: Largest size of a sketch in bytes; real ones have some 20 MB.
_LARGEST = 1 << 28

#: The smallest ``clip_max`` of a codec, for a sketch that holds only zeros.
_SMALLEST = float(np.finfo(np.float32).tiny)


class Sketch(_core.Sketch):
    """A fine histogram of densities in one unit, to which bins are fitted.

    Cells are spaced logarithmically, 65,536 per octave, for both signs; exact zero has its own cell. All contents are
    integers, so that sketches of parts merge exactly into the sketch of the whole, in any order. Methods release the
    GIL and are thread-safe.

    Args:
        unit: ``chgcar`` (rho * V_cell, electrons) or ``e_per_A3`` (electrons per cubic angstrom).

    Raises:
        KeyError: an unknown unit.
    """

    def __new__(cls, unit: str) -> Self:
        """An empty sketch."""
        return super().__new__(cls, unit)

    def add_material(self, material: Material) -> None:
        """Add a material, its density converted to the sketch's unit.

        Raises:
            ValueError: a value that is not finite, or the material is already in the sketch.
        """
        scale = 1.0
        if material.unit != self.unit:
            scale = material.volume if self.unit == "chgcar" else 1.0 / material.volume
        self.add(material.task_id, np.ascontiguousarray(material.density).ravel(), scale)

    @override
    def rounded(self, bits: int) -> Sketch:
        """The sketch with material weights rounded to ``bits`` significant bits, which compresses well."""
        return self.from_bytes(super().rounded(bits).to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """A sketch from :meth:`to_bytes`.

        Raises:
            ValueError: not a sketch, of another version, or damaged.
        """
        raw = cls.read_bytes(data)
        sketch = cls(raw.unit)
        sketch.merge(raw)
        return sketch

    def save(self, path: str | Path) -> None:
        """Write a local file, compressed if its name ends in ``.xz``."""
        data = self.to_bytes()
        write_atomically(path, lzma.compress(data, preset=9) if str(path).endswith(".xz") else data)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A sketch from a file or URL, compressed or not.

        Raises:
            OSError: it cannot be read.
            ValueError: not a sketch, of another version, or damaged.
        """
        data = open_bytes(path)
        try:
            return cls.from_bytes(_unpacked(data) if data.startswith(_XZ) else data)
        except (ValueError, lzma.LZMAError) as error:
            raise ValueError(f"{path}: {error}") from error

    def __repr__(self) -> str:
        return f"Sketch({self.unit!r}, {len(self.ids)} materials, {self.n_voxels} voxels)"


def _unpacked(data: bytes) -> bytes:
    """The content of an ``.xz`` file of one stream, at most ``_LARGEST`` bytes."""
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LARGEST)
    content = stream.decompress(data, max_length=_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError(f"it unpacks to more than {_LARGEST} bytes, too many for a sketch; fetch it again")
    if not stream.eof or stream.unused_data:
        raise ValueError("it is cut off, or something follows it; fetch it again")
    return content


def sketch_entries(
    entries: Sequence[Entry],
    unit: str,
    *,
    threads: int | None = None,
    watch: Callable[[str], None] | None = None,
) -> Sketch:
    """The sketch of all densities of ``entries``; it does not depend on the number of threads.

    Args:
        entries: materials, as from :func:`tomat.dataset.inputs.resolve_inputs`.
        unit: unit of the sketch.
        threads: number of threads; one per processor by default.
        watch: called with the id of each material once it is added.

    Raises:
        OSError, ValueError: a density cannot be read or used; the message names its file.
    """
    sketch = Sketch(unit)

    def add(entry: Entry) -> None:
        sketch.add_material(entry.read())

    for entry, _ in in_order(add, entries, threads):
        if watch is not None:
            watch(entry.task_id)
    return sketch


def merge_sketches(paths: Sequence[str | Path]) -> Sketch:
    """Merge the sketches in several files.

    Raises:
        ValueError: sketches in different units, or a material that is in two of them.
    """
    if not paths:
        raise ValueError("no sketches to merge; give at least one file")
    merged = Sketch.load(paths[0])
    for path in paths[1:]:
        try:
            merged.merge(Sketch.load(path))
        except ValueError as error:
            message = str(error)
            raise ValueError(message if message.startswith(str(path)) else f"{path}: {message}") from error
    return merged


def fit_codec(
    sketch: _core.Sketch,
    bins: int,
    *,
    method: Method = "l1",
    weight: Weighting = "material",
    signed: bool = False,
    points: Points | None = None,
    tail: Tail | None = None,
    name: str = "lmq",
) -> LloydMaxCodec:
    """Fit a codec to a sketch; the same sketch and options give exactly the same codec.

    Args:
        sketch: the densities to fit to; the codec has their unit.
        bins: number of bins, the tokens of the codec.
        method: how bins are placed, see :data:`METHODS`.
        weight: ``material``: a voxel counts 1 / sum|rho| of its material, so that ``l1`` minimises the mean NMAE over
            materials; ``voxel``: every voxel counts 1.
        signed: place bins below zero, down to the smallest value; otherwise negative values are clipped to zero.
        points: decode to the ``mean`` or ``median`` of a bin; by default means for ``l2`` and ``lloyd``, else medians.
            The boundaries of ``companding`` depend on it.
        tail: bins beyond the values of the sketch, taken from ``bins``; without it, values there are clipped.
        name: of the codec.

    Raises:
        ValueError: an empty sketch, an impossible number of bins, or a tail that ends before the densities do or goes
            below zero in an unsigned codec.
        KeyError: an unknown method or weight.
    """
    points = points or _POINTS.get(method, "median")
    if tail is not None and tail.min < 0.0 and not signed:
        raise ValueError(f"a tail down to {tail.min:g} needs a signed codec")
    below, above = (0, 0) if tail is None else tail.shares(bins)
    fitted = _core.fit(
        sketch,
        bins - below - above,
        method=method,
        weighting=weight,
        signed=signed,
        mean_points=points == "mean",
    )
    # Densities without values below zero give a codec that starts at zero, signed or not.
    fitted["clip_min"] = min(fitted["clip_min"], 0.0)
    if tail is not None:
        fitted = tail.beside(fitted, below, above)
    about: dict[str, Any] = {
        "method": method,
        "weight": weight,
        "points": points,
        "signed": signed,
        "bins_used": fitted["bins_used"],
        "sketch": sketch.hash,
        "n_materials": len(sketch.ids),
        "n_voxels": sketch.n_voxels,
        "nmae_on_sketch": fitted["nmae"],
        "tomat": _core.__version__,
    }
    if tail is not None:
        about["tail"] = fitted["tail"]
    codec = LloydMaxCodec(
        fitted["boundaries"],
        fitted[f"recon_points_{points}"],
        max(fitted["clip_max"], _SMALLEST),
        unit=sketch.unit,
        clip_min=fitted["clip_min"],
        about=about,
        recon_points_mean=fitted["recon_points_mean"],
        recon_points_median=fitted["recon_points_median"],
    )
    codec.name = name
    return codec
