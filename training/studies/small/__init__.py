"""The studies at the size that two cores can train: layouts, sampling weights, scaling."""
