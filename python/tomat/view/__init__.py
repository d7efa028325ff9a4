"""HTML pages with tables and plotly figures, and the figures of a density: surfaces, slices, atoms, cell."""
