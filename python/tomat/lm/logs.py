"""Where the messages of a run go: all of them to its ``train.log``, warnings also to whoever watches."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING

from rigging.log_setup import configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

#: Name of the log in the folder of a run.
LOG = "train.log"


class Without(logging.Filter):
    """Drops messages that begin with some words.

    Args:
        words: the beginning, word for word.
    """

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the message is kept."""
        return not record.getMessage().startswith(self._words)


#: What says nothing about a run, by the name of the logger; other messages of these loggers are kept.
MEANINGLESS = {
    # Levanter fits the steps to be profiled into the run before it looks whether any are to be profiled.
    "levanter.callbacks.profiler": "Adjusting profiler_total_steps",
    # The peak of a CPU is in no table, and none is needed: utilisation is logged where it is known. For a GPU that is
    # not in the table the warning is kept, because then a number is missing that users expect.
    "fray.device_flops": "Unknown device type: cpu",
    # Levanter's own progress, once a minute; tomat.lm.progress says the same and more.
    "tqdm_loggable.tqdm_logging": "Progress on:train",
}


class _Shown(logging.Handler):
    """Shows warnings on a console, above the bar if there is one; without a console, only errors on standard error."""

    def __init__(self, console: Console | None) -> None:
        super().__init__(logging.ERROR if console is None else logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.levelname.lower()}: {self.format(record)}"
        if self._console is None:
            print(text, file=sys.stderr)
        else:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Warnings(logging.Filter):
    """Lets warnings and errors pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING


_WARNINGS = _Warnings()


def hush() -> None:
    """Keep routine messages off standard error before and after :func:`run_log`: Levanter's set-up, last threads.

    Levanter makes its handlers once and sets only their level later, so a filter stays.
    """
    configure_logging()
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.addFilter(_WARNINGS)


@contextlib.contextmanager
def run_log(folder: Path, console: Console | None) -> Iterator[None]:
    """Within the context, write all messages to :data:`LOG` in a folder and show warnings.

    It takes the place of what Levanter set up, which would name the file after the run, with its suffix twice. Messages
    that Levanter's file has by then come first.

    Args:
        folder: of the run, local.
        console: shows warnings; None shows only errors, on standard error.
    """
    logging.captureWarnings(True)
    root = logging.getLogger()
    theirs: list[logging.Handler] = [one for one in root.handlers if type(one) is logging.StreamHandler]
    file = logging.FileHandler(folder / LOG, mode="a", encoding="utf-8")
    _take_over(root, folder, file)
    ours: tuple[logging.Handler, ...] = (file, _Shown(console))
    before = list(root.handlers)
    filters = {logging.getLogger(name): Without(words) for name, words in MEANINGLESS.items()}
    for logger, words in filters.items():
        logger.addFilter(words)
    for handler in theirs:
        root.removeHandler(handler)
    for handler in ours:
        root.addHandler(handler)
    try:
        yield
    finally:
        for handler in ours:
            root.removeHandler(handler)
            handler.close()
        # As they were, in their order; what came or went meanwhile stays so.
        after = list(root.handlers)
        kept = [one for one in before if one in theirs or one in after]
        root.handlers[:] = [*kept, *(one for one in after if one not in kept)]
        for logger, words in filters.items():
            logger.removeFilter(words)


def _take_over(root: logging.Logger, folder: Path, file: logging.FileHandler) -> None:
    """Close Levanter's log in ``folder`` and begin ``file`` with its content, format and level."""
    for handler in [one for one in root.handlers if isinstance(one, logging.FileHandler)]:
        path = folder / handler.baseFilename
        if path.parent.resolve() != folder.resolve():
            continue
        root.removeHandler(handler)
        handler.close()
        file.setLevel(handler.level)
        file.setFormatter(handler.formatter)
        # Several processes of a run may share the folder, and each has the same file open.
        with contextlib.suppress(FileNotFoundError):
            with (folder / LOG).open("a", encoding="utf-8") as log:
                log.write(path.read_text(encoding="utf-8", errors="replace"))
            path.unlink()
