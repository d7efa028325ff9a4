"""Rebuild the bundled codecs, byte for byte.

    make codecs                          from the sketches in training/sketches
    make codecs DATA=/path/to/rho_gga    from the densities of its train split, checking the sketches on the way
    ... MORE=/path/to/rho_gga_more       and from those of the second set; with DATA, the floors of the default family

Three families. ``l1-16k`` and ``l1-16k-e_per_A3`` are fitted to the 377 training materials described in
tests/data/README.md (the larger set) and end where these do. ``l1-16k-e_per_A3-1e4``, the default, is fitted to them
and 383 more, has bins below zero, and a tail (tomat.tail) to 1e4 e/A^3. ``rel-256`` is fitted to the differences of 334
of the training materials, those of one dialect, from the promolecule ``qe-sg15``. The sketches' weights are rounded to
three significant bits, so that they pack into a megabyte each; codecs are fitted to what is in these files. All
arithmetic is integer, decimal, or float64 in a fixed order, so every machine gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tomat.codec import FLOORS, LloydMaxCodec, RelativeCodec, load_codec
from tomat.dataset.inputs import resolve_inputs
from tomat.fitting import Sketch, fit_codec, sketch_entries
from tomat.fitting_relative import Scale, fit_relative, relative_sketch
from tomat.floors import floor
from tomat.promolecule import UnscaledPromolecule
from tomat.tail import Tail

if TYPE_CHECKING:
    from tomat.material import Entry

HERE = Path(__file__).parent
SKETCHES = HERE / "sketches"
CODECS = HERE.parent / "python" / "tomat" / "codecs"
#: The version of tomat whose fits these are: another version that fits the same bins leaves the files alone.
FITTED_BY = "0.1.0"
#: Sizes as the field writes them.
SIZES = {1024: "1k", 2048: "2k", 4096: "4k", 16384: "16k", 32768: "32k", 65536: "65k"}
#: Significant bits of the weights in the sketches.
WEIGHT_BITS = 3
#: The largest and, by size, the smallest value the default family tells apart, e/A^3: PAW densities go down to -0.2.
LARGEST = 1e4
SMALLEST = {1024: -1.0, 2048: -1.0, 4096: -1.0, 16384: -10.0, 32768: -10.0, 65536: -10.0}
#: Bins of its tail, by size: as many as leave the floors on unseen crystals below those of the first family.
TAIL_BINS = {1024: 12, 2048: 32, 4096: 64, 16384: 512, 32768: 1024, 65536: 2048}


@dataclass(frozen=True)
class Shipped:
    """A bundled codec.

    Attributes:
        bins: number of bins.
        unit: density unit.
        tail: tail of the default family; None for codecs that end at the range of their training set.
    """

    bins: int
    unit: str
    tail: Tail | None = None

    @property
    def name(self) -> str:
        """Method, size, unit where it is not ``chgcar``, end of the range where there is a tail."""
        unit = "" if self.unit == "chgcar" else f"-{self.unit}"
        end = "" if self.tail is None else f"-{self.tail.max:.0e}".replace("+0", "")
        return f"l1-{SIZES[self.bins]}{unit}{end}"

    @property
    def file_name(self) -> str:
        """Name of its file."""
        return self.name + LloydMaxCodec.suffix

    @property
    def sketches(self) -> tuple[str, ...]:
        """The sketches it is fitted to, merged."""
        return (f"train-{self.unit}",) if self.tail is None else (f"train-{self.unit}", f"more-{self.unit}")

    def content(self) -> bytes:
        """The bytes of its file."""
        sketch = load(self.sketches[0])
        for other in self.sketches[1:]:
            sketch.merge(load(other))
        codec = fit_codec(sketch, self.bins, signed=self.tail is not None, tail=self.tail)
        codec.about["tomat"] = FITTED_BY
        return codec.to_bytes()


#: All of them.
SHIPPED = (
    *(Shipped(bins, unit) for unit in ("chgcar", "e_per_A3") for bins in SIZES if bins != 32768),
    *(Shipped(bins, "e_per_A3", Tail(LARGEST, SMALLEST[bins], tail)) for bins, tail in TAIL_BINS.items()),
)


@dataclass(frozen=True)
class ShippedRelative:
    """A bundled relative codec of ``bins`` levels."""

    bins: int

    @property
    def name(self) -> str:
        """Kind and size."""
        return f"rel-{SIZES.get(self.bins, self.bins)}"

    @property
    def file_name(self) -> str:
        """Name of its file."""
        return self.name + RelativeCodec.suffix

    def content(self) -> bytes:
        """The bytes of its file."""
        codec = fit_relative(load(RELATIVE), self.bins, Scale(), guess=GUESS)
        codec.about["tomat"] = FITTED_BY
        return codec.to_bytes()


#: Relative codecs, their sketch, the starting density, and how the ids of their materials begin.
SHIPPED_RELATIVE = tuple(ShippedRelative(bins) for bins in (128, 256, 1024))
RELATIVE = "train-relative"
GUESS = "qe-sg15"
DIALECT = ("qe-", "qev-")
#: All codecs.
ALL: tuple[Shipped | ShippedRelative, ...] = (*SHIPPED, *SHIPPED_RELATIVE)


def load(sketch: str) -> Sketch:
    """A sketch of the repository."""
    return Sketch.load(SKETCHES / f"{sketch}.sketch.xz")


def check_sketch(name: str, data: str) -> None:
    """Make a sketch of the train split of ``data``, and compare it with the one in the repository or write it."""
    split = "train" if name.startswith("train") else None
    compare(name, sketch_entries(resolve_inputs([data], split=split), name.partition("-")[2]), data)


def check_relative(data: str) -> None:
    """The same for the sketch of differences."""
    guess = UnscaledPromolecule.load(GUESS)
    compare(RELATIVE, relative_sketch(of_dialect(data, "train"), guess, Scale()), data)


def of_dialect(data: str, *splits: str) -> list[Entry]:
    """The materials of some splits that the promolecule was made for."""
    entries = [entry for split in splits for entry in resolve_inputs([data], split=split)]
    return [entry for entry in entries if entry.task_id.startswith(DIALECT)]


def compare(name: str, sketch: Sketch, data: str) -> None:
    """Compare a sketch, its weights rounded, with the one in the repository, or write it."""
    path = SKETCHES / f"{name}.sketch.xz"
    made = sketch.rounded(WEIGHT_BITS)
    if not path.exists():
        made.save(path)
        print(f"{path}: written, {path.stat().st_size:,} bytes")
    elif Sketch.load(path).hash != made.hash:
        raise SystemExit(
            f"error: {path} is not the sketch of {data}; delete it to fit codecs to those densities"
        )


def floors_of(folder: Path, data: str) -> dict[str, dict[str, object]]:
    """Floors of the codecs on the validation and test materials of ``data``, for ``tomat codec list``."""
    every = [e for split in ("validation", "test") for e in resolve_inputs([data], split=split)]
    known = of_dialect(data, "validation", "test")
    found: dict[str, dict[str, object]] = {}
    for shipped in ALL:
        codec = load_codec(folder / shipped.file_name)
        unseen = known if codec.needs_guess else every
        nmae = floor(codec, unseen).summary()["nmae"]
        found[shipped.name] = {
            "hash": codec.hash,
            "nmae_mean": float(f"{nmae.mean:.4g}"),
            "nmae_max": float(f"{nmae.max:.4g}"),
            "n_materials": len(unseen),
        }
        print(f"{shipped.name}: mean NMAE floor {100 * nmae.mean:.3g} %, max {100 * nmae.max:.3g} %")
    return found


def main() -> None:
    """Rebuild all codecs and print what changed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=None, help="rho_gga root with a split file")
    parser.add_argument("--more", default=None, help="rho_gga_more root")
    parser.add_argument("--out", type=Path, default=CODECS, help="folder of the codecs")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.data:
        for unit in ("chgcar", "e_per_A3"):
            check_sketch(f"train-{unit}", arguments.data)
        check_relative(arguments.data)
    if arguments.more:
        check_sketch("more-e_per_A3", arguments.more)
    for shipped in ALL:
        path = arguments.out / shipped.file_name
        content = shipped.content()
        same = path.exists() and path.read_bytes() == content
        path.write_bytes(content)
        print(f"{path.name}: {len(content):,} bytes, {'the same as before' if same else 'written'}")
    if arguments.data:
        text = json.dumps(floors_of(arguments.out, arguments.data), indent=1, sort_keys=True) + "\n"
        (arguments.out / FLOORS).write_text(text)


if __name__ == "__main__":
    main()
