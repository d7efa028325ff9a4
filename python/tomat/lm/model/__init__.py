"""The network, its presets, and its cost in FLOPs and memory."""
