"""``meta.json``: its keys and their types, its digest, and the file names in it.

Manifests are untrusted, and names in them become paths: every reader uses :func:`read_meta`.
"""

from __future__ import annotations

import hashlib
import json
import re
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from tomat import _core
from tomat._seal import check_seal
from tomat.codec import codec_of
from tomat.storage.files import parse_json, read_json

if TYPE_CHECKING:
    import types
    from collections.abc import Iterable, Mapping, Sequence

    from tomat.storage.remote import Place

META = "meta.json"
COVERAGE = "coverage_histogram.json"
CODEC = "codec.npz"
#: Patches of each material, unless the budget is equal.
BUDGET = "budget.json"
#: Exact crystals of the materials with rows.
CRYSTALS = "crystals.parquet"

#: Reasons for leaving a material out, in the order of ``meta.json``.
REASONS = _core.REASONS

#: Those of version 1.
_REASONS_1 = ("missing", "oversized", "bad_lattice", "overflow", "unreadable")

#: Version of written files; 2 added the digests.
FORMAT_VERSION = 2
#: Key of the digest over all other keys.
SEAL = "meta_sha256"

#: ``kind`` of a dataset of crystals without densities (:mod:`tomat.language.dataset`), whose keys are others.
CRYSTALS_KIND = "tomat crystals"

_SHARD = re.compile(r"shard-[0-9]{5,}\.parquet")
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Name of a codec file next to the shards; other programs choose their own.
_CODEC_NAME = re.compile(r"[^/\\:\0.][^/\\:\0]*")

type _Kind = type | types.UnionType

#: Keys of every dataset, whatever program wrote it.
_OF_ALL: dict[str, _Kind] = {
    "tokenizer_version": str,
    "patch_size": int,
    "pad_to": int,
    "total_rows": int,
    "vocab": dict,
    "density_codec_name": str,
}
#: Further keys of every dataset written by tomat. New keys go to ``_OWN_SINCE_2``.
_OWN: dict[str, _Kind] = {
    "format_version": int,
    "split": str,
    "n_materials": int,
    "n_materials_listed": int,
    "patches_per_material": int,
    "shape": str,
    "fallback_shapes": list,
    "n_materials_fallback": int,
    "lmq_path": str | None,
    "unit": str,
    "seed": int,
    "epoch": int,
    "sampler": str,
    "budget": str,
    "budget_sha256": str | None,
    "n_shards": int,
    "worker_index": int,
    "n_workers": int,
    "codec_hash": str,
    "vocabulary_hash": str,
    "shards": list,
    "identity": dict,
    **{f"n_materials_{reason}": int for reason in _REASONS_1},
    **{f"first_materials_{reason}": list for reason in _REASONS_1},
}
#: Keys added in format version 2.
_OWN_SINCE_2: dict[str, _Kind] = {
    SEAL: str,
    "coverage_sha256": str,
    "codec_sha256": str | None,
    "max_clipped": int | float,
    "max_negative": int | float,
    "clipped_voxels": int,
    "clipped_electrons": int | float,
    "clipped_materials": dict,
    "n_materials_warned": int,
    "warnings": dict,
    **{f"n_materials_{reason}": int for reason in REASONS},
    **{f"first_materials_{reason}": list for reason in REASONS},
}
#: Keys added later, which datasets of version 2 may lack.
_OWN_IF_THERE: dict[str, _Kind] = {"crystals_sha256": str}
#: Keys that no other program writes: if one is present, all must be. Several, so that a damaged key does not make the
#: file look like another program's.
_MARKS = ("format_version", "identity", "codec_hash", "vocabulary_hash", SEAL)
_OF_SHARD: dict[str, _Kind] = {"name": str, "rows": int, "bytes": int, "sha256": str}


def is_own(meta: Mapping[str, Any]) -> bool:
    """Whether tomat wrote it; files of other programs have fewer keys and no digests."""
    return any(key in meta for key in _MARKS)


def read_meta(folder: Place) -> dict[str, Any]:
    """Read and check ``meta.json`` of a folder, without the files it lists.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
        OSError: it cannot be read.
        ValueError: damaged, of a later version, with missing keys, wrong types or invalid shard names; the message
            names the file and the key.
    """
    place = folder / META
    meta = read_json(place)
    if meta.get("kind") == CRYSTALS_KIND:
        raise ValueError(
            f"{place}: rows of crystals, not of densities; tomat verify and tomat show read them"
        )
    if is_own(meta):
        _check_own(meta, place)
    check_keys(meta, _OF_ALL, place, "not a dataset of the format")
    _check_sizes(meta, place)
    _check_vocabulary(meta, place)
    _check_names(meta, place)
    return meta


def _check_own(meta: Mapping[str, Any], place: Place) -> None:
    version = meta.get("format_version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise ValueError(
            f"{place}: of format version {version!r}; this tomat reads versions 1 to {FORMAT_VERSION}: update it, or "
            "fetch the file again"
        )
    if version > 1 or SEAL in meta:
        check_seal(meta, SEAL, place)
        later = {key: kind for key, kind in _OWN_IF_THERE.items() if key in meta}
        check_keys(meta, _OWN_SINCE_2 | later, place, "every dataset of this version has it; fetch it again")
    check_keys(meta, _OWN, place, "every dataset of this program has it; fetch it again")
    if meta["lmq_path"] not in (CODEC, None):
        raise ValueError(f"{place}: lmq_path is {meta['lmq_path']!r}; it is {CODEC} or null")
    if meta["unit"] not in ("chgcar", "e_per_A3"):
        raise ValueError(f"{place}: unit {meta['unit']!r} is not one of chgcar, e_per_A3")
    if not 0 <= meta["worker_index"] < meta["n_workers"]:
        raise ValueError(f"{place}: worker_index {meta['worker_index']} of {meta['n_workers']} workers")
    for shard in meta["shards"]:
        check_shard(shard, place)


