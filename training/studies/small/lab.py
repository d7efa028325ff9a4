"""Trainings and evaluations of a study, as the commands anyone would type; what is finished is not done again."""

from __future__ import annotations

import hashlib
import json
import resource
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.evaluate.result import Result, load_result
from tomat.report.runs import TrainingRun, load_training_run
from tomat.storage.files import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Configurations of the repository.
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
#: Prefix of the densities that are used: converged with Quantum ESPRESSO, strained and rattled ones among them.
PREFIX = "qe"
#: A crystal of more voxels is not in the splits ``small`` and ``seen``.
SMALL_VOXELS = 45_000
#: Training crystals in the split ``seen``.
SEEN = 12
#: Held-out crystals in the split ``few``.
FEW = 8
#: Nested parts of the training crystals, each of half the chemical systems of the next.
PARTS = 5
#: Seed of their draw.
PARTS_SEED = 0


@dataclass(frozen=True)
class Training:
    """A run of ``tomat train``.

    Attributes:
        name: of the run.
        config: file below :data:`CONFIGS`.
        options: fields that differ from it, ``--KEY VALUE``.
    """

    name: str
    config: str
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Lab:
    """A folder with the runs and results of studies.

    Attributes:
        data: a ``rho_gga`` root with ``materials.jsonl`` and ``split.json``.
        out: receives ``runs/``, ``results/``, ``split.json`` and ``commands.jsonl``.
        quiet: print no commands.
    """

    data: Path
    out: Path
    quiet: bool = False

    @cached_property
    def crystals(self) -> list[dict[str, Any]]:
        """The densities that are used, a line of ``materials.jsonl`` each.

        Raises:
            FileNotFoundError: ``data`` is no such root.
        """
        place = self.data / "materials.jsonl"
        if not place.exists():
            raise FileNotFoundError(
                f"{place}: not found; give a rho_gga root with materials.jsonl and split.json"
            )
        lines = [json.loads(line) for line in place.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line["task_id"].startswith(PREFIX)]

    def systems(self) -> list[str]:
        """The chemical systems of the training crystals, in an order drawn by name."""
        names = sorted({line["chemsys"] for line in self.crystals if line["split"] == "train"})
        return [names[i] for i in np.random.default_rng(PARTS_SEED).permutation(len(names))]

    def parts(self) -> dict[str, list[str]]:
        """Nested parts of the training crystals by name: whole chemical systems, in the last part all of them."""
        place = {name: at for at, name in enumerate(self.systems())}
        found = {}
        for part in range(PARTS):
            kept = round(len(place) / 2 ** (PARTS - 1 - part))
            ids = [
                line["task_id"]
                for line in self.crystals
                if line["split"] == "train" and place[line["chemsys"]] < kept
            ]
            found[f"train-{part}"] = ids
        return found

    def split_file(self) -> Path:
        """Write ``split.json``: the splits of the root, ``held-out`` (validation and test), nested parts of ``train``.

        Of crystals of at most :data:`SMALL_VOXELS` voxels: ``small``, all held-out ones; ``few``, :data:`FEW` of them;
        ``seen``, :data:`SEEN` of ``train``.
        """
        splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
        for line in self.crystals:
            splits[line["split"]].append(line["task_id"])
        splits["held-out"] = splits["validation"] + splits["test"]
        voxels = {line["task_id"]: int(np.prod(line["grid"])) for line in self.crystals}
        splits["small"] = [name for name in splits["held-out"] if voxels[name] <= SMALL_VOXELS]
        splits["seen"] = _drawn([name for name in splits["train"] if voxels[name] <= SMALL_VOXELS], SEEN)
        splits["few"] = _drawn(splits["small"], FEW)
        path = self.out / "split.json"
        self.out.mkdir(parents=True, exist_ok=True)
        write_json(path, splits | self.parts())
        return path

    def train(self, training: Training) -> TrainingRun:
        """Train, or go on where it was stopped, unless the run is finished.

        Raises:
            RuntimeError: the command failed.
            ValueError: the run is, or was begun as, another training.
        """
        run = self.out / "runs" / training.name
        done, begun, digest = run / "finished.json", run / "begun.json", self.digest(training)
        for stated in (done, begun):
            if stated.exists() and json.loads(stated.read_text(encoding="utf-8"))["digest"] != digest:
                raise ValueError(
                    f"{run}: was trained with other settings or on other materials; choose another folder, or delete it"
                )
        if run.exists() and not (done.exists() or begun.exists()):
            raise ValueError(f"{run}: does not say what was begun there; choose another folder, or delete it")
        if not done.exists():
            run.mkdir(parents=True, exist_ok=True)
            write_json(begun, {"digest": digest})
            options = {"data.densities": f"[{self.data}]", "validation.densities": f"[{self.data}]"}
            flags = [
                part
                for key, value in (options | dict(training.options)).items()
                for part in (f"--{key}", str(value))
            ]
            config = CONFIGS / training.config
            seconds = self._run(
                "train", str(config), "--name", training.name, "--out", str(self.out / "runs"), *flags, "-q"
            )
            write_json(done, {"digest": digest, "cpu_seconds": seconds})
        return load_training_run(run)

    def digest(self, training: Training) -> str:
        """SHA-256 of all that decides a training: its configuration, its options, the materials of its splits."""
        config, listed = CONFIGS / training.config, self.out / "split.json"
        splits = json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else {}
        own = splits.get(str(training.options.get("data.split")))
        decided = [
            config.read_text(encoding="utf-8"),
            sorted(
                (key, str(value)) for key, value in training.options.items() if not key.endswith("split_file")
            ),
            own,
        ]
        return hashlib.sha256(json.dumps(decided).encode()).hexdigest()

    def cpu_seconds(self, training: Training) -> float:
        """CPU seconds that a finished run took, start and evaluations included; of its last part if it was stopped."""
        content = json.loads(
            (self.out / "runs" / training.name / "finished.json").read_text(encoding="utf-8")
        )
        return float(content["cpu_seconds"])

    def evaluate(self, name: str, checkpoint: str | Path, split: str, *options: str) -> Result:
        """Evaluate on whole crystals of a split, unless that is done.

        Raises:
            RuntimeError: the command failed.
        """
        folder = self.out / "results" / name
        if not (folder / "result.json").exists():
            listed = self.out / "split.json"
            self._run(
                "eval", str(checkpoint), str(self.data), "--split-file", str(listed), "--split", split,
                "--pictures", "0", "-o", str(folder), *options, "-q",
            )  # fmt: skip
        return load_result(folder)

    def run_of(self, training: Training) -> Path:
        """The folder of a run."""
        return self.out / "runs" / training.name

    def _run(self, *words: str) -> float:
        """Run a command of tomat; the CPU seconds it took."""
        said = shlex.join(["tomat", *words])
        if not self.quiet:
            print(said, file=sys.stderr, flush=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "tomat", *words], check=False, capture_output=True, text=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if done.returncode:
            tail = "\n".join(done.stderr.splitlines()[-5:])
            raise RuntimeError(f"{said}: exit code {done.returncode}:\n{tail}")
        with (self.out / "commands.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"command": said, "cpu_seconds": round(seconds, 1)}) + "\n")
        return seconds


def _drawn(names: Sequence[str], n: int) -> list[str]:
    return sorted(names[i] for i in np.random.default_rng(PARTS_SEED).permutation(len(names))[:n])


def mean_nmae(result: Result, mode: str) -> float:
    """Mean NMAE over the materials of a result.

    Raises:
        KeyError: the result has no such mode.
    """
    return float(result.aggregates[mode]["metrics"]["nmae"]["mean"]["value"])
