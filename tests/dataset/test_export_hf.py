"""The folder for the Hub, through the libraries that read it: nothing is fetched, nothing is asked of the network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import tomat
from runs import ROOT, SHARD_EACH, SMALL, rows_of, sound, tomat_main
from tomat.dataset import open_dataset
from tomat.dataset.export_hf import export_hf


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two splits, one of two workers, and their export."""
    place = tmp_path_factory.mktemp("hub")
    for index in range(2):
        sound(ROOT, "--split", "train", "--out", place / "train", *SHARD_EACH, "--worker-index", index,
              "--n-workers", 2, "--quiet")  # fmt: skip
    sound(ROOT, "--split", "validation", "--out", place / "validation", *SMALL, "--quiet")
    result = tomat_main(
        "export-hf", place / "train", place / "validation", place / "hub", "--license", "cc-by-4.0"
    )
    assert result.code == 0, result.err
    return {name: place / name for name in ("train", "validation", "hub")}


def header_of(card: Path) -> dict[str, Any]:
    _, header, _ = card.read_text().split("---\n", 2)
    return dict(yaml.safe_load(header))


def test_the_files(folders: dict[str, Path]) -> None:
    hub = folders["hub"]
    n = len(list(folders["train"].rglob("shard-*.parquet")))
    names = {str(path.relative_to(hub)) for path in hub.rglob("*") if path.is_file()}
    assert names == {
        "README.md", "codec.npz", "tokenizer.json", "tokenizer_config.json", "tomat.json",
        "data/validation-00000-of-00001.parquet",
        *(f"data/train-{k:05d}-of-{n:05d}.parquet" for k in range(n)),
    }  # fmt: skip
    paths = list(open_dataset(folders["train"]).shard_paths())
    exported = sorted((hub / "data").glob("train-*"))
    assert [path.read_bytes() for path in paths if isinstance(path, Path)] == [
        p.read_bytes() for p in exported
    ]


def test_the_numbers_of_the_card(folders: dict[str, Path]) -> None:
    """Counted again here, from the rows."""
    hub = folders["hub"]
    header, text = header_of(hub / "README.md"), (hub / "README.md").read_text()
    assert header["license"] == "cc-by-4.0"
    assert header["size_categories"] == ["n<1K"]
    facts = json.loads((hub / "tomat.json").read_text())
    for index, name in enumerate(("train", "validation")):
        rows = rows_of(folders[name])
        n_rows = sum(len(part.ids) for part in rows.values())
        tokens = sum(int((part.ids != 0).sum()) for part in rows.values())
        histograms = [
            json.loads(path.read_text())["histogram"] for path in folders[name].rglob("coverage_*.json")
        ]
        voxels, bare = sum(map(sum, histograms)), sum(histogram[0] for histogram in histograms)
        assert header["dataset_info"]["splits"][index]["name"] == name
        assert header["dataset_info"]["splits"][index]["num_examples"] == n_rows
        line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1:6] == [str(len(rows)), str(n_rows), f"{tokens:,}", f"{1 - tokens / n_rows / 256:.1%}",
                              f"{1 - bare / voxels:.1%} of {voxels:,}"]  # fmt: skip
        assert facts["splits"][name]["tokens"] == tokens
    size = sum(path.stat().st_size for path in (hub / "data").iterdir())
    assert header["dataset_info"]["download_size"] == size
    assert f"hash `{open_dataset(folders['train']).meta['codec_hash']}`" in text
    assert "| seed | 0 |" in text
    assert "None" not in text


#: Run in a process of its own, before anything of Hugging Face is imported.
READ = """
import json, sys
from datasets import load_dataset, load_dataset_builder
from tokenizers import Tokenizer
from transformers import AutoTokenizer
hub, cache, printed = sys.argv[1:]
loaded = load_dataset(hub, cache_dir=cache)
auto = AutoTokenizer.from_pretrained(hub)
plain = Tokenizer.from_file(hub + "/tokenizer.json")
text = open(printed).read()
ids = auto(text, add_special_tokens=False)["input_ids"]
streamed = next(iter(load_dataset(hub, split="validation", streaming=True)))
print(json.dumps({
    "rows": {name: part.num_rows for name, part in loaded.items()},
    "features": {name: str(kind) for name, kind in loaded["train"].features.items()},
    "first": loaded["train"][0], "streamed": streamed["task_id"],
    "described": {n: s.num_examples for n, s in load_dataset_builder(hub, cache_dir=cache).info.splits.items()},
    "ids": ids, "plain": plain.encode(text, add_special_tokens=False).ids, "back": auto.decode(ids),
    "size": len(auto), "pad": auto.pad_token_id, "eos": auto.eos_token,
}))
"""


