"""Retries of transient errors of remote stores, with exponential backoff.

Not tenacity, which would replace only the loop, not the classification of errors.
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

#: Attempts in all; the clients of the stores retry within each.
ATTEMPTS = 6
#: Mean pause before the second attempt, in seconds; it doubles each time, up to the longest.
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 32.0

#: Permanent errors.
_LASTING = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
#: Permanent local conditions.
_LASTING_ERRNO = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENAMETOOLONG, errno.EINVAL}
)
#: Packages whose errors without an HTTP status are connection errors.
_NETWORK = frozenset({"aiohttp", "aiobotocore", "botocore", "requests", "urllib3", "http"})


def is_transient(error: BaseException) -> bool:
    """Whether retrying may help: a lost connection, a timeout, HTTP status 408, 429 or 5xx."""
    if isinstance(error, _LASTING):
        return False
    status = _status(error)
    if status is not None:
        return status in (408, 429) or 500 <= status < 600
    if isinstance(error, OSError):
        # gcsfs has no error class for HTTP 403.
        return error.errno not in _LASTING_ERRNO and not str(error).startswith("Forbidden")
    if type(error).__module__.partition(".")[0] in _NETWORK or type(error).__name__ == "ChecksumError":
        return True
    # gcsfs raises AttributeError while cleaning up after a failed large upload.
    return (
        isinstance(error, AttributeError)
        and error.__context__ is not None
        and is_transient(error.__context__)
    )


def _status(error: BaseException) -> int | None:
    """The HTTP status of an error, under the various names clients use."""
    answer = getattr(error, "response", None)
    # aiohttp warns when ``code`` is read.
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
    """The result of ``work``, retried after transient errors; ``what`` names it in the log.

    Raises:
        Exception: the last error of ``work``; errors of HTTP clients become ``OSError``, ``FileNotFoundError`` or
            ``PermissionError``.
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
    """A permanent error of an HTTP client as an ``OSError``; None for other errors."""
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
