"""Which checkpoint a run goes on from, and whether it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import numpy as np

from tomat.lm.digests import DIGESTS, METADATA, check_folder, checkpoint_folders, is_complete
from tomat.storage.remote import place

if TYPE_CHECKING:
    from collections.abc import Callable

    from tomat.lm.config import TrainConfig


def check_resumed(config: TrainConfig) -> None:
    """Check the checkpoint that the trainer would load, and have it load that one.

    The latest is that with the largest step in its name. Every file of it is read and compared with its digests, by
    the first process for all.

    Raises:
        OSError: a file cannot be read.
        ValueError: a checkpoint that is damaged or has no digests.
    """
    trainer = config.trainer
    folders: list[str] = []
    if trainer.load_checkpoint is not False:
        for root in trainer.checkpoint_search_paths(config.name):
            folders += [root] if is_complete(root) else checkpoint_folders(root)
        folders.sort(key=_step)
    if folders:
        trainer.load_checkpoint, trainer.load_checkpoint_path = True, folders[-1]
    elif trainer.load_checkpoint is None:
        trainer.load_checkpoint = False
    start = folders[-1] if folders else trainer.initialize_from

    def check() -> None:
        # Levanter reads the marks of all of them, to see which it may delete.
        for folder in folders[:-1]:
            _check_mark(folder)
        if start is not None and is_complete(start):
            check_folder(start)

    _once_for_all(check)


def _step(folder: str) -> int:
    number = folder.rstrip("/").rsplit("-", 1)[-1]
    return int(number) if number.isdigit() else -1


def _check_mark(folder: str) -> None:
    if (place(folder) / DIGESTS).exists():
        check_folder(folder, [METADATA])


def _once_for_all(check: Callable[[], None]) -> None:
    """Run ``check`` in the first process; where it fails all of them stop."""
    if jax.process_count() == 1:
        check()
        return
    from jax.experimental import multihost_utils

    error: Exception | None = None
    if jax.process_index() == 0:
        try:
            check()
        except (OSError, ValueError) as found:
            error = found
    failed = multihost_utils.broadcast_one_to_all(np.array(error is not None))
    if error is not None:
        raise error
    if bool(failed):
        raise ValueError("the checkpoint to go on from is damaged; the first process says how")
