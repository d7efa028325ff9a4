"""Levanter's checkpoints, each with a note of what made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
from levanter.checkpoint import Checkpointer, CheckpointInterval
from levanter.checkpoint import CheckpointerConfig as LevanterCheckpointerConfig

from tomat.lm.note import NOTE
from tomat.lm.run_files import write_mapping

__all__ = ["CheckpointerConfig"]


class _NotedCheckpointer(Checkpointer):
    """Writes the note before the state: a checkpoint that Levanter counts as complete has both."""

    note: dict[str, Any] | None = None

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
        """Save the state of a step."""
        base = self.base_path if base_path_override is None else base_path_override
        if self.note is not None and jax.process_index() == 0:
            content = {**self.note, "step": int(step)}
            write_mapping(f"{base}/{destination}/{NOTE}", content)
        super().save_checkpoint(
            tree,
            step,
            destination,
            commit_callback,
            is_temporary=is_temporary,
            base_path_override=base_path_override,
        )


@dataclass
class CheckpointerConfig(LevanterCheckpointerConfig):
    """Levanter's checkpointer; ``note`` is filled by the run.

    By default one checkpoint every 15 minutes, replaced by the next, and one every 1000 steps that stays.
    """

    keep: list[dict[str, Any]] | None = field(default_factory=lambda: [{"every": 1000}])
    note: dict[str, Any] | None = None

    def create(self, run_id: str) -> Checkpointer:
        """The checkpointer of a run."""
        made = _NotedCheckpointer(
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
