"""Catalogues of materials: build, query, summarise and split a parquet file with one row per material.

\b
Examples:
  tomat catalogue build /data/rho_gga -o catalogue.parquet
  tomat catalogue summary catalogue.parquet
  tomat catalogue query catalogue.parquet "SELECT category, count(*) FROM catalogue GROUP BY 1"
  tomat catalogue split catalogue.parquet --by reduced_formula -o split.json
"""

from tomat.cli._lazy import group

app = group(__name__, ("build", "query", "summary", "split"), __doc__)
