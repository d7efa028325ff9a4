"""Probes of what a model's predictions depend on: changed crystals are predicted beside the original.

Each probe predicts every material again, as a :class:`tomat.evaluate.alterations.Variant`. ``change`` is the NMAE of
that prediction minus the NMAE of the plain one; ``moved`` is sum |prediction - plain prediction| / sum |true|, which
also sees changes that leave the error the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat import _core, metrics
from tomat.evaluate.aggregate import Settings
from tomat.evaluate.alterations import PROBES, Probe, Variant, generator
from tomat.evaluate.measure import Truth
from tomat.evaluate.methods import EXPECTED, PatchMethod, Predicted
from tomat.evaluate.result import write_rows
from tomat.evaluate.run import message, versions
from tomat.evaluate.tables import interval, percent
from tomat.material import Entry, Material, read
from tomat.prediction.assemble import CellRequest
from tomat.prediction.cover import cover
from tomat.prediction.predictor import PatchRequest
from tomat.storage.files import read_json, write_atomically
from tomat.tokenizer import PatchTokenizer
from tomat.view.table import Table
from tomat.workplace import Workplace

#: Columns of ``probes.parquet``, with their Arrow types.
COLUMNS = {
    "task_id": "string",
    "mode": "string",
    "probe": "string",
    "what": "string",
    **dict.fromkeys(("data_hash", "formula", "chemsys", "category"), "string"),
    **dict.fromkeys(("n_electrons", "nmae", "plain_nmae", "change", "moved", "same_tokens"), "float64"),
}

#: Means of a summary, by name, and their columns.
_MEANS = {"plain": "plain_nmae", "nmae": "nmae", "change": "change", "moved": "moved"}
#: Materials that supply other preambles.
_POOL = 16


@dataclass(frozen=True)
class Probing:
    """Settings of a probe run.

    Attributes:
        method: a patch predictor of one mode.
        entries: the materials.
        probes: names of :data:`tomat.evaluate.alterations.PROBES`; all if empty.
        seed: of the random changes.
        data: origin of the materials, as JSON.
        name: its name in tables.
        command: the command line.
        settings: of the intervals.
    """

    method: PatchMethod
    entries: Sequence[Entry]
    probes: Sequence[str] = ()
    seed: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    command: tuple[str, ...] = ()
    settings: Settings = field(default_factory=Settings)

    def chosen(self) -> list[Probe]:
        """The probes that apply to the method."""
        unknown = [name for name in self.probes if name not in PROBES]
        if unknown:
            raise KeyError(f"unknown probe {unknown[0]!r}; known: {', '.join(PROBES)}")
        found = [PROBES[name] for name in self.probes or PROBES]
        if self.method.predictor.needs_guess:
            return found
        return [probe for probe in found if probe.needs != "guess"]

    def identity(self) -> dict[str, Any]:
        """Everything the numbers depend on."""
        return {
            "tomat": _core.__version__,
            "name": self.name,
            "mode": self.method.mode,
            "method": self.method.identity(),
            "probes": [probe.name for probe in self.chosen()],
            "seed": self.seed,
            "data": {**self.data, "materials": [[e.task_id, e.path] for e in self.entries]},
            "command": list(self.command),
            "versions": versions(),
        }


def probe(
    plan: Probing,
    folder: Path,
    *,
    overwrite: bool = False,
    watch: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Probe every material that ``folder`` does not hold yet; write ``probes.parquet`` and ``probes.json`` there.

    Returns:
        The content of ``probes.json``.

    Raises:
        KeyError: an unknown probe.
        ValueError: the folder belongs to another run, or every material failed.
    """
    place = Workplace(folder, plan.identity(), overwrite=overwrite)
    probes = plan.chosen()
    pool = list(_pool(plan.entries))
    parts = []
    for entry in plan.entries:
        part = place.read(entry.task_id, entry.path)
        if part is None or part["errors"]:
            part = _one(plan, probes, entry, pool)
            place.write(entry.task_id, part)
        parts.append(part)
        if watch:
            watch(entry.task_id)
    rows = [row for part in parts for row in part["rows"]]
    errors = [error for part in parts for error in part["errors"]]
    if not rows:
        raise ValueError(f"none of {len(parts)} materials could be probed; the first: {errors[0]['error']}")
    content = {
        "format": "tomat probes",
        "version": 1,
        "n_materials": len({row["task_id"] for row in rows}),
        "n_errors": len(errors),
        "identity": place.identity,
        "intervals": asdict(plan.settings),
        "probes": summarise(rows, plan.settings),
        "errors": errors,
    }
    content["parquet_sha256"] = write_rows(folder / "probes.parquet", rows, COLUMNS)
    write_atomically(folder / "probes.json", (json.dumps(content, indent=1) + "\n").encode())
    return content


def _pool(entries: Sequence[Entry]) -> Iterator[Material]:
    """Materials for other preambles; one that cannot be read is reported when it is probed itself."""
    for entry in entries[:_POOL]:
        try:
            yield read(entry.path)
        except EXPECTED:
            continue


def _one(plan: Probing, probes: Sequence[Probe], entry: Entry, pool: Sequence[Material]) -> dict[str, Any]:
    part: dict[str, Any] = {"task_id": entry.task_id, "path": entry.path, "rows": [], "errors": []}
    try:
        truth = Truth.of(read(entry.path), entry.path, plan.method.unit)
        part["rows"] = list(probe_material(plan.method, truth, probes, pool, plan.seed))
    except EXPECTED as error:
        part["errors"].append({"task_id": entry.task_id, "mode": plan.method.mode, "error": message(error)})
    return part


