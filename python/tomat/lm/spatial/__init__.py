"""Where the tokens of a row are in space, and what a field model sees there."""
