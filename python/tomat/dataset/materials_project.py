"""Densities of the Materials Project from its public bucket, without an API key."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tomat.formats import FORMATS
from tomat.material import read
from tomat.storage.files import open_bytes, write_atomically

#: The bucket of parsed results, on AWS Open Data. Objects are named by the task id of the static calculation.
BUCKET = "s3://materialsproject-parsed/chgcars"
_ID = re.compile(r"(mp|mvc)-[0-9]+")
#: Of the objects; the same content has a name here that says its format.
_SUFFIX = ".json.gz"


@dataclass
class Fetched:
    """Outcome of fetching.

    Attributes:
        fetched: ids that were copied.
        there: ids whose files were there already.
        failed: what went wrong, by id.
    """

    fetched: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def fetch_densities(
    ids: Sequence[str], out: Path, bucket: str = BUCKET, told: Callable[[str], None] = lambda _: None
) -> Fetched:
    """Copy the densities of task ids to ``out/ID.chgcar.json.gz``; files that are there are kept.

    A file appears when it is complete and was read as a density; one that cannot be fetched does not stop the others.

    Raises:
        ValueError: something that is no id, or s3fs is not installed.
        OSError: the folder cannot be written.
    """
    wrong = [one for one in ids if not _ID.fullmatch(one)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no id of the Materials Project; give ids as mp-149")
    if bucket.startswith("s3://"):
        _anonymous()
    out.mkdir(parents=True, exist_ok=True)
    done = Fetched()
    for one in dict.fromkeys(ids):
        target = out / f"{one}{FORMATS['chgcar_json'].suffix}.gz"
        if target.exists():
            done.there.append(one)
            continue
        told(one)
        try:
            _fetch(f"{bucket.rstrip('/')}/{one}{_SUFFIX}", target)
            done.fetched.append(one)
        except FileNotFoundError:
            done.failed[one] = (
                f"{one}: no density of this name in {bucket}; objects are named by the task id of the calculation, "
                "which can differ from the id of the material: its page on materialsproject.org lists its tasks"
            )
        except (OSError, ValueError) as error:
            done.failed[one] = f"{one}: {error}; fetching needs network access to {bucket}"
    return done


def _fetch(url: str, target: Path) -> None:
    # Hidden until it was read as a density, under a name that says its format.
    unfinished = target.with_name(
        f".{target.name.removesuffix('.gz')}.part{FORMATS['chgcar_json'].suffix}.gz"
    )
    try:
        write_atomically(unfinished, open_bytes(url))
        read(unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _anonymous() -> None:
    """Have fsspec ask the bucket without credentials."""
    import fsspec

    try:
        import s3fs  # noqa: F401
    except ImportError as error:
        raise ValueError("fetching from a bucket on S3 needs s3fs: pip install 'tomat[s3]'") from error
    fsspec.config.conf.setdefault("s3", {}).setdefault("anon", True)
