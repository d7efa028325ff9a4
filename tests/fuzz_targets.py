"""What ``fuzz.py`` damages: a real file of every format the package reads, and who reads it."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import json
import lzma
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
import zarr.codecs

import fuzz_more
import tomat
from mutations import mutate_bytes, mutate_json, mutate_npz, mutate_text
from places import DATA
from tomat import _core
from tomat._seal import sealed
from tomat.catalogue.table import electrons_of
from tomat.catalogue.table import load as load_catalogue
from tomat.cli.info import describe
from tomat.cli.show import read_row
from tomat.dataset.config import TokenizeConfig
from tomat.dataset.inputs import resolve_inputs
from tomat.dataset.manifest import open_dataset
from tomat.dataset.verify import verify_dataset
from tomat.engine import Run
from tomat.fitting import Sketch
from tomat.promolecule import Promolecule
from tomat.workplace import parse_record

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from mutations import Mutation

__all__ = ["TARGETS", "Target"]

#: A codec with few bins and short rows: what is read in a test must not take the time of a test.
SMALL = TokenizeConfig(codec="l1-1k", patch_size=4, pad_to=256, patches_per_material=2)


@dataclass(frozen=True)
class Target:
    """A format and its reader.

    Attributes:
        name: what it is called on the command line.
        share: of the cases, in parts of the sum of all.
        prepare: writes whole files into an empty folder, and says which of them are damaged, each with the way of it.
        read: reads what is in the folder; whatever it raises is judged.
        kinds: what it may raise.
        silent: nothing at all may come of damage: it raises nothing.
        label: what must stand in the message: the name of a file or folder in the folder.
    """

    name: str
    share: float
    prepare: Callable[[Path], dict[str, Mutation]]
    read: Callable[[Path], object]
    kinds: tuple[type[Exception], ...] = (ValueError, OSError)
    silent: bool = False
    label: str | None = None
    #: Seconds one case may take.
    seconds: float = field(default=10.0)


def material(step: int = 4) -> tomat.Material:
    """A real density on a coarse grid: small, with all the parts a large one has."""
    whole = tomat.read(DATA / "rho_gga" / "label" / "qe-0039.zarr")
    density = np.ascontiguousarray(whole.density[::step, ::step, ::step])
    return tomat.Material.of(
        "qe-0039", density, whole.unit, whole.lattice, whole.atomic_numbers, whole.frac_coords
    )


# --- densities ----------------------------------------------------------------------------------------------


def chgcar_text(spin: bool) -> bytes:
    """A CHGCAR with occupancies and, with spin, moments and a second density."""
    folder = Path(_scratch("chgcar"))
    material().write(folder / "CHGCAR")
    text = (folder / "CHGCAR").read_bytes().rstrip(b"\n") + b"\n"
    shutil.rmtree(folder)
    n = len(material().atomic_numbers)
    augmentation = b"".join(
        b"augmentation occupancies %3d %3d\n  0.1E+00 0.2E+00 -.3E+00\n" % (i + 1, 3) for i in range(n)
    )
    if not spin:
        return text + augmentation
    head, grid = _grid_line(text)
    density = text[head:]
    return text + augmentation + b"  0.1E+01" * n + b"\n" + grid + density + augmentation


def _grid_line(text: bytes) -> tuple[int, bytes]:
    """Where the values begin, and the line before them."""
    grid = " ".join(map(str, material().grid_shape)).encode()
    at = 0
    for line in text.splitlines(keepends=True):
        at += len(line)
        if b" ".join(line.split()) == grid:
            return at, line
    raise AssertionError("no grid line")


def _scratch(name: str) -> str:
    import tempfile

    return tempfile.mkdtemp(prefix=f"tomat-fuzz-{name}-")


def texts(suffix: str, make: Callable[[], bytes]) -> Callable[[Path], dict[str, Mutation]]:
    """A text as it is; its mutations compress it again, or damage what is compressed."""

    def prepare(folder: Path) -> dict[str, Mutation]:
        (folder / f"x.{suffix}").write_bytes(make())
        return {f"x.{suffix}": _text_or_packed}

    return prepare


def _text_or_packed(luck: random.Random, data: bytes) -> bytes:
    if luck.random() < 0.85:
        return mutate_text(luck, data)
    pack = luck.choice((gzip.compress, bz2.compress, lzma.compress, _zstd))
    if luck.random() < 0.5:
        return pack(mutate_text(luck, data))
    return mutate_bytes(luck, pack(data))


def _zstd(data: bytes) -> bytes:
    import pyarrow as pa

    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def read_only(pattern: str) -> Callable[[Path], object]:
    """Reads the density that matches."""
    return lambda folder: tomat.read(next(folder.glob(pattern)))


#: Codec chains by a name of their own.
CHAINS: dict[str, Any] = {
    "zstd": zarr.codecs.ZstdCodec(checksum=True),
    "gzip": zarr.codecs.GzipCodec(),
    "blosc": zarr.codecs.BloscCodec(cname="lz4"),
    "nested": [
        zarr.codecs.ZstdCodec(),
        zarr.codecs.Crc32cCodec(),
        zarr.codecs.GzipCodec(),
        zarr.codecs.Crc32cCodec(),
    ],
}


def zarr_group(chain: str) -> Callable[[Path], dict[str, Mutation]]:
    """A group whose chunks are packed in one of the ways."""

    def prepare(folder: Path) -> dict[str, Mutation]:
        from runs import structure_json

        made = material()
        group = zarr.open_group(folder / "x.zarr", mode="w", zarr_format=3)
        group.attrs["structure"] = structure_json(made)
        group.attrs["metadata"] = json.dumps({"task_id": "qe-0039"})
        shape = made.grid_shape
        chunks = shape if chain != "gzip" else (shape[0], shape[1], -(-shape[2] // 2))
        group.create_array(
            "charge_density_total", data=made.density, chunks=chunks, compressors=CHAINS[chain]
        )
        chunk = "x.zarr/charge_density_total/c/0/0/0"
        return {
            "x.zarr/zarr.json": mutate_json,
            "x.zarr/charge_density_total/zarr.json": mutate_json,
            chunk: mutate_bytes,
        }

    return prepare


# --- codecs and what is fitted ------------------------------------------------------------------------------


def resealed(seal: str) -> Mutation:
    """JSON damaged, and half of the time sealed again: behind the digest there is more to be read."""

    def mutate(luck: random.Random, data: bytes) -> bytes:
        damaged = mutate_json(luck, data)
        if luck.random() < 0.5:
            try:
                content = json.loads(damaged)
                return json.dumps(sealed(content, seal)).encode()
            except (ValueError, TypeError, RecursionError):
                pass
        return damaged

    return mutate


def codec_npz(folder: Path) -> dict[str, Mutation]:
    codec = tomat.load_codec("l1-1k")
    assert isinstance(codec, tomat.LloydMaxCodec)
    codec.save(folder / "x.npz")
    return {"x.npz": mutate_npz}


def codec_json(folder: Path) -> dict[str, Mutation]:
    tomat.LogCodec.load("fp16_1token").save(folder / "x.json")
    return {"x.json": resealed("sha256")}


def promolecule(folder: Path) -> dict[str, Mutation]:
    whole = Promolecule.load("qe-sg15")
    some = slice(0, 3)
    Promolecule(
        whole.kind,
        whole.atomic_numbers[some],
        whole.electrons[some],
        whole.cutoff,
        whole.inner,
        whole.coefficients[some],
    ).save(folder / "x.npz")
    return {"x.npz": mutate_npz}


def sketch(folder: Path) -> dict[str, Mutation]:
    made = Sketch("chgcar")
    made.add_material(material(8))
    made.save(folder / "x.sketch")
    return {"x.sketch": _maybe_xz}


def _maybe_xz(luck: random.Random, data: bytes) -> bytes:
    damaged = mutate_bytes(luck, data)
    return lzma.compress(damaged, preset=0) if luck.random() < 0.1 else damaged


# --- datasets -----------------------------------------------------------------------------------------------


def dataset(folder: Path, config: TokenizeConfig = SMALL) -> dict[str, Mutation]:
    (folder / "source").mkdir()
    material().write(folder / "source" / "qe-0039.zarr")
    Run(config, resolve_inputs([folder / "source"]), folder / "rows").execute()
    shutil.rmtree(folder / "source")
    return {
        "rows/meta.json": resealed("meta_sha256"),
        "rows/shard-00000.parquet": mutate_bytes,
        "rows/coverage_histogram.json": mutate_json,
    } | ({"rows/codec.npz": mutate_npz} if config is SMALL else {})


def dataset_of_others(folder: Path) -> dict[str, Mutation]:
    """As the field's own programs write it: few keys, no digests, a log codec in ``meta.json``."""
    dataset(folder, replace(SMALL, codec="fp16_1token", unit="chgcar"))
    path = folder / "rows" / "meta.json"
    meta = json.loads(path.read_text())
    known = (
        "tokenizer_version",
        "patch_size",
        "pad_to",
        "total_rows",
        "vocab",
        "density_codec_name",
        "fallback_shapes",
    )
    path.write_text(json.dumps({key: meta[key] for key in known}))
    (folder / "rows" / "coverage_histogram.json").unlink()
    (folder / "rows" / "crystals.parquet").unlink()
    return {"rows/meta.json": mutate_json, "rows/shard-00000.parquet": mutate_bytes}


