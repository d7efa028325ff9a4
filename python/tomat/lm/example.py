"""What the trainer is fed: one row of the model with everything a loss may ask for; needs JAX and Levanter."""

from __future__ import annotations

import equinox as eqx
import haliax as hax
from levanter.models.lm_model import LmExample


class DensityExample(LmExample):
    """One row of the model.

    Every field but ``attn_mask`` is an array over the position axis of the model; ``tokens`` are the model's input.
    What position i is asked for stands at i in ``targets``, ``values`` and ``loss_weight``, whatever the objective:
    for ``next_token`` they are shifted by one already.

    Attributes:
        tokens: int32, input ids.
        loss_weight: float32, 0 where nothing is asked for (padding, tokens that are given).
        attn_mask: causal or full, with the segments of packed sequences.
        targets: int32, the true id.
        values: float32, the true density in the codec's unit where the target is a density token, 0 elsewhere.
        pos_ids: int32, positions that start from 0 in each sequence of a packed row.
    """

    targets: hax.NamedArray = eqx.field(kw_only=True)
    values: hax.NamedArray = eqx.field(kw_only=True)
    pos_ids: hax.NamedArray = eqx.field(kw_only=True)
