"""Losses over density tokens: pure functions of logits, and the loss of Levanter's trainer; see docs/losses.md."""

from __future__ import annotations

from tomat.lm.loss.bins import Bins
from tomat.lm.loss.density import NORMALISERS, SCOPES, TERMS, DensityLoss, LossConfig
from tomat.lm.loss.targets import DensityTargets

__all__ = ["NORMALISERS", "SCOPES", "TERMS", "Bins", "DensityLoss", "DensityTargets", "LossConfig"]
