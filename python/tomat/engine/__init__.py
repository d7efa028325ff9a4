"""Ways to run a tokenization, and work on many items: one interface, the same bytes out."""

from tomat.engine.crew import Crew
from tomat.engine.items import Lost, Work
from tomat.engine.job import Engine, Job, Part
from tomat.engine.local import Progress, Run, StoppedError, Summary, tokenize
from tomat.engine.processes import ProcessEngine

__all__ = [
    "Crew",
    "Engine",
    "Job",
    "Lost",
    "Part",
    "ProcessEngine",
    "Progress",
    "Run",
    "StoppedError",
    "Summary",
    "Work",
    "tokenize",
]
