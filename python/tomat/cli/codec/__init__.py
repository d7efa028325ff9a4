"""Codecs: fit bins to densities, measure their error floor, compare ways of placing them.

\b
Examples:
  tomat codec compare tests/data/rho_gga
  tomat codec sketch /data/rho_gga --split train -o train.sketch
  tomat codec fit train.sketch --bins 16384 -o mine.npz
  tomat codec floor mine.npz /data/rho_gga --split test
"""

from tomat.cli._lazy import group

app = group(__name__, ("sketch", "merge", "fit", "floor", "compare", "list", "show"), __doc__)
