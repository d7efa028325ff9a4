"""From a crystal to its density: structures, grids, covers of the cell by patches, and patch predictors."""
