"""Ways to run a tokenization: one interface, the same bytes out."""

from tomat.engine.local import Run, Stopped, Summary, tokenize

__all__ = ["Run", "Stopped", "Summary", "tokenize"]
