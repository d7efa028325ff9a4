"""Evaluation on whole held-out materials: errors, bootstrap intervals, comparisons. Needs no JAX.

A :class:`tomat.evaluate.methods.Method` supplies the densities: a checkpoint behind a
:class:`tomat.prediction.predictor.PatchPredictor`, the promolecule, or the codec alone. ``docs/evaluation.md`` defines
every number.
"""
