"""Open the brick model of a run or checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tomat.lm.brick.config import BrickShape
from tomat.lm.brick.network import BrickModel
from tomat.lm.field.checkpoint import RelativeModel, open_relative

if TYPE_CHECKING:
    import jax

    from tomat.lm.field.checkpoint import Init
    from tomat.lm.field.config import FieldShape
    from tomat.lm.field.levels import Levels

#: A trained brick model.
TrainedBrick = RelativeModel[BrickModel]


def open_brick(path: str, *, weights: str = "best") -> TrainedBrick:
    """Open the brick model of a run or checkpoint, see :func:`tomat.lm.checkpoint.open_checkpoint`.

    Raises:
        FileNotFoundError: there is no complete checkpoint, or no initial weights for ``start``.
        ValueError: damaged, missing or extra files, no digests, or a note that does not fit them.
    """
    return open_relative(path, _init, weights=weights)


def _init(stored: dict[str, Any]) -> Init[BrickModel]:
    shape = BrickShape.from_json(stored["brick"])

    def init(key: jax.Array, field: FieldShape, levels: Levels) -> BrickModel:
        return BrickModel.init(key, shape, field, levels)

    return init
