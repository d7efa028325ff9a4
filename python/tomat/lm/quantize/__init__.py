"""Quantising trained models, layer by layer, with the inputs their layers have on crystals."""
