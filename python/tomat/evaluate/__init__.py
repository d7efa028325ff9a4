"""Numbers of whole held-out materials: measured, summed up with intervals, compared; no JAX needed here.

What is measured comes through :class:`tomat.evaluate.methods.Method`: a checkpoint behind a
:class:`tomat.prediction.predictor.PatchPredictor`, the promolecule, the codec alone. ``docs/evaluation.md`` defines
every number.
"""
