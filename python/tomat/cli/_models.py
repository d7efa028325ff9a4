"""What commands that train models, use them or export them share."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer

Weights = Annotated[
    Literal["best", "latest", "start"] | None,
    typer.Option(
        help="Of a run: those of its best evaluation (latest where it kept none), the latest, or those it began with."
        "  [default: best]"
    ),
]


def needs_models() -> None:
    """Import Levanter.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import levanter  # noqa: F401
    except ImportError as error:
        raise ValueError(f"models need Levanter: pip install 'tomat[train]' ({error})") from error


def say_weights(predictor: Any) -> None:
    """On standard error, which weights of a run are used; nothing of what has none."""
    if hasattr(predictor, "at_start"):
        print(predictor, file=sys.stderr)
