"""The command line: ``tomat`` and ``tomat-tokenize``. One file a command: parse, call, print."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["app", "main", "tokenize_main"]

#: Commands of ``tomat`` with their modules, imported when they are used.
_COMMANDS = ("tokenize", "show", "info", "verify")


class _LazyGroup(TyperGroup):
    """Imports a command when it is asked for, so that ``tomat --help`` stays quick as commands are added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Any:
        return _command(cmd_name) if cmd_name in _COMMANDS else None


def _command(name: str) -> click.Command:
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    module = import_module(f"tomat.cli.{name}")
    single.command(name, help=module.__doc__, context_settings={"help_option_names": ["-h", "--help"]})(
        module.command
    )
    return typer.main.get_command(single)


app = typer.Typer(
    cls=_LazyGroup,
    name="tomat",
    help="Electron densities of crystals as token sequences.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    """Electron densities of crystals as token sequences."""


def main() -> None:
    """Entry point of ``tomat``."""
    _run(app)


def tokenize_main() -> None:
    """Entry point of ``tomat-tokenize``."""
    _run(_command("tokenize"), prog_name="tomat-tokenize")


def _run(command: Callable[..., Any], **arguments: Any) -> None:
    """Errors a user can mend become one message and exit code 1; anything else keeps its traceback."""
    try:
        command(**arguments)
    except KeyError as error:
        _fail(str(error.args[0]) if error.args else str(error))
    except OSError as error:
        # The message names the file; the number in front of it says nothing to a reader.
        _fail(error.args[1] if error.errno and len(error.args) == 2 else str(error))
    except ValueError as error:
        _fail(str(error))


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(1)
