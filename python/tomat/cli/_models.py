"""Shared by the commands that train, use or export models."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import typer

from tomat.prediction.options import DecodingConfig

_HINTS = get_type_hints(DecodingConfig)
_OPTIONS = {
    f.name: inspect.Parameter(
        f.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=f.default,
        annotation=Annotated[_HINTS[f.name], typer.Option(help=f.metadata["help"])],
    )
    for f in fields(DecodingConfig)
}


def decoding_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add options of :class:`DecodingConfig` to a command, by default all; it receives them as ``decoding``.

    Options that the command declares itself are not replaced.
    """

    def add(command: Callable[..., None]) -> Callable[..., None]:
        own = dict(inspect.signature(command, eval_str=True).parameters)
        own.pop("decoding")
        chosen = [name for name in names or _OPTIONS if name not in own]

        def run(**given: Any) -> None:
            decoding = DecodingConfig(**{name: given.pop(name) for name in chosen})
            command(**given, decoding=decoding)

        kept = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own.values()]
        parameters = [*kept, *(_OPTIONS[name] for name in chosen)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return add


def needs_models() -> None:
    """Check that Levanter is installed.

    Raises:
        ValueError: it is not.
    """
    try:
        import levanter  # noqa: F401
    except ImportError as error:
        raise ValueError(f"models need Levanter: pip install 'tomat[train]' ({error})") from error


def say_weights(predictor: Any) -> None:
    """Print to standard error which weights of a run are used; nothing for a predictor without any."""
    if hasattr(predictor, "at_start"):
        print(predictor, file=sys.stderr)
