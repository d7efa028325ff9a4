"""Training objectives, one class per file, selected by ``objective.kind``. NumPy only.

To add one, add a file with a subclass of :class:`Objective` and a line here.
"""

from __future__ import annotations

from tomat.lm.objective.base import Objective, ObjectiveConfig
from tomat.lm.objective.guess import Guess
from tomat.lm.objective.masked import Masked
from tomat.lm.objective.next_token import NextToken

__all__ = ["Objective", "ObjectiveConfig"]

Objective.register_subclass("next_token", NextToken)
Objective.register_subclass("masked", Masked)
Objective.register_subclass("guess", Guess)
