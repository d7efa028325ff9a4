"""JSON records that hold a digest of themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def digest_of(content: Mapping[str, Any], key: str) -> str:
    """SHA-256 over the JSON of everything but ``key``: keys sorted, no spaces, ASCII."""
    rest = {name: value for name, value in content.items() if name != key}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sealed(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """``content`` as JSON, with its digest under ``key`` as the last entry."""
    # Through JSON, so that keys are text before they are sorted, as for the reader.
    plain: dict[str, Any] = json.loads(json.dumps(dict(content)))
    plain.pop(key, None)
    return {**plain, key: digest_of(plain, key)}


def check_seal(content: Mapping[str, Any], key: str, source: object) -> None:
    """Check a record against its digest."""
    stated = content.get(key)
    if stated is None:
        raise ValueError(f"{source}: no {key!r} in it, the digest of its content; fetch it again")
    found = digest_of(content, key)
    if stated != found:
        raise ValueError(
            f"{source}: the content is not what was written ({key} says {stated}, it gives {found}); the file is "
            "damaged or was edited, fetch it again"
        )
