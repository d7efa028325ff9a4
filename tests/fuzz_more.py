"""What ``fuzz.py`` damages besides densities and their rows: crystals as language, and models in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import tomat
from mutations import mutate_bytes, mutate_json, mutate_text
from places import DATA
from tomat.language import CrystalLanguage
from tomat.language.dataset import CrystalConfig, open_crystals, write_crystals
from tomat.language.sources import read_crystals
from tomat.language.text import read_text, write_text

if TYPE_CHECKING:
    import random

    from mutations import Mutation

LANGUAGE = CrystalLanguage(4096)
_MOST = 2**31 - 1


def _crystal() -> tomat.Crystal:
    return tomat.read(DATA / "rho_gga" / "label" / "qe-0039.zarr").crystal


# --- crystals -----------------------------------------------------------------------------------------------


def crystal_row(folder: Path) -> dict[str, Mutation]:
    """A row with conditions, something masked, and the answer."""
    (folder / "ids").write_bytes(LANGUAGE.encode(_WRITTEN).astype("<i4").tobytes())
    return {"ids": _mutate_ids}


def _mutate_ids(luck: random.Random, data: bytes) -> bytes:
    ids = np.frombuffer(data, dtype="<i4").copy()
    for _ in range(luck.choice((1, 1, 2, 5))):
        at, other = luck.randrange(len(ids)), luck.randrange(len(ids))
        size = LANGUAGE.total_size
        ids[at] = luck.choice((int(ids[other]), luck.randrange(size), luck.randrange(30), -1, size, _MOST))
    return ids[: luck.choice((len(ids), luck.randrange(len(ids) + 1)))].tobytes()


def read_crystal_row(folder: Path) -> object:
    """A row that is read is written again as it was."""
    ids = np.frombuffer((folder / "ids").read_bytes(), dtype="<i4")
    read = LANGUAGE.decode(ids)
    again = LANGUAGE.encode(read)
    assert np.array_equal(again, ids[: len(again)]), (again, ids)
    return LANGUAGE.show(ids)


def crystal_table(folder: Path) -> dict[str, Mutation]:
    crystal = _crystal()
    row = {
        "id": "a",
        "lattice": crystal.lattice.ravel().tolist(),
        "atomic_numbers": crystal.atomic_numbers.tolist(),
        "frac_coords": crystal.frac_coords.ravel().tolist(),
        "gap": 1.5,
    }
    pq.write_table(pa.Table.from_pylist([row, {**row, "id": "b"}]), folder / "x.parquet")
    (folder / "x.json").write_text(json.dumps({"c": row, "d": crystal.to_pymatgen().as_dict()}))
    return {"x.parquet": mutate_bytes, "x.json": mutate_json}


def read_tables(folder: Path) -> object:
    return [list(read_crystals([folder / name])) for name in ("x.parquet", "x.json")]


def crystal_text(folder: Path) -> dict[str, Mutation]:
    (folder / "x.txt").write_text(write_text(_crystal()))
    return {"x.txt": mutate_text}


def read_crystal_text(folder: Path) -> object:
    """A text that is read is written again as it was."""
    text = (folder / "x.txt").read_bytes().decode("utf-8", errors="replace")
    again = write_text(read_text(text, "x.txt"))
    assert again == text.removesuffix("\n"), (again, text)
    return again


def crystal_dataset(folder: Path) -> dict[str, Mutation]:
    from fuzz_targets import resealed

    config = CrystalConfig(4096, "shuffled", 2, formula=True, n_atoms=True)
    write_crystals([DATA / "crystals"], folder / "rows", config)
    return {
        "rows/meta.json": resealed("meta_sha256"),
        "rows/shard-00000.parquet": mutate_bytes,
        "rows/crystals.parquet": mutate_bytes,
    }


def read_crystal_dataset(folder: Path) -> object:
    return open_crystals(folder / "rows").verify()


# --- models in one file -------------------------------------------------------------------------------------


def artefact(folder: Path) -> dict[str, Mutation]:
    """A model of a few weights in each encoding."""
    from tomat.lm.artefact.file import artefact_bytes, write_artefact
    from tomat.lm.artefact.rounding import nearest
    from tomat.lm.artefact.tensors import of_rounded, of_vector, plain
    from tomat.lm.record import seal_note

    weight = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    tensors = [
        of_rounded("w", nearest(weight, 6), 0),
        of_rounded("turned", nearest(weight.T.copy(), 3), 1),
        of_vector("bias", weight[0]),
        plain("plain", weight, "float32"),
    ]
    files = {"tomat.json": json.dumps(seal_note({"name": "x"})).encode(), "README.md": b"# A card\n"}
    write_artefact(folder / "x.tomat", artefact_bytes(files, tensors, {"kind": "field", "name": "x"}))
    return {"x.tomat": _mutate_artefact}


def _mutate_artefact(luck: random.Random, data: bytes) -> bytes:
    """Bytes, or the header with its digest made right: behind the digest there is more to be read."""
    import hashlib

    if luck.random() < 0.4:
        return mutate_bytes(luck, data)
    length = int.from_bytes(data[8:16], "little")
    header = mutate_json(luck, data[48 : 48 + length])
    return b"".join(
        (
            data[:8],
            len(header).to_bytes(8, "little"),
            hashlib.sha256(header).digest(),
            header,
            data[48 + length :],
        )
    )


def read_artefact(folder: Path) -> object:
    from tomat.lm.artefact.file import read_artefact as read

    found = read(str(folder / "x.tomat"))
    return found.note, found.weights()


_WRITTEN = (
    LANGUAGE.write(_crystal())
    .under([(0, (8, 1)), (2, (7,)), (3, (4,))])
    .with_masked_sites([0], positions=True)
)
