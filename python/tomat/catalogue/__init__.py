"""The catalogue: one row a material, as a parquet file."""
