"""Ways to run a tokenization: one interface, the same bytes out."""

from tomat.engine.job import Engine, Job, Part
from tomat.engine.local import Progress, Run, StoppedError, Summary, tokenize
from tomat.engine.processes import ProcessEngine

__all__ = ["Engine", "Job", "Part", "ProcessEngine", "Progress", "Run", "StoppedError", "Summary", "tokenize"]
