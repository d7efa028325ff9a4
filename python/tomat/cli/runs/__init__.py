"""Training runs that were logged elsewhere: bring them here for reports.

\b
Examples:
  tomat runs pull my-team/tomat -o pulled
  tomat runs pull --offline wandb/offline-run-* -o pulled
  tomat report pulled/* -o report.html
"""

from tomat.cli._lazy import group

app = group(__name__, ("pull",), __doc__)
