"""The file of an artefact: what was written comes back; anything else is refused, with its name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flips
from tomat.lm.artefact.file import (
    Artefact,
    artefact_bytes,
    as_folder,
    is_artefact,
    parse_artefact,
    read_artefact,
    write_artefact,
)
from tomat.lm.artefact.rounding import nearest
from tomat.lm.artefact.tensors import ENCODINGS, Tensor, of_rounded, of_vector, plain
from tomat.lm.record import seal_note

WEIGHT = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
BIAS = np.linspace(-1, 1, 7, dtype=np.float32)
FILES = {"tomat.json": json.dumps(seal_note({"name": "x"})).encode(), "README.md": b"# A card\n"}


def tensors() -> list[Tensor]:
    return [
        of_rounded("w", nearest(WEIGHT, 6), 0),
        of_rounded("turned", nearest(WEIGHT.T.copy(), 3), 1),
        of_vector("bias", BIAS),
        plain("plain", WEIGHT, "float32"),
    ]


def content() -> bytes:
    return artefact_bytes(FILES, tensors(), {"kind": "field", "name": "x"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    out = tmp_path / "small.tomat"
    write_artefact(out, content())
    return out


def read(path: Path) -> Any:
    found = read_artefact(str(path))
    return found.note, found.files, {name: of.tobytes() for name, of in found.weights().items()}


def changed(change: Any) -> bytes:
    """The artefact with another header, whose digest is right."""
    raw = content()
    length = int.from_bytes(raw[8:16], "little")
    header = json.loads(raw[48 : 48 + length])
    change(header)
    text = json.dumps(header).encode()
    return (
        raw[:8] + len(text).to_bytes(8, "little") + hashlib.sha256(text).digest() + text + raw[48 + length :]
    )


def test_what_was_written_comes_back(path: Path) -> None:
    found = read_artefact(str(path))
    assert isinstance(found, Artefact)
    assert found.files == FILES
    assert found.note["name"] == "x"
    assert found.size == path.stat().st_size
    weights = found.weights()
    np.testing.assert_array_equal(weights["w"], nearest(WEIGHT, 6).weights)
    np.testing.assert_array_equal(weights["turned"], nearest(WEIGHT.T.copy(), 3).weights.T)
    np.testing.assert_array_equal(weights["plain"], WEIGHT)
    np.testing.assert_allclose(weights["bias"], BIAS, rtol=2**-11)
    assert {str(of.dtype) for of in weights.values()} == {"float32"}


def test_equal_models_give_equal_bytes() -> None:
    assert content() == artefact_bytes(
        dict(reversed(FILES.items())), tensors()[::-1], {"kind": "field", "name": "x"}
    )


def test_every_encoding_says_how_large_it_is() -> None:
    sizes = []
    for encoding in ENCODINGS:
        bits = encoding.removeprefix("int")
        made = (
            of_rounded("w", nearest(WEIGHT, int(bits)), 0) if bits.isdigit() else plain("w", WEIGHT, encoding)
        )
        off = np.abs(made.decoded() - WEIGHT).max()
        assert off < {"float32": 1e-9, "bfloat16": 0.02}.get(encoding, 2.0)
        sizes.append(len(made.data))
    assert sizes == sorted(sizes, reverse=True)
    # Beyond half precision a vector stays as it is.
    assert of_vector("far", BIAS * 1e6).encoding == "float32"


def test_no_bit_of_it_gives_another_model(path: Path) -> None:
    refused, same = flips.survive(path, lambda: read(path), 400)
    assert same == 0
    assert refused >= 400


def test_what_is_cut_off_too_long_or_foreign_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for size in (0, 4, 12, 47, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"small\.tomat: "):
            read(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(ValueError, match=r"small\.tomat: has 1 bytes too many"):
        read(path)
    path.write_bytes(b"PK\x03\x04" + whole)
    with pytest.raises(ValueError, match=r"small\.tomat: is not a model that tomat export wrote"):
        read(path)
    with pytest.raises(FileNotFoundError):
        read_artefact(str(path.with_name("none.tomat")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda of: of.update(format=2), "of format 2, this program reads 1; update tomat"),
        (lambda of: of.pop("sections"), "its header is incomplete"),
        (lambda of: of["about"].pop("kind"), "its header is incomplete"),
        (lambda of: of["files"][0].update(name="../README.md"), "not those of an export: ../README.md"),
        (lambda of: of["files"][0].update(bytes=1 << 40), "not those of an export: too large"),
        (lambda of: of["files"][0].update(bytes=3), "its files do not unpack"),
        (lambda of: of["weights"][0].update(shape=[1 << 40, 1 << 20]), "does not describe its weights"),
        (lambda of: of["weights"][0].update(shape=[1 << 40], bytes=2 << 40), "cannot hold weights"),
        (lambda of: of["weights"][0].update(encoding="int9"), "'int9' is not known"),
        (lambda of: of["weights"][0].update(sha256="0" * 64), "weight bias is not the one"),
        (lambda of: of["weights"].pop(), "its weights do not unpack"),
        (lambda of: of.pop("weights"), "its header is incomplete"),
        (lambda of: of.update(weights=3), "its header is incomplete"),
        (lambda of: of["weights"][0].pop("sha256"), "does not describe its weights"),
        (lambda of: of["files"][0].update(bytes=float("nan")), "its header is incomplete"),
        (lambda of: of["files"][0].update(bytes="7"), "its header is incomplete"),
    ],
)
def test_headers_that_lie_are_refused(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_artefact(changed(change), "small.tomat").weights()
    assert str(caught.value).startswith("small.tomat: ")


def test_a_folder_stands_for_itself_and_a_file_for_what_it_holds(path: Path, tmp_path: Path) -> None:
    assert is_artefact(str(path))
    assert not is_artefact(str(tmp_path))
    (tmp_path / "folder.tomat").mkdir()
    assert not is_artefact(str(tmp_path / "folder.tomat"))
    with as_folder(str(tmp_path)) as inside:
        assert inside == str(tmp_path)
    with as_folder(str(path)) as inside:
        names = {of.name for of in Path(inside).iterdir()}
        assert names == {"README.md", "tomat.json", "model.safetensors"}
    assert not Path(inside).exists()
    # What is wrong inside is named by the file.
    with pytest.raises(ValueError, match=r"small\.tomat/codec\.npz: gone"), as_folder(str(path)) as inside:
        raise FileNotFoundError(f"{inside}/codec.npz: gone")
