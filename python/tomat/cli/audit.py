"""Account for every voxel, electron and bit of a dataset, against its sources, by a path of its own.

tomat verify asks whether tomat gives the same rows again. An audit does not ask tomat: it reads the sources with NumPy,
pymatgen or ASE, quantises them with NumPy from the levels of the codec's file, makes the rows from the page of the
format, and compares every token. Voxels and electrons of the sources, of meta.json and of the decoded rows must be
the same. It says how many bits a voxel and an electron take, what padding, preamble and fallback shapes cost, what the
codec loses, and how often voxels are covered. The exit code is 1 if anything does not agree.

\b
Examples:
  tomat audit rows --source /data/rho_gga
  tomat audit rows --source /data/rho_gga --split train
  tomat audit rows --source /data/rho_gga --sample 500 --sample-seed 1
  tomat audit rows --source run1/CHGCAR --source run2/CHGCAR --json
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomat.cli._shared import AsJson, Limit, SplitFile, print_facts, progress
from tomat.dataset.inputs import is_rho_gga, resolve_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.dataset.audit import Account
    from tomat.material import Entry

#: Problems printed; --json has all.
_SHOWN = 50
#: Names of the bits in the table, in its order.
_BITS = {
    "source_float32": "sources, float32",
    "source_files": "sources, files",
    "tokens_int32": "tokens, int32",
    "raw_width": "tokens, log2 of the levels",
    "unigram": "tokens, entropy of the levels",
    "parquet": "parquet on disk, preamble and all",
}


def command(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A dataset: a directory or a URL.")],
    source: Annotated[
        list[str], typer.Option(help="The densities, given as for tomat-tokenize; repeatable.")
    ],
    split_file: SplitFile = None,
    split: Annotated[
        str | None, typer.Option(help="Split to use, for a rho_gga root.  [default: the dataset's]")
    ] = None,
    limit: Limit = None,
    sample: Annotated[
        int | None, typer.Option(help="Compare the rows of so many materials.  [default: all]", min=1)
    ] = None,
    sample_seed: Annotated[int, typer.Option(help="Seed of the sample.", min=0)] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only.")] = False,
    as_json: AsJson = False,
) -> None:
    from tomat.dataset.audit import audit_dataset
    from tomat.dataset.manifest import open_dataset

    start = time.monotonic()
    dataset = open_dataset(directory)
    entries = _entries(source, split_file, split, limit, str(dataset.meta.get("split", "all")))
    total = dataset.count("n_materials") if sample is None else min(sample, dataset.count("n_materials"))
    try:
        with progress("auditing", total, quiet=quiet or as_json) as step:
            account = audit_dataset(directory, entries, sample=sample, seed=sample_seed, watch=step)
    except ImportError as error:
        raise ValueError(str(error)) from error
    if as_json:
        print(json.dumps({**account.stored, "sample": sample, "sample_seed": sample_seed}))
    else:
        for problem in account.problems[:_SHOWN]:
            print(f"problem: {problem}")
        if len(account.problems) > _SHOWN:
            print(f"and {len(account.problems) - _SHOWN} more; --json lists all")
        if not quiet:
            for note in account.notes:
                print(f"note: {note}")
            _print(account)
            verdict = f"{len(account.problems)} problems" if account.problems else "every token accounted for"
            part = "" if account.is_complete else f" (a sample of {account.n_materials:,})"
            print(
                f"{directory}: {verdict}: {account.totals['rows']:,} rows of {len(account.materials):,} "
                f"materials{part} ({time.monotonic() - start:.1f} s)"
            )
    raise typer.Exit(1 if account.problems else 0)


def _entries(
    source: Sequence[str], split_file: str | None, split: str | None, limit: int | None, stated: str
) -> list[Entry]:
    """The sources; of a rho_gga root, those of the split that the dataset states, unless another is given."""
    if split is None and stated != "all" and any(is_rho_gga(item) for item in source):
        split = stated
    return resolve_inputs(source, split_file=split_file, split=split, limit=limit)


def _print(account: Account) -> None:
    totals, losses, tokens, coverage = account.totals, account.losses, account.tokens, account.coverage
    if not account.materials:
        return
    readers = ", ".join(f"{n:,} by {name}" for name, n in totals["readers"].items())
    lost, fallback, least = losses, tokens["fallback"], coverage["least"]
    facts: dict[str, Any] = {
        "sources": f"{totals['voxels']:,} voxels, {totals['electrons']:,.6f} electrons; read {readers}",
        "rows": f"{totals['row_voxels']:,} voxels, each covered one {totals['rows_a_covered_voxel']:.3g} times",
        "electrons in rows": f"{totals['row_electrons']:,.6f} of the sources, "
        f"{totals['row_electrons_decoded']:,.6f} decoded",
        "tokens": f"{tokens['total']:,}: " + ", ".join(f"{n} {share:.2%}" for n, share in tokens["shares"].items()),
        "fallback": f"{fallback['rows']:,} rows of {fallback['materials']:,} materials; {fallback['voxels_lost']:,} "
        f"voxels less than cubes hold ({fallback['share_of_voxels_lost'] or 0:.2%})",
        "codec": f"NMAE {lost['nmae_mean'] or 0:.4%} in the mean material, median {lost['nmae_median'] or 0:.4%}, "
        f"{lost['nmae_worst'] or 0:.4%} in the worst ({lost['worst']})",
        "clipped": f"{lost['clipped_voxels']:,} voxels, {lost['clipped_electrons']:.4g} electrons of "
        f"{lost['clipped_materials']:,} materials",
        "covered": ", ".join(f"{name} {share:.2%}" for name, share in coverage["of_all_voxels"].items())
        + f" of all voxels; least of {least['task_id']}, {least['covered']:.1%}",
    }  # fmt: skip
    if totals["edges"]:
        facts["edges"] = f"{totals['edges']:,} voxels lie between two levels and have the other one"
    left_out = account.left_out
    if left_out:
        facts["left out"] = ", ".join(f"{n:,} {reason}" for reason, n in left_out.items())
    print_facts(facts)
    _print_bits(account)


def _print_bits(account: Account) -> None:
    from rich.console import Console

    from tomat.cli._shared import plain_table

    table = plain_table("", "bits a voxel", "bits an electron")
    bits = account.bits
    for name, words in _BITS.items():
        if name in bits:
            found = bits[name]
            table.add_row(words, f"{found['a_voxel'] or 0:.4f}", f"{found['an_electron'] or 0:,.1f}")
    Console().print(table)
