"""The output folder of predictions, which makes runs resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tomat._core import __version__
from tomat.formats import COMPRESSORS, FORMATS
from tomat.material import Material
from tomat.prediction.assemble import CellRequest, Prediction
from tomat.prediction.page import facts_of, write_page
from tomat.prediction.picture import Sight, Start
from tomat.prediction.preview import preview
from tomat.storage.files import read_json, write_json
from tomat.workplace import differences


@dataclass(frozen=True)
class Picture:
    """A kind of picture of a prediction.

    Attributes:
        suffix: of its files.
        write: writes it to a path.
    """

    suffix: str
    write: Callable[[Sight, Path], None]


#: Pictures by the name that ``--format`` takes.
PICTURES = {"png": Picture(".png", preview), "html": Picture(".html", write_page)}
#: Values of ``--format``; text formats may be followed by .gz, .bz2, .xz or .zst.
OUTPUT_FORMATS = (*FORMATS, *PICTURES)


def parse_formats(names: Sequence[str]) -> tuple[str, ...]:
    """File suffixes of formats: ``chgcar.gz`` gives ``.CHGCAR.gz``."""
    suffixes = []
    for name in names:
        kind, _, compression = name.lower().partition(".")
        form = FORMATS.get(kind)
        fits = not compression or (form is not None and form.is_text and f".{compression}" in COMPRESSORS)
        if kind not in OUTPUT_FORMATS or not fits:
            text = [one.name for one in FORMATS.values() if one.is_text]
            raise ValueError(
                f"unknown format {name!r}; known: {', '.join(OUTPUT_FORMATS)}, and {', '.join(text)} compressed "
                f"({', '.join(text[0] + suffix for suffix in COMPRESSORS)})"
            )
        suffixes.append(
            (PICTURES[kind].suffix if form is None else form.suffix)
            + (f".{compression}" if compression else "")
        )
    return tuple(dict.fromkeys(suffixes))


@dataclass(frozen=True)
class OutputFolder:
    """A folder with ``NAME.zarr``, ``NAME.CHGCAR``, ... and ``NAME.json`` for each crystal.

    The record ``NAME.json`` says what the files were made from. It is written last and marks them as complete.

    Attributes:
        path: the folder.
        suffixes: of the files of each prediction, see :func:`parse_formats`.
        identity: everything predictions depend on except the crystal and its grid.
    """

    path: Path
    suffixes: tuple[str, ...]
    identity: dict[str, Any]

    def finished(self, cell: CellRequest, *, overwrite: bool = False) -> dict[str, Any] | None:
        """The record of a complete prediction; None if it has to be made."""
        record_file = self._file(cell.crystal.name, ".json")
        if not record_file.exists():
            return None
        record = read_json(record_file)
        wanted = self._made_from(cell)
        there = record.get("made_from")
        there = there if isinstance(there, dict) else {}
        differing = differences(wanted, there)
        if differing and overwrite:
            return None
        if differing:
            changes = ", ".join(
                f"{key} was {there.get(key)!r} and is {wanted.get(key)!r}" for key in differing
            )
            raise ValueError(
                f"{record_file}: was predicted with other options ({changes}); give another folder, or --overwrite"
            )
        if not all(self._file(cell.crystal.name, suffix).exists() for suffix in self.suffixes):
            return None
        return record

    def write(
        self,
        prediction: Prediction,
        *,
        truth: Material | None = None,
        start: Start | None = None,
        augmentation: bytes = b"",
        extra: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write the files of a prediction, then its record with ``extra``; returns the record.

        Pictures compare with ``truth``, or else with the promolecule ``start``.

        Raises:
            OSError: a file cannot be written.
            ValueError: a format cannot represent the density.
        """
        cell, name = prediction.cell, prediction.material.task_id
        started = time.perf_counter()
        # The record marks complete files, so it is removed while they change.
        self._file(name, ".json").unlink(missing_ok=True)
        facts = facts_of(prediction, extra or {})
        sight = Sight(prediction.material, truth, prediction.spread, start, facts)
        pictures = {picture.suffix: picture for picture in PICTURES.values()}
        for suffix in self.suffixes:
            target = self._file(name, suffix)
            picture = pictures.get(suffix)
            if picture is None:
                prediction.material.write(target, augmentation=augmentation)
            else:
                picture.write(sight, target)
        files = [f"{name}{suffix}" for suffix in self.suffixes]
        if prediction.spread is not None:
            files.append(f"{name}.spread.zarr")
            source = {"format": "prediction", "what": "standard deviation of the prediction"}
            spread = Material.on(cell.crystal, prediction.spread, prediction.material.unit, source)
            spread.write(self.path / files[-1])
        record = {
            "name": name,
            "files": files,
            "mode": prediction.mode,
            "unit": prediction.material.unit,
            "electrons": asdict(prediction.electrons),
            "seams": asdict(prediction.seams),
            "n_atoms": cell.crystal.n_atoms,
            "n_patches": prediction.n_patches,
            "seconds": round(prediction.seconds, 6),
            "seconds_writing": round(time.perf_counter() - started, 6),
            "version": __version__,
            **(extra or {}),
            "made_from": self._made_from(cell),
        }
        write_json(self._file(name, ".json"), record)
        return record

    def _made_from(self, cell: CellRequest) -> dict[str, Any]:
        return {
            **self.identity,
            "crystal": cell.crystal.hash,
            "grid": list(cell.grid_shape),
            "electrons": cell.electrons,
        }

    def _file(self, name: str, suffix: str) -> Path:
        return self.path / f"{name}{suffix}"
