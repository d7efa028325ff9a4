"""Open the methods of an evaluation: a checkpoint in its modes, and the baselines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tomat.codec import load_codec
from tomat.evaluate.methods import (
    HEADLINES,
    CodecFloor,
    Method,
    PatchMethod,
    PromoleculeMethod,
    StartMethod,
)
from tomat.lm.decode.opening import open_model
from tomat.prediction.options import DecodingConfig
from tomat.prediction.predictor import BUNDLED_PROMOLECULE, PROMOLECULE
from tomat.promolecule import Promolecule
from tomat.tokenizer import LAYOUTS

if TYPE_CHECKING:
    from tomat.lm.decode.kinds import OpenModel
    from tomat.prediction.cover import Window


def open_methods(
    checkpoint: str,
    *,
    modes: Sequence[str] = (),
    decoding: DecodingConfig | None = None,
    overlap: int = 0,
    window: Window = "blend",
    promolecule: str | None = None,
    codec: str | None = None,
    start: bool = True,
) -> tuple[list[Method], str]:
    """The methods to evaluate, and the density unit.

    Args:
        checkpoint: a checkpoint, or ``promolecule`` or ``promolecule:NAME`` for the baselines alone.
        modes: prediction modes; all that the checkpoint supports if empty.
        decoding: decoding options; its ``mode`` is ignored.
        overlap: grid points by which patches overlap.
        window: what becomes of voxels that several patches hold, one of :data:`tomat.prediction.cover.WINDOWS`.
        promolecule: the baseline; None is the checkpoint's own, or the bundled one.
        codec: the codec of the floor if there is no checkpoint; None is the default of layout v3.
        start: evaluate the weights at step 0 as well, in the first headline mode.
    """
    if len(set(modes)) != len(modes):
        raise ValueError(f"modes {', '.join(modes)}: give each once")
    head, _, named = checkpoint.partition(":")
    if head == PROMOLECULE:
        if modes:
            raise ValueError("the promolecule has no modes; omit --mode")
        if named and promolecule and named != promolecule:
            raise ValueError(f"two promolecules are given, {named!r} and {promolecule!r}; give one")
        alone = load_codec(codec or LAYOUTS["v3"].default_codec)
        baseline = Promolecule.load(named or promolecule or BUNDLED_PROMOLECULE)
        return [PromoleculeMethod(baseline), CodecFloor(alone, alone.unit_for())], alone.unit_for()
    chosen: Any = modes[0] if modes else None
    first = open_model(checkpoint, replace(decoding or DecodingConfig(), mode=chosen))
    # One model in several modes: its weights are read once.
    wanted: Any = modes or first.modes
    predictors = [first if mode == first.mode else first.in_mode(mode) for mode in wanted]
    own = first.facts.promolecule if promolecule is None else None
    baseline = own or Promolecule.load(promolecule or BUNDLED_PROMOLECULE)
    floor = CodecFloor(first.codec, first.tokenizer.unit, first.facts.guess)
    models: list[Method] = [PatchMethod(predictor, overlap, window) for predictor in predictors]
    begun = _start(predictors, overlap, window) if start else None
    return [*models, *([] if begun is None else [begun]), PromoleculeMethod(baseline), floor], floor.unit


def _start(predictors: Sequence[OpenModel], overlap: int, window: Window) -> StartMethod | None:
    """The initial weights of the checkpoint's run; None, with a message, if they were not kept."""
    chosen = next((of for of in predictors if of.mode in HEADLINES), predictors[0])
    try:
        return StartMethod(chosen.at_start(), overlap, window)
    except FileNotFoundError as error:
        print(f"no row for the start (step 0): {error}", file=sys.stderr)
        return None
