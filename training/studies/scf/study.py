"""What starting densities are worth to Quantum ESPRESSO, crystal by crystal."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat import metrics
from tomat.crystal import Crystal
from tomat.dataset.inputs import splits_of
from tomat.densities.qe.pw import Run, run
from tomat.material import Material, read
from tomat.prediction.assemble import CellRequest, Failure, predict_densities
from tomat.prediction.predictor import PatchPredictor
from tomat.storage.files import open_bytes, parse_json, read_json, write_json
from training.studies.scf import pw

#: Splits whose crystals nobody trained on.
HELD_OUT = ("validation", "test")
#: The start that is the density itself: what it costs to write it down and read it.
EXACT = "exact"
#: What ``pw.x`` leaves.
_SCHEMA = "x.save/data-file-schema.xml"
#: To which band energies are converged, Ry. What conv_thr asks for (1e-11) some empty bands do not reach.
_THRESHOLD = "1d-9"
#: Largest difference of the cells of a density and of its input, angstrom.
_CELL = 1e-6


@dataclass(frozen=True)
class Candidate:
    """A held-out crystal that could be measured.

    Attributes:
        task_id, formula, chemsys: of the crystal.
        path: of its density.
        cost: of a run, relative: points x electrons x irreducible k points.
        pw_input: the input of ``pw.x`` that made the density.
    """

    task_id: str
    formula: str
    chemsys: str
    path: str
    cost: float
    pw_input: str


@dataclass(frozen=True)
class StudyConfig:
    """How a study measures.

    Attributes:
        pseudo: folder of pseudopotentials, plain or gzipped.
        command: ``pw.x``.
        window: bands are counted up to this many eV above the Fermi level.
        scf: run the self-consistent cycle too, from pw.x's own superposition and from each start, and compare the bands
            of the exact density with those that pw.x finds from its own file.
        timeout: seconds a run may take.
    """

    pseudo: Path
    command: str = "pw.x"
    window: float = 2.0
    scf: bool = False
    timeout: float = 1800.0


def choose(root: Path, count: int) -> list[Candidate]:
    """The crystals to measure: the cheapest one of each of the ``count`` cheapest chemical systems.

    Of those held out (validation and test) that ``pw.x`` made without spin, with two elements or more (in a crystal of
    one element there is little charge to move); strained and rattled variants are left out. No error is looked at.
    """
    held_out = [name for name, split in splits_of(root).items() if split in HELD_OUT]
    listed = (_candidate(root / "label" / f"{name}.zarr") for name in sorted(held_out))
    chosen: dict[str, Candidate] = {}
    for one in sorted((one for one in listed if one is not None), key=lambda one: (one.cost, one.task_id)):
        chosen.setdefault(one.chemsys, one)
    return list(chosen.values())[:count]


def _candidate(path: Path) -> Candidate | None:
    attributes = parse_json(open_bytes(path / "zarr.json"), path)["attributes"]
    metadata = json.loads(attributes["metadata"])
    source = metadata.get("source")
    if (
        not isinstance(source, dict)
        or source.get("nspin") != 1
        or "pw_input" not in source
        or metadata["variant_of"]
    ):
        return None
    crystal = read(path)
    elements = sorted({int(z) for z in crystal.atomic_numbers})
    if len(elements) < 2:
        return None
    cost = crystal.density.size * crystal.n_electrons * metadata["scf"]["nk_irr"]
    chemsys = "-".join(map(str, elements))
    return Candidate(path.stem, metadata["formula"], chemsys, str(path), cost, source["pw_input"])


def run_study(
    chosen: Sequence[Candidate], starts: dict[str, PatchPredictor], config: StudyConfig, out: Path
) -> Iterator[dict[str, Any]]:
    """Measure crystals and yield a row for each; those measured before with the same predictors are read from ``out``.

    Raises:
        ValueError, OSError: a prediction or a run of ``pw.x`` failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    identity = {"starts": {name: one.identity() for name, one in starts.items()}, "window": config.window}
    # As it comes back from JSON.
    identity = json.loads(json.dumps(identity))
    for one in chosen:
        file = out / f"{one.task_id}.json"
        known = read_json(file) if file.exists() else {}
        if known.get("identity") == identity and ("scf" in known or not config.scf):
            yield known
            continue
        row = {**measure_crystal(one, starts, config), "identity": identity}
        write_json(file, row)
        yield row


