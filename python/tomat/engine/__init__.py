"""Ways to run a tokenization: one interface, the same bytes out."""

from tomat.engine.local import Run, StoppedError, Summary, tokenize

__all__ = ["Run", "StoppedError", "Summary", "tokenize"]