def probe_material(
    method: PatchMethod, truth: Truth, probes: Sequence[Probe], pool: Sequence[Material], seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Rows of :data:`COLUMNS` for one material and the probes that apply to it.

    Raises:
        ValueError: the material cannot be predicted.
    """
    material = truth.material
    shape = _patch_shape(method, material, material.crystal.n_atoms)
    # A preamble of another length may need another patch shape.
    fitting = [x for x in pool if _patch_shape(method, material, x.crystal.n_atoms) == shape]
    variants = [one.make(material, generator(seed, material.task_id, one.name), fitting) for one in probes]
    made = [(one, variant) for one, variant in zip(probes, variants, strict=True) if variant is not None]
    # All at once, so that batches span variants.
    cells = [CellRequest.of(variant.material, variant.alter) for _, variant in made]
    found = (_density(one) for one in method.predict_cells([CellRequest.of(material), *cells]))
    plain, true = next(found), material.density.astype(np.float64)
    plain_nmae = metrics.nmae(plain, true)
    for (one, variant), predicted in zip(made, found, strict=True):
        error = metrics.nmae(predicted, variant.material.density)
        yield {
            **{key: truth.facts[key] for key in COLUMNS if key in truth.facts},
            "mode": method.mode,
            "probe": one.name,
            "what": variant.what,
            "nmae": error,
            "plain_nmae": plain_nmae,
            "change": error - plain_nmae,
            "moved": float(np.abs(variant.back(predicted) - plain).sum() / np.abs(true).sum()),
            "same_tokens": same_tokens(method, material, variant),
        }


def _patch_shape(method: PatchMethod, material: Material, n_atoms: int) -> tuple[int, int, int]:
    """The patches of a material, if it had ``n_atoms``."""
    return method.predictor.patch_shape(n_atoms, material.grid_shape, method.overlap)


def _density(predicted: Predicted | Exception) -> NDArray[np.float64]:
    if isinstance(predicted, Exception):
        raise predicted
    return predicted.density


def same_tokens(method: PatchMethod, material: Material, variant: Variant) -> float | None:
    """Share of patches whose preamble tokens are unchanged; None if the material itself is changed."""
    if variant.alter is None:
        return None
    of = method.predictor.tokenizer
    patches = cover(
        material.grid_shape, _patch_shape(method, material, material.crystal.n_atoms), method.overlap
    )
    cell = CellRequest.of(material)
    asked = [cell.patch(patches, index) for index in range(len(patches))]
    changed = [variant.alter(request) for request in asked]
    # Patches of one voxel, since only the preamble is compared.
    atoms = max(request.crystal.n_atoms for request in (*asked, *changed))
    tokenizer = PatchTokenizer(
        of.layout.name, of.density_codec, patch_size=1, pad_to=of.length(atoms, (1, 1, 1)), unit=of.unit
    )
    empty = {request.grid_shape: np.zeros(request.grid_shape, np.float32) for request in (*asked, *changed)}

    def preamble(request: PatchRequest) -> NDArray[np.int32]:
        of, density = request.crystal, empty[request.grid_shape]
        return tokenizer.encode(density, of.lattice, of.atomic_numbers, of.frac_coords, [request.offset])

    same = [(preamble(a) == preamble(b)).all() for a, b in zip(asked, changed, strict=True)]
    return float(np.mean(same))


def summarise(rows: Sequence[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """For each probe: number of materials, mean NMAE without and with it, ``change`` and ``moved`` with intervals."""
    found = {}
    for name in [name for name in PROBES if any(row["probe"] == name for row in rows)]:
        members = sorted((row for row in rows if row["probe"] == name), key=lambda row: row["task_id"])
        resampler = settings.resampler(members)
        tokens = [row["same_tokens"] for row in members if row["same_tokens"] is not None]
        found[name] = {
            "says": PROBES[name].says,
            "n": len(members),
            **{
                name: resampler.mean([row[column] for row in members])._asdict()
                for name, column in _MEANS.items()
            },
            "moved_max": max(float(row["moved"]) for row in members),
            "same_tokens": float(np.mean(tokens)) if tokens else None,
        }
    return found


def load_probes(path: str | Path) -> dict[str, Any]:
    """The content of ``probes.json`` in a folder."""
    place = Path(path) / "probes.json" if Path(path).is_dir() else Path(path)
    if not place.exists():
        raise FileNotFoundError(f"{place}: not found; run tomat probe to make it")
    content = read_json(place)
    if content.get("format") != "tomat probes":
        raise ValueError(f"{place}: not a result of tomat probe")
    return content


def probe_table(content: dict[str, Any]) -> Table:
    """A table with one row per probe."""
    head = ("probe", "materials", "NMAE, %", "change, points", "moved, %", "same tokens, %", "tests")
    rows = [
        (
            name.replace("_", " "),
            str(of["n"]),
            f"{percent(of['plain']['value'])} to {percent(of['nmae']['value'])}",
            interval(of["change"]),
            percent(of["moved"]["value"]),
            percent(of["same_tokens"]),
            of["says"],
        )
        for name, of in content["probes"].items()
    ]
    note = (
        "Means over materials. Change: NMAE with minus without the probe. Moved: sum |prediction - plain prediction| / "
        "sum |true|. Same tokens: share of patches with an unchanged preamble."
    )
    return Table(f"Probes, {content['identity']['mode'].replace('_', ' ')}", head, tuple(rows), (), note)