def measure_crystal(one: Candidate, starts: dict[str, PatchPredictor], config: StudyConfig) -> dict[str, Any]:
    """The errors of one crystal by start, and of the bands that ``pw.x`` finds from each."""
    given = read(one.path)
    crystal = replace(given.crystal, lattice=_lattice(one, given.crystal))
    truth = replace(given, crystal=crystal).with_source(**_cutoffs(one.pw_input))
    predicted = {name: _predicted(predictor, truth) for name, predictor in starts.items()}
    densities = {EXACT: truth} | {name: density for name, (density, _) in predicted.items()}
    with tempfile.TemporaryDirectory(prefix="tomat-scf-") as name:
        work = Path(name)
        pw.unpack(config.pseudo, sorted(set(pw.species_of(one.pw_input).values())), work)
        text = pw.with_variable(one.pw_input, "control", "prefix", "'x'")
        for key, value in {"outdir": "'.'", "pseudo_dir": "'.'", "tstress": ".false."}.items():
            text = pw.with_variable(text, "control", key, value)
        nscf = pw.with_variable(text, "control", "calculation", "'nscf'")
        nscf = pw.with_variable(nscf, "electrons", "diago_thr_init", _THRESHOLD)
        found: dict[str, tuple[pw.Bands, Run]] = {}
        for start, density in densities.items():
            _write(density, work)
            ran = run(config.command, work, nscf, config.timeout)
            found[start] = (pw.bands_of(work / _SCHEMA), ran)
        reference = found[EXACT][0]
        rows = {
            start: _errors(densities[start], truth, found[start], reference, config) for start in densities
        }
        rows[EXACT]["band_error"] = None
        for start, (_, seconds) in predicted.items():
            rows[start]["prediction_seconds"] = seconds
        row: dict[str, Any] = {
            "task_id": one.task_id,
            "formula": one.formula,
            "atoms": crystal.n_atoms,
            "k_points": len(reference.energies),
            "states": int((reference.energies <= reference.fermi + config.window).sum()),
            "starts": rows,
        }
        if not config.scf:
            return row
        from_file = pw.with_variable(text, "electrons", "startingpot", "'file'")
        for start, density in densities.items():
            _write(density, work)
            rows[start]["scf"] = asdict(run(config.command, work, from_file, config.timeout))
        shutil.rmtree(work / "x.save")
        row["scf"] = asdict(run(config.command, work, text, config.timeout))
        run(config.command, work, nscf, config.timeout)
        rows[EXACT]["band_error"] = pw.band_error(reference, pw.bands_of(work / _SCHEMA), config.window)
        return row


def _errors(
    density: Material,
    truth: Material,
    found: tuple[pw.Bands, Run],
    reference: pw.Bands,
    config: StudyConfig,
) -> dict[str, Any]:
    """The errors of a density, and of the bands found from it."""
    bands, ran = found
    predicted, true = (one.in_unit("chgcar").density for one in (density, truth))
    return {
        "nmae": metrics.nmae(predicted, true),
        "hartree_error": metrics.hartree_error(predicted, true, truth.lattice),
        "band_error": pw.band_error(bands, reference, config.window),
        "fermi_error": 1000.0 * (bands.fermi - reference.fermi),
        "nscf_seconds": ran.seconds,
    }


def _write(density: Material, work: Path) -> None:
    shutil.rmtree(work / "x.save", ignore_errors=True)
    density.write(work / "x.save")


def _lattice(one: Candidate, crystal: Crystal) -> NDArray[np.float64]:
    """The cell to the digits of the input, in which ``pw.x`` orders its G vectors."""
    lattice = pw.lattice_of(one.pw_input)
    if np.abs(lattice - crystal.lattice).max() > _CELL:
        raise ValueError(
            f"{one.path}: the cells of the density and of its pw_input differ by more than {_CELL:g} A"
        )
    return lattice


def _cutoffs(text: str) -> dict[str, float]:
    found = {name: re.search(rf"{name}\s*=\s*([\d.]+)", text) for name in ("ecutwfc", "ecutrho")}
    return {f"{name}_Ry": float(match[1]) for name, match in found.items() if match is not None}


def _predicted(predictor: PatchPredictor, truth: Material) -> tuple[Material, float]:
    """A prediction on the grid of the truth, scaled to its electrons, and the seconds it took."""
    cell = CellRequest(truth.crystal, truth.grid_shape, None, float(round(truth.n_electrons)))
    (outcome,) = predict_densities(predictor, [cell], normalize=True)
    if isinstance(outcome, Failure):
        raise outcome.error
    return outcome.material.with_source(**truth.source), outcome.seconds
