"""Export a trained model as one small file, see :mod:`tomat.lm.artefact.file`; needs JAX and Levanter."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.lm.artefact.file import SUFFIX, artefact_bytes, parse_artefact, write_artefact
from tomat.lm.exported import WEIGHTS
from tomat.lm.quantize.kinds import open_quantisable
from tomat.lm.quantize.setting import Coder, Setting, packed_bytes
from tomat.lm.record import FILES, NOTE, SEAL, seal_note
from tomat.storage.files import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tomat.lm.quantize.inputs import Calibration
    from tomat.lm.quantize.kinds import Quantisable
    from tomat.lm.quantize.setting import Rounding

#: A setting is not tried if its packed weights are larger than the limit by more than this factor: compressing gains
#: less.
_MOST_GAINED = 2.0


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        path: the artefact.
        name: of the run.
        steps: of training.
        setting: how its weights are coded.
        rounding: how they were rounded, or None if none were.
        bytes: of the artefact.
        weight_bytes: of its weights, compressed.
        parameters: number of weights.
        off: root mean square error of each map's outputs relative to the outputs, on the inputs calibrated with.
    """

    path: str
    name: str
    steps: int
    setting: Setting
    rounding: Rounding | None
    bytes: int
    weight_bytes: int
    parameters: int
    off: dict[str, float]

    @property
    def bits(self) -> float:
        """Bits a weight, scales included."""
        return 8 * self.weight_bytes / max(self.parameters, 1)


def export_artefact(
    checkpoint: str,
    out: Path,
    settings: Sequence[Setting],
    *,
    weights: str = "best",
    rounding: Rounding = "gptq",
    calibration: Calibration | None = None,
    max_bytes: int | None = None,
    watch: Callable[[float, str], None] = lambda _share, _name: None,
) -> Written:
    """Write the model of a run, checkpoint, export or artefact to one file.

    Args:
        checkpoint: folder or URL, or a file that this wrote.
        out: the file, whose name ends in ``.tomat``.
        settings: in the order in which they are tried.
        weights: of a run, as :func:`tomat.lm.checkpoint.open_checkpoint` takes them.
        rounding: ``gptq``, which takes a calibration, or ``nearest``.
        calibration: crystals whose inputs GPTQ looks at.
        max_bytes: the first setting is taken that gives a file of at most this size; None takes the first.
        watch: called with the number of settings done, in fractions, and the name of what is at work.

    Raises:
        FileNotFoundError: there is no complete checkpoint.
        ValueError: no setting fits, the model or an argument does not allow it, or a file is damaged.
        OSError: a file cannot be read or written.
    """
    if out.suffix != SUFFIX or out.is_dir():
        raise ValueError(f"{out}: a model in one file needs a name that ends in {SUFFIX}")
    model = open_quantisable(checkpoint, weights)
    smallest: tuple[int, Setting] | None = None
    for i, setting in enumerate(settings):
        packed = packed_bytes(model.weights, setting, model.is_end, model.rows)
        if max_bytes is not None and packed > _MOST_GAINED * max_bytes and i + 1 < len(settings):
            continue
        coder = Coder(setting, rounding, model.rows, model.is_end, model.weights)
        coder.done = partial(_tell, watch, i, coder)
        written, content = _made(model, coder, calibration, str(out))
        if max_bytes is None or written.bytes <= max_bytes:
            write_artefact(out, content)
            return written
        if smallest is None or written.bytes < smallest[0]:
            smallest = written.bytes, setting
    if smallest is None:
        raise ValueError(f"{out}: there is no setting to write it with")
    raise ValueError(
        f"{out}: the smallest that was tried ({smallest[1]}) takes {smallest[0]:,} bytes, more than the {max_bytes:,} "
        "allowed; nothing was written"
    )


def _tell(watch: Callable[[float, str], None], before: int, coder: Coder, name: str) -> None:
    """Say how far it is, after a weight."""
    watch(before + len(coder.tensors) / len(coder.weights), name)


def _made(
    model: Quantisable, coder: Coder, calibration: Calibration | None, out: str
) -> tuple[Written, bytes]:
    """The content of an artefact, and what there is to say of it."""
    setting = coder.setting
    for name, weight in model.weights.items():
        if weight.ndim != 2:
            coder.code(name)
    how: dict[str, Any] = {"layers": setting.layers, "embedding": setting.ends}
    if setting.quantised:
        how["rounding"] = coder.rounding
        if coder.rounding == "gptq":
            if calibration is None:
                raise ValueError("GPTQ needs densities to calibrate with: give some, or round to the nearest")
            how["calibration"] = calibration.identity()
            model.walk(calibration, coder.weights, coder.code)
    tensors = coder.finish()
    files = _files(model, coder, how)
    about = {"kind": model.kind, "name": model.name, "steps": model.step, "quantized": how}
    content = artefact_bytes(files, tensors, about)
    read = parse_artefact(content, out)
    if any(not np.array_equal(weight, coder.weights[name]) for name, weight in read.weights().items()):
        raise RuntimeError(f"{out}: weights did not read back as they were coded")
    size = int(read.header["sections"]["weights"]["bytes"])
    rounding = coder.rounding if setting.quantised else None
    sizes = (len(content), size, model.parameters)
    return Written(out, model.name, model.step, setting, rounding, *sizes, coder.off), content


def _files(model: Quantisable, coder: Coder, made: dict[str, Any]) -> dict[str, bytes]:
    """The files of an export of the coded weights, but these."""
    with tempfile.TemporaryDirectory(prefix="tomat-") as folder:
        out = Path(folder) / "export"
        model.export(coder.weights, out, {"quantized": made})
        files = {path.name: path.read_bytes() for path in out.iterdir() if path.name != WEIGHTS}
        note = read_json(out / NOTE)
    # The digest of the weights' file, which is not there; each weight keeps its own.
    note = {key: value for key, value in note.items() if key not in ("format", SEAL)}
    note[FILES].pop(WEIGHTS, None)
    files[NOTE] = json.dumps(seal_note(note), indent=1).encode() + b"\n"
    files["README.md"] += _card(coder, made).encode()
    return files


def _card(coder: Coder, made: dict[str, Any]) -> str:
    """What the card says of the file."""
    how = ""
    if coder.setting.quantised:
        how = (
            f" Weights were rounded {'by GPTQ' if coder.rounding == 'gptq' else 'to the nearest'} and have a scale a "
            "row (output channel)."
        )
    calibrated = made.get("calibration")
    if calibrated is not None:
        how += f" Rows calibrated with: {calibrated['rows']}, of {calibrated['materials']} materials."
    return (
        f"\n## In one file\n\nMatrices of layers are {made['layers']}, the embedding and the answering layer "
        f"{made['embedding']}.{how} `tomat predict FILE{SUFFIX} POSCAR` reads the file as it is, `tomat info` "
        "describes it.\n"
    )
