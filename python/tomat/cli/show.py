"""Print a row of a dataset, token by token.

\b
Examples:
  tomat show rows/shard-00000.parquet --row 5
  tomat show rows/shard-00000.parquet --row 5 --full
  tomat show rows/shard-00000.parquet --row 5 --json

The meta.json next to FILE describes the rows. Special tokens print by name, atoms by symbol, integers as numbers,
positions as pN and densities as dN. Long density blocks are shortened unless --full is given; --json never shortens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from tomat.dataset.manifest import open_dataset
from tomat.language.dataset import is_crystals, open_crystals
from tomat.language.rows import CrystalLanguage
from tomat.storage.remote import place
from tomat.tokenizer import PatchTokenizer

#: Tokens shown at each end of a shortened block.
_ENDS = 24


def command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A parquet shard: a path or a URL.")],
    row: Annotated[int, typer.Option(help="Row of the file, from 0.", min=0)] = 0,
    full: Annotated[bool, typer.Option("--full", help="Print every token.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print ids, names and the decoded patch as JSON.")
    ] = False,
) -> None:
    record = read_row(file, row)
    folder = place(file).parent
    if isinstance(folder, Path) and is_crystals(folder):
        _show_crystal(record, open_crystals(folder).language, f"row {row} of {file}", as_json=as_json)
        return
    # One worker's part is enough to read its rows.
    tokenizer = open_dataset(folder, allow_partial=True).tokenizer
    if as_json:
        print(json.dumps(_as_json(record, tokenizer)))
        return
    offset = [record[f"offset_{axis}"] for axis in "xyz"]
    print(f"{record['task_id']}, patch at {tuple(offset)}, row {row} of {file}")
    _print_blocks(tokenizer.show(record["input_ids"]), full=full)


def _show_crystal(record: dict[str, Any], language: CrystalLanguage, where: str, *, as_json: bool) -> None:
    ids = record["input_ids"]
    names = language.show(ids)
    if as_json:
        written = language.decode(ids)
        crystal = {
            "cell": list(written.cell),
            "atomic_numbers": written.elements.tolist(),
            "positions": written.positions.tolist(),
            "conditions": written.conditions,
        }
        rest = {key: value for key, value in record.items() if key != "input_ids"}
        content = {**rest, "length": len(names), "tokens": names, "input_ids": ids[: len(names)]}
        print(json.dumps({**content, "crystal": crystal}))
        return
    frame = tuple(record[f"frame_{axis}"] for axis in "xyz")
    print(f"{record['task_id']}, moved by {frame} of {language.positions}, {where}")
    _print_blocks(names, full=True)


def read_row(file: str | Path, row: int) -> dict[str, Any]:
    """One row of a shard as a dict of its columns."""
    try:
        with place(file).open("rb") as source, pq.ParquetFile(source) as parquet:
            first = 0
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                if row < first + rows:
                    table = parquet.read_row_group(group).slice(row - first, 1)
                    return dict(table.to_pylist()[0])
                first += rows
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a system error, which names the file
        raise ValueError(f"{file}: not a parquet file that can be read: {error}") from error
    raise ValueError(f"{file}: no row {row}; it has {first} rows, counted from 0")


def _as_json(record: dict[str, Any], tokenizer: PatchTokenizer) -> dict[str, Any]:
    patch = tokenizer.decode(record["input_ids"])
    names = tokenizer.show(record["input_ids"])
    return {
        **{key: value for key, value in record.items() if key != "input_ids"},
        "length": len(names),
        "tokens": names,
        "input_ids": record["input_ids"][: len(names)],
        "patch": {
            "grid_shape": patch.grid_shape,
            "lattice": None if patch.lattice is None else patch.lattice.tolist(),
            "atomic_numbers": patch.atomic_numbers.tolist(),
            "frac_coords": patch.frac_coords.tolist(),
            "patch_shape": patch.patch_shape,
            "offset": patch.offset,
            "density": patch.density.tolist(),
        },
    }


def _print_blocks(names: list[str], *, full: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=False)
    block: list[str] = []
    for name in names:
        block.append(name)
        if name.endswith("_END]") or name in ("[BOS]", "[EOS]"):
            shown = block
            if not full and len(block) > 2 * _ENDS + 2:
                hidden = f"... {len(block) - 2 * _ENDS - 2} more ..."
                shown = [*block[: _ENDS + 1], hidden, *block[-_ENDS - 1 :]]
            console.print(Text(" ".join(shown)))
            block = []
    if block:
        console.print(Text(" ".join(block)))
