"""A ``rho_gga`` root that grows, material by material, and is complete after each run.

``label/NAME.zarr`` appears whole, when its density is converged: what is there is finished. ``densities.json`` says
with which program, options and pseudopotentials, one set for the folder.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tomat import _core
from tomat.catalogue.division import split_groups
from tomat.categories import chemical_system
from tomat.crystal import Crystal
from tomat.dataset.inputs import splits_of
from tomat.densities.base import Computed
from tomat.formats import FORMATS, write, zarr
from tomat.storage.files import parse_json, read_json, write_atomically, write_json
from tomat.workplace import differences

#: What the densities of the folder have in common.
RECORD = "densities.json"
#: One id a line; the split of each id; one JSON object a line.
FILELIST, SPLIT, TABLE = "mp_filelist.txt", "split.json", "materials.jsonl"
_LABEL, _FAILED, _WORK, _LOCK = "label", "failed", ".work", ".lock"
#: Files that are kept of a failed run: they say why.
_KEPT = 1 << 20


class DensityFolder:
    """The folder.

    Args:
        path: created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            (path / _LABEL).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ValueError(f"{path}: not a directory; give another place for the densities") from error

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The folder for this process alone; what earlier ones left unfinished is deleted.

        Raises:
            ValueError: another process has it.
        """
        try:
            lock = FileLock(self.path / _LOCK, timeout=0).acquire()
        except Timeout:
            raise ValueError(
                f"{self.path}: another tomat densities is at work here; wait for it, or give another folder"
            ) from None
        with lock:
            shutil.rmtree(self.path / _WORK, ignore_errors=True)
            for left in (self.path / _LABEL).glob(".*.tmp"):
                shutil.rmtree(left, ignore_errors=True)
            try:
                yield
            finally:
                shutil.rmtree(self.path / _WORK, ignore_errors=True)

    def begin(self, identity: Mapping[str, Any], pseudopotentials: Mapping[str, str]) -> None:
        """Record how densities are computed.

        Raises:
            ValueError: the folder has densities that were computed in another way.
        """
        file = self.path / RECORD
        known = read_json(file) if file.exists() else {**identity, "pseudopotentials": {}}
        there = known.pop("pseudopotentials", {})
        changes = [
            f"{key} was {known.get(key)!r} and is {identity.get(key)!r}"
            for key in differences(known, identity)
        ]
        changes += [
            f"the pseudopotential of {element} is another"
            for element, digest in pseudopotentials.items()
            if there.get(element, digest) != digest
        ]
        if changes:
            raise ValueError(
                f"{self.path}: has densities of another kind ({'; '.join(changes)}), and a model of both is wrong for "
                "either; give another folder"
            )
        write_json(
            file, {**identity, "pseudopotentials": dict(sorted({**there, **pseudopotentials}.items()))}
        )

    def finished(self, crystal: Crystal) -> bool:
        """Whether the density of a crystal is there.

        Raises:
            ValueError: one of this name is, but of another crystal.
        """
        path = self._density(crystal.name)
        if not path.exists():
            return False
        if _metadata(path).get("crystal_hash") != crystal.hash:
            raise ValueError(
                f"{path}: the density of another crystal (or not of tomat densities); rename the structure, or delete "
                "that folder"
            )
        return True

    @contextlib.contextmanager
    def workplace(self, name: str, telling: Sequence[str]) -> Iterator[Path]:
        """An empty folder for the run of a material; of a failed one, small files named in ``telling`` are kept."""
        kept = self.path / _FAILED / name
        shutil.rmtree(kept, ignore_errors=True)
        (self.path / _WORK).mkdir(exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.path / _WORK)).absolute()
        try:
            yield work
        except (ValueError, OSError):
            kept.mkdir(parents=True, exist_ok=True)
            for file in work.glob("*"):
                if file.name in telling and file.stat().st_size < _KEPT:
                    shutil.copy(file, kept)
            raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
            with contextlib.suppress(OSError):
                (self.path / _FAILED).rmdir()

    def write(self, computed: Computed) -> None:
        """Write a density: all of it, or nothing."""
        material = computed.material.in_unit(FORMATS["zarr"].unit)
        crystal = material.crystal
        facts = {
            "formula": formula(crystal),
            "variant_of": None,
            "scf": computed.scf,
            "crystal_hash": crystal.hash,
        }
        content = zarr.encode(crystal, material.density, material.n_electrons, material.source, facts)
        write(self._density(crystal.name), FORMATS["zarr"], content)

    def close(self, asked: Mapping[str, str], fractions: Mapping[str, float], seed: int) -> dict[str, int]:
        """Write the lists of what is finished, and return how many materials each split has.

        A chemical system that has a side keeps it; those of ``asked`` that have none are divided among themselves, so
        that neither the order nor a failure moves one.

        Args:
            asked: chemical system by name, of all crystals that were asked for.
            fractions: share of each split.
            seed: of the division.
        """
        label = self.path / _LABEL
        names = sorted(path.name.removesuffix(".zarr") for path in label.glob("*.zarr"))
        rows = [_row(name, label / f"{name}.zarr") for name in names]
        systems = {row["task_id"]: str(row["chemsys"]) for row in rows}
        before = splits_of(self.path) if (self.path / SPLIT).exists() else {}
        side = {systems[name]: split for name, split in before.items() if name in systems}
        new = {name: system for name, system in {**asked, **systems}.items() if system not in side}
        if new:
            ids = sorted(new)
            divided = split_groups(ids, [new[name] for name in ids], fractions, seed)
            side |= {new[name]: split for split, members in divided.items() for name in members}
        splits = list(dict.fromkeys([*fractions, *before.values()]))
        members = {split: [name for name in names if side[systems[name]] == split] for split in splits}
        table = "".join(json.dumps({**row, "split": side[row["chemsys"]]}) + "\n" for row in rows)
        write_atomically(self.path / FILELIST, "".join(f"{name}\n" for name in names).encode())
        write_atomically(self.path / TABLE, table.encode())
        # Ids, not indices: they hold whichever of the two lists is the newer one.
        write_json(self.path / SPLIT, members)
        return {split: len(one) for split, one in members.items()}

    def _density(self, name: str) -> Path:
        return self.path / _LABEL / f"{name}.zarr"


def formula(crystal: Crystal) -> str:
    """Symbols with their counts in the cell, in alphabetical order: ``B2P2``."""
    numbers = crystal.atomic_numbers.tolist()
    counts = sorted((_core.elements()[z - 1], numbers.count(z)) for z in set(numbers))
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in counts)


def _metadata(path: Path) -> dict[str, Any]:
    attributes = read_json(path / "zarr.json").get("attributes")
    text = attributes.get("metadata") if isinstance(attributes, dict) else None
    return parse_json(text.encode(), path) if isinstance(text, str) else {}


def _row(name: str, path: Path) -> dict[str, Any]:
    """A line of the table, from the metadata alone."""
    attributes = read_json(path / "zarr.json")["attributes"]
    metadata = json.loads(attributes["metadata"])
    structure = json.loads(attributes["structure"])
    array = read_json(path / "charge_density_total" / "zarr.json")
    lattice = structure["lattice"]
    return {
        "task_id": name,
        "formula": metadata["formula"],
        "chemsys": chemical_system(site["label"] for site in structure["sites"]),
        "natoms": len(structure["sites"]),
        "grid": array["shape"],
        "nelec": round(metadata["n_electrons"], 6),
        "V": lattice["volume"],
        "angles": [round(lattice[name], 2) for name in ("alpha", "beta", "gamma")],
        "n_iter": metadata.get("scf", {}).get("n_iter"),
    }
