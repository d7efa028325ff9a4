"""Shared by the commands that train, use or export models."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import typer

from tomat.prediction.options import DecodingConfig

_HINTS = get_type_hints(DecodingConfig)


def decoding_options(*names: str) -> Callable[..., DecodingConfig]:
    """Options of :class:`DecodingConfig`, by default all, for :func:`tomat.cli._shared.grouped`."""

    def make(**given: Any) -> DecodingConfig:
        return DecodingConfig(**given)

    make.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                f.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=f.default,
                annotation=Annotated[_HINTS[f.name], typer.Option(help=f.metadata["help"])],
            )
            for f in fields(DecodingConfig)
            if not names or f.name in names
        ]
    )
    return make


def needs_models() -> None:
    """Check that Levanter is installed."""
    try:
        import levanter  # noqa: F401
    except ImportError as error:
        raise ValueError(f"models need Levanter: pip install 'tomat[train]' ({error})") from error
