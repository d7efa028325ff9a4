"""Errors that pass: what a store says when it is busy, and trying again with growing pauses.

Not tenacity: it is no dependency yet, and would replace the loop alone (20 lines); what an error means stays ours.
"""

from __future__ import annotations

import errno
import logging
import random
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("tomat")

#: Tries in all; the clients of the stores try some more times within each.
ATTEMPTS = 6
#: Seconds before the second try, on average; each further pause is twice as long, up to the longest.
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 32.0

#: What an answer of these kinds says will be said again.
_LASTING = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
#: Local conditions that no waiting mends.
_LASTING_ERRNO = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENAMETOOLONG, errno.EINVAL}
)
#: Packages whose errors are about the connection where they carry no status.
_NETWORK = frozenset({"aiohttp", "aiobotocore", "botocore", "requests", "urllib3", "http"})


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: a lost connection, a timeout, an answer 408, 429 or 5xx."""
    if isinstance(error, _LASTING):
        return False
    status = _status(error)
    if status is not None:
        return status in (408, 429) or 500 <= status < 600
    if isinstance(error, OSError):
        # gcsfs has no class of its own for a refusal.
        return error.errno not in _LASTING_ERRNO and not str(error).startswith("Forbidden")
    if type(error).__module__.partition(".")[0] in _NETWORK or type(error).__name__ == "ChecksumError":
        return True
    # gcsfs trips over its own cleaning up when a large upload fails.
    return (
        isinstance(error, AttributeError)
        and error.__context__ is not None
        and is_transient(error.__context__)
    )


def _status(error: BaseException) -> int | None:
    """The status of an HTTP answer that an error carries, under the names the clients give it."""
    answer = getattr(error, "response", None)
    # That of aiohttp warns when it is asked for its code.
    found = [
        getattr(error, "status", None) if hasattr(error, "status") else getattr(error, "code", None),
        getattr(answer, "status_code", None),
    ]
    if isinstance(answer, dict):  # botocore
        found.append(answer.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    for value in found:
        if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
            return int(value)
    return None


def retried[T](work: Callable[[], T], what: str) -> T:
    """The result of ``work``, tried again while it fails for reasons that pass; ``what`` names it in the log.

    Raises:
        Exception: what ``work`` raised at last; OSError for an error of a client that is not one, and its kinds
            ``FileNotFoundError`` and ``PermissionError`` where that is what the store answers.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except Exception as error:
            if not is_transient(error):
                refusal = _refusal(error, what)
                if refusal is None:
                    raise
                raise refusal from error
            if attempt == ATTEMPTS:
                raise OSError(f"{what}: failed {ATTEMPTS} times, at last with: {_words(error)}") from error
            pause = random.uniform(0.5, 1.5) * min(FIRST_PAUSE_S * 2 ** (attempt - 1), LONGEST_PAUSE_S)
            logger.warning(
                "%s: try %d of %d failed (%s); again in %.1f s", what, attempt, ATTEMPTS, _words(error), pause
            )
            time.sleep(pause)
    raise AssertionError("unreachable")


def _refusal(error: Exception, what: str) -> OSError | None:
    """A lasting answer of a store as the error a file would give; None for what is one, or no answer at all."""
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] not in _NETWORK:
        return None
    status = _status(error)
    if status in (404, 410):
        return FileNotFoundError(f"{what}: no such file")
    if status in (401, 403):
        return PermissionError(
            f"{what}: the store refuses access ({status}); check the address and your credentials"
        )
    return OSError(f"{what}: {_words(error)}")


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
