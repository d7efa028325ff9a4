"""Ways of damaging files, each drawn from a random number generator: for ``fuzz.py``."""

from __future__ import annotations

import copy
import io
import json
import re
import zipfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    type Mutation = Callable[[random.Random, bytes], bytes]

__all__ = ["mutate_bytes", "mutate_json", "mutate_npz", "mutate_text"]

#: What stands where a number was.
NUMBERS = (
    "0", "-1", "1", "2", "3", "7", "1023", "1024", "65536", "2147483648", "4294967295", "4294967296",
    "9223372036854775807", "9223372036854775808", "18446744073709551616", "1e308", "-1e308", "1e309", "1e-400", "nan",
    "inf", "-inf", "1e", "0x10", "1_000", "1,5", "********", "", "9" * 400, "\u0661",
)  # fmt: skip
#: What stands where a value of JSON was.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 1023, 1 << 31, 1 << 63, 1 << 64, 10**400, 0.5, 1e308, -1e-320, float("nan"),
    float("inf"), "", "x", "..", "../../x", "/etc/passwd", "shard-00000.parquet", "chgcar", "\0", "\ud800", [], {}, [0],
    [None], {"": 0}, [[1, 2, 3]], ["a"] * 50,
)  # fmt: skip
#: Names of things that metadata speak of.
WORDS = (
    "zstd", "gzip", "blosc", "crc32c", "bytes", "transpose", "sharding_indexed", "vlen-utf8", "packbits", "float32",
    "float64", "int8", "uint64", "complex64", "string", "r16", "group", "array", "big", "little", "default", "v2", "Xx",
    "X", "D", "Og",
)  # fmt: skip

_NUMBER = re.compile(rb"[-+]?\d+(\.\d*)?([eEdD][-+]?\d+)?")


def mutate_bytes(luck: random.Random, data: bytes) -> bytes:
    """Bits turned, parts cut, doubled, moved, put in."""
    damaged = bytearray(data)
    for _ in range(luck.choice((1, 1, 1, 2, 4))):
        if not damaged:
            break
        at = luck.randrange(len(damaged))
        length = min(luck.choice((1, 2, 4, 8, 64, 1024)), len(damaged) - at)
        match luck.randrange(7):
            case 0 | 1 | 2:
                damaged[at] ^= 1 << luck.randrange(8)
            case 3:
                del damaged[at:]
            case 4:
                del damaged[at : at + length]
            case 5:
                damaged[at:at] = damaged[at : at + length]
            case _:
                damaged[at : at + length] = luck.randbytes(length)
    return bytes(damaged)


def mutate_text(luck: random.Random, data: bytes) -> bytes:
    """A number replaced, a line doubled, taken out or moved; or as :func:`mutate_bytes`."""
    match luck.randrange(4):
        case 0:
            return mutate_bytes(luck, data)
        case 1:
            lines = data.split(b"\n")
            at, other = luck.randrange(len(lines)), luck.randrange(len(lines))
            match luck.randrange(3):
                case 0:
                    lines.insert(other, lines[at])
                case 1:
                    del lines[at]
                case _:
                    lines[at], lines[other] = lines[other], lines[at]
            return b"\n".join(lines)
        case _:
            # Most numbers are values; what stands at the start decides how they are read.
            found = list(_NUMBER.finditer(data[:2000] if luck.random() < 0.7 else data))
            if not found:
                return mutate_bytes(luck, data)
            match_ = luck.choice(found)
            number = luck.choice((*NUMBERS, *WORDS)).encode()
            return data[: match_.start()] + number + data[match_.end() :]


def mutate_json(luck: random.Random, data: bytes) -> bytes:
    """A key taken out or renamed, a value replaced, lists lengthened, deep nesting; now and then plain damage."""
    if luck.random() < 0.15:
        return mutate_text(luck, data)
    try:
        content = json.loads(data)
        for _ in range(luck.choice((1, 1, 1, 2, 3))):
            content = changed(luck, content)
    except (ValueError, RecursionError):
        return mutate_bytes(luck, data)
    if luck.random() < 0.01:
        return b'{"a":' * 5000 + json.dumps(content).encode() + b"}" * 5000
    return json.dumps(content).encode()


def changed(luck: random.Random, content: Any) -> Any:
    """``content`` with one change somewhere in it."""
    places = list(_places(content))
    if not places or luck.random() < 0.02:
        return copy.deepcopy(luck.choice(VALUES))
    holder, key = luck.choice(places)
    value = holder[key]
    if isinstance(value, str) and value[:1] in "{[" and luck.random() < 0.7:
        # JSON inside of JSON, as Zarr attributes have it.
        holder[key] = mutate_json(luck, value.encode(errors="replace")).decode(errors="replace")
        return content
    match luck.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[luck.choice(("", "x", "name", f"{key}_"))] = holder.pop(key)
        case 2 if isinstance(value, list) and value:
            holder[key] = value * luck.choice((0, 2, 100))
        case 3 if isinstance(value, int | float) and not isinstance(value, bool):
            holder[key] = luck.choice(
                (-value, value + 1, value * 2, float(value) if abs(value) < 1e300 else 0, str(value))
            )
        case 4:
            holder[key] = luck.choice(WORDS)
        case _:
            holder[key] = copy.deepcopy(luck.choice(VALUES))
    return content


def _places(content: Any) -> Any:
    """Every value in a tree as what holds it and under which key."""
    pairs = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in pairs:
        yield content, key
        yield from _places(value)


def mutate_npz(luck: random.Random, data: bytes) -> bytes:
    """The archive damaged; or whole, its members changed, renamed, left out, packed, or made to unpack to much."""
    if luck.random() < 0.4:
        return mutate_bytes(luck, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = luck.choice(list(members))
    match luck.randrange(6):
        case 0:
            del members[name]
        case 1:
            members[luck.choice(("x.npy", "x", "../x.npy", name + "y"))] = members.pop(name)
        case 2:
            members[name] = mutate_bytes(luck, members[name])
        case 3:
            members[name] = mutate_text(luck, members[name][:128]) + members[name][128:]
        case 4:
            text = members[name]
            members[name] = text[:128] + mutate_json(luck, text[128:])
        case _:
            members[name] += bytes(luck.choice((1, 4, 1 << 20)))
    packed = io.BytesIO()
    method = luck.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(packed, "w", method) as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member), content, method)
    whole = packed.getvalue()
    return mutate_bytes(luck, whole) if luck.random() < 0.1 else whole
