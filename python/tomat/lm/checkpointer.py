"""Levanter's checkpoints, with a note of the run and the digests of their files."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
from haliax.jax_utils import is_jax_array_like
from levanter.checkpoint import Checkpointer, CheckpointInterval
from levanter.checkpoint import CheckpointerConfig as LevanterCheckpointerConfig
from levanter.tensorstore_serialization import tree_serialize_leaves_tensorstore

from tomat.lm import digests
from tomat.lm.record import write_note


def save_state(
    tree: Any,
    folder: str,
    step: int,
    *,
    is_temporary: bool = False,
    commit_callback: Callable[[], None] | None = None,
    manager: Any = None,
    **options: Any,
) -> None:
    """Write arrays into a folder, then the digests of all its files, then ``metadata.json``, which completes it.

    Collective over all processes. With a ``manager`` it returns before everything is written.

    Args:
        tree: the arrays to save.
        folder: local or a URL; files already there are part of the checkpoint.
        step: the last completed step.
        is_temporary: whether the next checkpoint replaces it.
        commit_callback: called when it is complete.
        manager: of asynchronous writes.
        options: of Levanter's writer.
    """

    def commit() -> None:
        # Called once the files of all processes are there.
        if jax.process_index() == 0:
            now = datetime.datetime.now().isoformat()
            digests.complete(folder, {"step": step, "timestamp": now, "is_temporary": is_temporary})
        if commit_callback is not None:
            commit_callback()

    kept = eqx.filter(
        tree, lambda leaf: is_jax_array_like(leaf) or isinstance(leaf, int | float | bool | complex)
    )
    tree_serialize_leaves_tensorstore(folder, kept, manager, commit_callback=commit, **options)


class NotedCheckpointer(Checkpointer):
    """Writes note, state and digests, and then marks the checkpoint as complete for Levanter.

    Attributes:
        note: of the run.
        is_held: whether the current step must not be saved, because its loss stops the run.
    """

    note: dict[str, Any] | None = None
    is_held: Callable[[], bool] | None = None

    def on_step(self, *, tree: Any, step: int, force: bool = False) -> None:
        """Save the state of a step if it is due."""
        if self.is_held is None or not self.is_held():
            super().on_step(tree=tree, step=step, force=force)

    def save_checkpoint(
        self,
        tree: Any,
        step: int,
        destination: str,
        commit_callback: Callable[[], None] | None = None,
        *,
        is_temporary: bool = False,
        base_path_override: str | None = None,
    ) -> None:
        """Save the state of a step as Levanter does, with the digests before the metadata."""
        base = self.base_path if base_path_override is None else base_path_override
        folder = f"{base}/{destination}"
        step = int(step)
        if jax.process_index() == 0:
            digests.begin(folder)
            if self.note is not None:
                write_note(folder, {**self.note, "step": step})
        save_state(
            tree,
            folder,
            step,
            is_temporary=is_temporary,
            commit_callback=commit_callback,
            manager=self._manager,
            debug_checkpointer=self.debug.enabled,
            write_config=self.write_config,
        )
        self._last_save_step = step
        self._last_save_time = self._dt_now_injection()


@dataclass
class CheckpointerConfig(LevanterCheckpointerConfig):
    """Configuration of Levanter's checkpointer; the run sets ``note``.

    By default there is a checkpoint every 15 minutes, replaced by the next, and a permanent one every 1000 steps.
    """

    keep: list[dict[str, Any]] | None = field(default_factory=lambda: [{"every": 1000}])
    note: dict[str, Any] | None = None

    def create(self, run_id: str) -> Checkpointer:
        """The checkpointer of a run."""
        made = NotedCheckpointer(
            base_path=self.expanded_path(run_id),
            save_interval=self.save_interval,
            step_policies=[CheckpointInterval(**keep) for keep in self.keep or []],
            temporary_base_path=self.expanded_temporary_path(run_id),
            delete_old_temp_checkpoints=self.delete_old_temp_checkpoints,
            keep_last_temporary_checkpoints=self.keep_last_temporary_checkpoints,
            debug=self.debug,
            write_config=self.write,
        )
        made.note = self.note
        return made
