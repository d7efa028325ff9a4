"""How far the mean of a subset lies from that of all materials."""