def test_the_libraries_read_it(folders: dict[str, Path], tmp_path: Path) -> None:
    rows = rows_of(folders["train"])
    dataset = open_dataset(folders["train"])
    row = next(iter(rows.values())).ids[0]
    (tmp_path / "printed").write_text(" ".join(dataset.tokenizer.show(row)))
    command = [
        sys.executable,
        "-c",
        READ,
        str(folders["hub"]),
        str(tmp_path / "cache"),
        str(tmp_path / "printed"),
    ]
    environment = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"),
                   "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(Path(tomat.__file__).parents[1])}  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    read = json.loads(result.stdout.splitlines()[-1])
    assert (
        read["rows"]
        == read["described"]
        == {"train": 3 * len(rows), "validation": 3 * len(rows_of(folders["validation"]))}
    )
    assert list(read["features"]) == ["task_id", "offset_x", "offset_y", "offset_z", "input_ids"]
    assert "int32" in read["features"]["input_ids"]
    assert read["first"]["task_id"] == next(iter(rows))
    assert read["first"]["input_ids"] == row.tolist()
    assert read["streamed"] in rows_of(folders["validation"])
    length = int((row != 0).sum())
    assert read["ids"] == read["plain"] == row[:length].tolist()
    assert read["back"] == (tmp_path / "printed").read_text()
    assert read["size"] == dataset.tokenizer.vocabulary.total_size
    assert (read["pad"], read["eos"]) == (0, "[EOS]")


def test_the_code_on_the_card_decodes_a_row(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = folders["hub"]
    code = (hub / "README.md").read_text().split("```python\n")[2].split("```")[0]
    rows = pq.read_table(hub / "data" / "validation-00000-of-00001.parquet").to_pylist()
    names: dict[str, Any] = {"rows": rows}
    monkeypatch.chdir(hub)
    exec(code, names)
    expected = open_dataset(folders["validation"]).tokenizer.decode(rows[0]["input_ids"])
    np.testing.assert_array_equal(names["patch"].density, expected.density)


def test_a_log_codec(tmp_path: Path) -> None:
    out = tmp_path / "rows"
    sound(
        ROOT,
        "--out",
        out,
        "--layout",
        "v1",
        "--patch-size",
        4,
        "--pad-to",
        512,
        "--patches-per-material",
        1,
        "-q",
    )
    export = export_hf([out], tmp_path / "hub", name="mine", link=False)
    assert not (tmp_path / "hub" / "codec.npz").exists()
    assert export.splits[0].name == "train"
    text = (tmp_path / "hub" / "README.md").read_text()
    assert "# mine" in text
    assert 'load_codec("two_token_9_12")' in text
    assert "license" not in text
    assert not any(path.stat().st_nlink > 1 for path in (tmp_path / "hub" / "data").iterdir())


def test_what_cannot_be_exported(folders: dict[str, Path], tmp_path: Path) -> None:
    train, hub = folders["train"], folders["hub"]
    assert "not empty" in tomat_main("export-hf", train, hub).err
    assert (
        "two datasets are of the split 'train'" in tomat_main("export-hf", train, train, tmp_path / "a").err
    )
    sound(ROOT, "--split", "test", "--out", tmp_path / "test", *SMALL, "--patch-size", 5, "--quiet")
    assert "patch_size is 5" in tomat_main("export-hf", train, tmp_path / "test", tmp_path / "b").err
    assert tomat_main("export-hf", train).code == 2
    part = tmp_path / "part"
    part.mkdir()
    (part / "worker-01").symlink_to(train / "worker-01")
    assert "workers are missing" in tomat_main("export-hf", part, tmp_path / "c").err
    assert tomat_main("export-hf", part, tmp_path / "c", "--allow-partial", "--quiet").code == 0
    assert "holds the parts of 1 of 2 workers" in (tmp_path / "c" / "README.md").read_text()
    damaged = tmp_path / "damaged"
    sound(ROOT, "--out", damaged, *SMALL, "--quiet")
    shard = damaged / "shard-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    result = tomat_main("export-hf", damaged, tmp_path / "d")
    assert result.code == 1
    assert str(shard) in result.err