def check_keys(meta: Mapping[str, Any], keys: Mapping[str, _Kind], place: object, remedy: str) -> None:
    """Check that keys are there with values of their types.

    Raises:
        ValueError: one is not; the message names ``place``, the key, and ``remedy``.
    """
    for key, kind in keys.items():
        if key not in meta:
            raise ValueError(f"{place}: no {key!r} in it; {remedy}")
        value = meta[key]
        # JSON's true is a bool, which Python also takes for an int.
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(
                f"{place}: {key!r} is {_shown(value)}, not {getattr(kind, '__name__', kind)}; {remedy}"
            )


def _check_sizes(meta: Mapping[str, Any], place: Place) -> None:
    for key in ("patch_size", "pad_to", "total_rows"):
        if meta[key] < (key != "total_rows"):
            raise ValueError(f"{place}: {key!r} is {meta[key]}")
    shapes = meta.get("fallback_shapes", [])
    if not isinstance(shapes, list) or not all(
        isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and n > 0 for n in shape)
        for shape in shapes
    ):
        raise ValueError(f"{place}: fallback_shapes is {_shown(shapes)}, not a list of three numbers each")


def _check_vocabulary(meta: Mapping[str, Any], place: Place) -> None:
    vocabulary = meta["vocab"]
    check_keys(vocabulary, {"total_size": int, "density_codec": dict}, f"{place}: vocab", "fetch it again")
    if not isinstance(vocabulary.get("specials", {}), dict):
        raise ValueError(f"{place}: vocab: 'specials' is not an object of names and ids")
    if not meta.get("lmq_path"):
        try:
            codec_of(vocabulary["density_codec"])
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{place}: density_codec: {error}; fetch it again") from error


def _check_names(meta: Mapping[str, Any], place: Place) -> None:
    """Names that become paths."""
    codec = meta.get("lmq_path")
    if codec is not None and not isinstance(codec, str):
        raise ValueError(f"{place}: 'lmq_path' is {_shown(codec)}, not a name")
    taken = (META, COVERAGE, BUDGET, CRYSTALS)
    if (
        codec
        and "/" not in codec
        and (not _CODEC_NAME.fullmatch(codec) or codec in taken or _SHARD.fullmatch(codec))
    ):
        raise ValueError(f"{place}: lmq_path is {codec!r}, which is no name of a codec file (codec.npz)")
    shards = meta.get("shards", [])
    if not isinstance(shards, list) or not all(
        isinstance(shard, dict) and "name" in shard for shard in shards
    ):
        raise ValueError(f"{place}: 'shards' is {_shown(shards)}, not a list of objects with a name")
    names = [shard["name"] for shard in shards]
    for name in names:
        check_shard_name(name, place)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{place}: lists {twice} twice")


def check_shard(shard: object, place: Place) -> None:
    """Check an entry of ``shards``.

    Raises:
        ValueError: it has not the name, rows, bytes and digest of a shard.
    """
    if not isinstance(shard, dict):
        raise ValueError(
            f"{place}: 'shards' holds {_shown(shard)}, not objects with name, rows, bytes and sha256"
        )
    check_keys(shard, _OF_SHARD, f"{place}: a shard", "fetch it again")
    check_shard_name(shard["name"], place)
    if not _SHA256.fullmatch(shard["sha256"]) or shard["rows"] < 0 or shard["bytes"] < 0:
        raise ValueError(f"{place}: {_shown(shard)} is no shard; fetch it again")


def check_shard_name(name: object, place: object) -> None:
    """Check the name of a shard, which must not be a path.

    Raises:
        ValueError: an invalid name.
    """
    if not isinstance(name, str) or not _SHARD.fullmatch(name):
        raise ValueError(
            f"{place}: {_shown(name)} is no name of a shard (shard-00000.parquet); nothing of this dataset is read: "
            "get it from somebody you trust, or rename the file"
        )


def read_coverage(folder: Place, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Read ``coverage_histogram.json`` of a folder and check its digest in ``meta``.

    Raises:
        OSError: it cannot be read; ``FileNotFoundError`` if it does not exist.
        ValueError: not a JSON object, or not the file that ``meta`` describes.
    """
    place = folder / COVERAGE
    content = place.read_bytes()
    stated = meta.get("coverage_sha256")
    if stated is not None and hashlib.sha256(content).hexdigest() != stated:
        raise ValueError(f"{place}: the content is not what {META} states (SHA-256); fetch it again")
    return parse_json(content, place)


def summed(histograms: Iterable[Sequence[int]]) -> list[int]:
    """The sum of histograms, of the length of the longest."""
    return [sum(counts) for counts in zip_longest(*histograms, fillvalue=0)]


def changed(place: object, found: str, stated: str) -> str:
    """The message for a file whose SHA-256 is not the stated one."""
    return f"{place}: the content is not what was written (SHA-256 {found}, expected {stated})"


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."
