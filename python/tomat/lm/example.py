"""The example type of the trainer: a row of the model with everything a loss needs; needs JAX and Levanter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import equinox as eqx
import haliax as hax
from levanter.models.lm_model import LmExample

if TYPE_CHECKING:
    from tomat.lm.spatial.example import Space


class DensityExample(LmExample):
    """One row of the model.

    Every field but ``attn_mask`` is an array over the model's position axis. Entry i of ``targets``, ``values`` and
    ``loss_weight`` belongs to the output at position i; for ``next_token`` they are already shifted by one.

    Attributes:
        tokens: int32, input ids.
        loss_weight: float32, 0 where nothing is predicted (padding, given tokens).
        attn_mask: causal or full, with the segments of packed sequences.
        targets: int32, true ids.
        values: float32, true density in the codec's unit where the target is a density token, 0 elsewhere.
        pos_ids: int32, positions, from 0 in each packed sequence.
        space: where the tokens are and what is around them; None for a model to which this does not matter.
    """

    targets: hax.NamedArray = eqx.field(kw_only=True)
    values: hax.NamedArray = eqx.field(kw_only=True)
    pos_ids: hax.NamedArray = eqx.field(kw_only=True)
    space: Space | None = eqx.field(kw_only=True, default=None)

    def activations(self, model: Any, *, key: Any = None) -> Any:
        """What a language model makes of the row, or of a batch of rows."""
        given = {} if self.space is None else {"space": self.space}
        return model.activations(self.tokens, self.attn_mask, key=key, pos_ids=self.pos_ids, **given)
