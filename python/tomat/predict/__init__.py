"""From a crystal to its density: structures, grids, covers of the cell by patches, and what predicts a patch.

``tomat.predict(checkpoint, structure)`` is :func:`tomat.predict.api.predict`: this module can be called, since a
function and a package cannot share a name.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """This module, with a call."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """See :func:`tomat.predict.api.predict`."""
        from tomat.predict.api import predict

        return predict(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