def open_and_show(folder: Path) -> object:
    """What ``tomat show`` and ``tomat info`` do."""
    opened = open_dataset(folder / "rows")
    shard = next(iter(opened.shard_paths()))
    record = read_row(str(shard), 0)
    try:
        opened.tokenizer.decode(record["input_ids"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{shard}: {error}") from error
    return describe(opened)


def catalogue(folder: Path) -> dict[str, Mutation]:
    from tomat.catalogue.table import save

    rows = [{"id": f"m-{i}", "electrons": 8.0 * i, "nx": 20, "formula": "Si2"} for i in range(20)]
    save(folder / "x.parquet", rows)
    return {"x.parquet": mutate_bytes}


def read_catalogue(folder: Path) -> object:
    load_catalogue(folder / "x.parquet")
    return electrons_of(folder / "x.parquet", ["m-1", "m-2"])


def split_list(folder: Path) -> dict[str, Mutation]:
    (folder / "root" / "label").mkdir(parents=True)
    (folder / "root" / "mp_filelist.txt").write_text("a\nb\nc\n")
    (folder / "root" / "split.json").write_text(json.dumps({"train": [0, "b"], "test": [2]}))
    return {"root/mp_filelist.txt": mutate_text, "root/split.json": mutate_json}


def records(folder: Path) -> dict[str, Mutation]:
    from tomat.workplace import write_record

    write_record(
        folder / "shard-00000.parquet.json", {"identity": "1", "shard": "shard-00000.parquet", "rows": 3}
    )
    return {"shard-00000.parquet.json": mutate_bytes}


def read_record(folder: Path) -> object:
    path = folder / "shard-00000.parquet.json"
    found = parse_record(path.read_bytes(), path)
    assert found in (None, {"identity": "1", "shard": "shard-00000.parquet", "rows": 3}), found
    return found


_TOKENIZER = tomat.PatchTokenizer("v3", "l1-1k", 4, 256)


def row(folder: Path) -> dict[str, Mutation]:
    ids = _TOKENIZER.encode_material(material(), [[0, 0, 0]])[0]
    (folder / "ids").write_bytes(ids.astype("<i4").tobytes())
    return {"ids": _mutate_ids}


def _mutate_ids(luck: random.Random, data: bytes) -> bytes:
    ids = np.frombuffer(data, dtype="<i4").copy()
    for _ in range(luck.choice((1, 1, 2, 5))):
        at, other = luck.randrange(len(ids)), luck.randrange(len(ids))
        size = _TOKENIZER.vocabulary.total_size
        ids[at] = luck.choice(
            (int(ids[other]), luck.randrange(size), luck.randrange(30), -1, size, 2**31 - 1)
        )
    return ids[: luck.choice((len(ids), luck.randrange(len(ids) + 1)))].tobytes()


# --- structures, runs, configurations -----------------------------------------------------------------------


def structure(suffix: str) -> Callable[[Path], dict[str, Mutation]]:
    def prepare(folder: Path) -> dict[str, Mutation]:
        material().to_pymatgen().structure.to(
            str(folder / f"x.{suffix}"), fmt="cif" if suffix == "cif" else "poscar"
        )
        return {f"x.{suffix}": mutate_text}

    return prepare


def read_structure(folder: Path) -> object:
    from tomat.prediction.structures import read_crystal

    return read_crystal(next(folder.glob("x.*")))


def note(folder: Path) -> dict[str, Mutation]:
    from tomat.lm.record import NOTE, SEAL, tokenizer_note, write_codec, write_note

    (folder / "run").mkdir()
    write_codec(_TOKENIZER.density_codec, str(folder / "run"))
    write_note(str(folder / "run"), {"name": "x", "step": 3, "tokenizer": tokenizer_note(_TOKENIZER)})
    return {f"run/{NOTE}": resealed(SEAL)}


def read_note(folder: Path) -> object:
    from tomat.lm.record import read_note, tokenizer_from

    return tokenizer_from(read_note(str(folder / "run")), [str(folder / "run")])


CONFIGURATION = """
name: x
model: {preset: tiny}
data: {path: rows, pack: true, seed: 1}
trainer: {num_train_steps: 10, train_batch_size: 4, steps_per_eval: 5}
optimizer: {type: adam, learning_rate: 1.0e-3}
objective: {kind: next_token}
evaluation: {max_rows: 8}
loader: {threads: 2}
"""


def configuration(folder: Path) -> dict[str, Mutation]:
    (folder / "x.yaml").write_text(CONFIGURATION)
    return {"x.yaml": mutate_text}


def read_configuration(folder: Path) -> object:
    from tomat.lm.config import load

    return load(folder / "x.yaml")


def _targets() -> Iterator[Target]:
    yield Target("chgcar", 16, texts("CHGCAR", lambda: chgcar_text(False)), read_only("x.*"))
    yield Target("chgcar-spin", 10, texts("CHGCAR", lambda: chgcar_text(True)), read_only("x.*"))
    yield Target("cube", 14, texts("cube", cube_text), read_only("x.*"))
    for chain in CHAINS:
        yield Target(f"zarr-{chain}", 4, zarr_group(chain), read_only("x.zarr"))
    yield Target("codec-npz", 8, codec_npz, lambda folder: tomat.load_codec(folder / "x.npz"))
    yield Target("codec-json", 8, codec_json, lambda folder: tomat.load_codec(folder / "x.json"))
    yield Target("promolecule", 4, promolecule, lambda folder: Promolecule.load(folder / "x.npz"))
    yield Target("sketch", 4, sketch, lambda folder: Sketch.load(folder / "x.sketch"))
    yield Target("rows", 12, row, read_ids, (ValueError, IndexError), label="")
    yield Target("records", 4, records, read_record, silent=True)
    yield Target(
        "splits", 2, split_list, lambda folder: resolve_inputs([folder / "root"], split="train"), label=""
    )
    yield Target("dataset", 1.5, dataset, open_and_show, label="rows")
    yield Target("dataset-of-others", 1.5, dataset_of_others, open_and_show, label="rows")
    yield Target("verify", 0.2, dataset, lambda folder: verify_dataset(folder / "rows"), label="rows")
    yield Target("catalogue", 2, catalogue, read_catalogue)
    yield Target("note", 3, note, read_note, label="run")
    yield Target("crystal-rows", 4, fuzz_more.crystal_row, fuzz_more.read_crystal_row, label="")
    yield Target("crystal-text", 4, fuzz_more.crystal_text, fuzz_more.read_crystal_text, label="")
    yield Target("crystal-tables", 0.6, fuzz_more.crystal_table, fuzz_more.read_tables)
    yield Target(
        "crystal-dataset", 0.3, fuzz_more.crystal_dataset, fuzz_more.read_crystal_dataset, label="rows"
    )
    yield Target("artefact", 2, fuzz_more.artefact, fuzz_more.read_artefact)
    yield Target("poscar", 0.4, structure("vasp"), read_structure)
    yield Target("cif", 0.1, structure("cif"), read_structure)
    if importlib.util.find_spec("levanter") is not None:
        yield Target("configuration", 0.03, configuration, read_configuration)


def cube_text() -> bytes:
    folder = Path(_scratch("cube"))
    material().write(folder / "x.cube")
    text = (folder / "x.cube").read_bytes()
    shutil.rmtree(folder)
    return text


def read_ids(folder: Path) -> object:
    ids = np.frombuffer((folder / "ids").read_bytes(), dtype="<i4")
    return _TOKENIZER.decode(ids), _TOKENIZER.show(ids)


TARGETS = {target.name: target for target in _targets()}
assert _core.__version__
