"""Make the codecs in the package again, to the byte.

    make codecs                          from the sketches in training/sketches
    make codecs DATA=/path/to/rho_gga    from the densities of its train split, checking the sketches on the way

The sketches are of the 377 training materials described in tests/data/README.md (the larger set), their weights
rounded to three significant bits so that they pack into a megabyte each; codecs are fitted to what is in these
files. All arithmetic is integer or float64 in a fixed order, so every machine gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tomat import UNITS
from tomat.dataset.inputs import resolve_inputs
from tomat.fitting import Sketch, fit_codec, sketch_entries

HERE = Path(__file__).parent
SKETCHES = HERE / "sketches"
CODECS = HERE.parent / "python" / "tomat" / "codecs"
#: The version of tomat whose fits these are: another version that fits the same bins leaves the files alone.
FITTED_BY = "0.1.0"
#: Sizes as the field writes them.
SIZES = {1024: "1k", 2048: "2k", 4096: "4k", 16384: "16k", 65536: "65k"}
#: Significant bits of the weights in the sketches.
WEIGHT_BITS = 3


def codec_name(bins: int, unit: str) -> str:
    """``l1-16k`` in the ``chgcar`` unit, ``l1-16k-e_per_A3`` in the other."""
    return f"l1-{SIZES[bins]}" + ("" if unit == "chgcar" else f"-{unit}")


def sketch_of(unit: str, data: str | None) -> Sketch:
    """The training sketch: the one in the repository, made and compared with it where ``data`` is given."""
    path = SKETCHES / f"train-{unit}.sketch.xz"
    if data is None:
        return Sketch.load(path)
    made = sketch_entries(resolve_inputs([data], split="train"), unit).rounded(WEIGHT_BITS)
    if not path.exists():
        made.save(path)
        print(f"{path}: written, {path.stat().st_size:,} bytes")
    elif Sketch.load(path).hash != made.hash:
        raise SystemExit(
            f"error: {path} is not the sketch of the train split of {data}; delete it to fit codecs to those densities"
        )
    return made


def shipped(sketch: Sketch, bins: int) -> bytes:
    """The content of a codec file of the package."""
    codec = fit_codec(sketch, bins, method="l1", weight="material")
    codec.about["tomat"] = FITTED_BY
    return codec.to_bytes()


def main() -> None:
    """Make all, say what changed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=None, help="rho_gga root with a split file")
    parser.add_argument("--out", type=Path, default=CODECS, help="folder of the codecs")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for unit in UNITS:
        sketch = sketch_of(unit, arguments.data)
        for bins in SIZES:
            path = arguments.out / f"{codec_name(bins, unit)}.npz"
            content = shipped(sketch, bins)
            same = path.exists() and path.read_bytes() == content
            path.write_bytes(content)
            print(f"{path.name}: {len(content):,} bytes, {'the same as before' if same else 'written'}")


if __name__ == "__main__":
    main()
