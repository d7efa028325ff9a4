"""Crystals as language: rows that are a crystal alone, for models that write crystals.

>>> from tomat.crystal import Crystal
>>> from tomat.language import CrystalLanguage
>>> salt = Crystal.from_parameters([5.64] * 3 + [90.0] * 3, [11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], "NaCl")
>>> language = CrystalLanguage()
>>> ids = language.encode(language.write(salt), frame=(1, 0, 0))
>>> " ".join(language.show(ids))[-77:]
'[ATOMS_START] Na Cl [ATOMS_END] [POS_START] 1 0 0 513 512 512 [POS_END] [EOS]'
>>> language.crystal(language.decode(ids)).frac_coords[1]
array([0.50097656, 0.5       , 0.5       ])
"""

from tomat.language.conditions import Column, Conditions
from tomat.language.rows import CrystalLanguage, WrittenCrystal

__all__ = ["Column", "Conditions", "CrystalLanguage", "WrittenCrystal"]
