"""The network, its presets, and what it costs."""
