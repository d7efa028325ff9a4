"""An instruction data set of crystals as text: a parquet file with a prompt and a response a row.

Columns: ``id``, ``kind`` (``generate``, ``condition`` or ``infill``), ``prompt``, ``response``. The key ``tomat`` of
the file's metadata has the settings as JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tomat import _core
from tomat.language import text
from tomat.language.conditions import SYMPREC
from tomat.language.sources import named_problem, read_crystals
from tomat.storage.files import atomic_file
from tomat.symmetry import space_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.crystal import Crystal
    from tomat.language.sources import Found

__all__ = ["InstructionConfig", "InstructionSummary", "write_instructions"]

_SYMBOLS = _core.elements()


@dataclass(frozen=True)
class InstructionConfig:
    """How crystals become prompts.

    Attributes:
        frames: rows of each crystal, each in a random frame.
        infill: share of the rows that ask for an element; the others ask for a crystal.
        keep: probability with which each condition is kept in a row. Rows that keep none ask for any crystal.
        formula, space_group: conditions.
        columns: named values that are conditions.
        seed: rows depend on it, the id and the number of the row alone.
    """

    frames: int = 1
    infill: float = 1 / 3
    keep: float = 0.5
    formula: bool = False
    space_group: bool = False
    columns: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames = {self.frames}; give 1 or more")
        for name, share in (("infill", self.infill), ("keep", self.keep)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} = {share}; give a share from 0 to 1")


@dataclass(frozen=True)
class InstructionSummary:
    """What was written.

    Attributes:
        path: the file.
        n_listed: crystals that were found.
        n_crystals: crystals with rows.
        kinds: rows of each kind.
        left_out: problems by crystal.
    """

    path: Path
    n_listed: int
    n_crystals: int
    kinds: dict[str, int]
    left_out: dict[str, str] = field(default_factory=dict)


def write_instructions(
    inputs: Sequence[str | Path],
    out: str | Path,
    config: InstructionConfig | None = None,
    *,
    overwrite: bool = False,
) -> InstructionSummary:
    """Write the file. Crystals that cannot be read or written are left out and named.

    Args:
        inputs: as :func:`tomat.language.sources.read_crystals` takes them.
        out: parquet file, which appears when it is whole.
        config: how.
        overwrite: replace a file.

    Raises:
        FileExistsError: ``out`` exists and ``overwrite`` is not given.
        FileNotFoundError: an input does not exist.
        ValueError: no crystals, none that can be written, or a column that no crystal has.
    """
    config = config or InstructionConfig()
    target = Path(out)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target}: exists; give --overwrite to replace it")
    found = list(read_crystals(inputs))
    for name in config.columns:
        if not any(name in one.values for one in found):
            known = sorted({key for one in found for key in one.values})
            raise ValueError(f"no crystal has a number {name!r}; there are: {', '.join(known) or 'none'}")
    rows: list[dict[str, str]] = []
    left_out: dict[str, str] = {}
    for one in found:
        try:
            rows += [
                {"id": one.name, "kind": of.kind, "prompt": of.prompt, "response": of.response}
                for of in _prompts(one, config)
            ]
        except ValueError as error:
            left_out[one.name] = named_problem(one.source, str(error))
    if not rows:
        first = next(iter(left_out.values()), "there are none")
        raise ValueError(f"none of {len(found)} crystals can be written; the first: {first}")
    schema = pa.schema([(name, pa.string()) for name in rows[0]])
    table = pa.Table.from_pylist(rows, schema=schema)
    settings = json.dumps({"tomat": _core.__version__, **asdict(config)})
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(target) as file:
        pq.write_table(table.replace_schema_metadata({"tomat": settings}), file, compression="zstd")
    kinds = Counter(row["kind"] for row in rows)
    n = len(found) - len(left_out)
    return InstructionSummary(target, len(found), n, dict(sorted(kinds.items())), left_out)


def _prompts(one: Found, config: InstructionConfig) -> list[text.Prompt]:
    crystal = one.crystal
    if crystal is None:
        raise ValueError(one.problem)
    known = _conditions(one, crystal, config)
    found = []
    for number in range(config.frames):
        key = hashlib.sha256(f"{config.seed}\0{one.name}\0{number}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(key[:16]))
        frame = rng.integers(text.STEPS, size=3).tolist()
        kept = {name: value for name, value in known.items() if rng.random() < config.keep}
        if rng.random() < config.infill:
            element = int(rng.choice(np.unique(crystal.atomic_numbers)))
            found.append(text.infill(crystal, element, frame))
        elif kept:
            found.append(text.condition(crystal, kept, frame))
        else:
            found.append(text.generate(crystal, frame))
    return found


def _conditions(one: Found, crystal: Crystal, config: InstructionConfig) -> dict[str, str | float]:
    known: dict[str, str | float] = {}
    if config.formula:
        known["chemical formula"] = formula(crystal)
    if config.space_group:
        known["spacegroup number"] = float(space_group(crystal, symprec=SYMPREC))
    return known | {name: one.values[name] for name in config.columns if name in one.values}


def formula(crystal: Crystal) -> str:
    """The atoms of the cell, elements in the order of their first atom: ``SrTiO3``."""
    counts = Counter(crystal.atomic_numbers.tolist())
    return "".join(f"{_SYMBOLS[z - 1]}{n if n > 1 else ''}" for z, n in counts.items())
