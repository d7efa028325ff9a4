"""Command groups that import only the command being run, so that --help is fast."""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

#: Settings of every command and group.
HELP = {"help_option_names": ["-h", "--help"]}


def group(
    package: str, names: tuple[str, ...], doc: str | None, callback: Callable[..., None] | None = None
) -> typer.Typer:
    """A group of commands, each a module of ``package`` with a function ``command`` or a group ``app``.

    A module's docstring is the help of its command. ``callback`` takes the options of the group itself.
    """
    modules = {name.replace("_", "-"): f"{package}.{name}" for name in names}

    class Commands(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(modules)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name not in modules:
                return None
            module = import_module(modules[cmd_name])
            return get_command(module.app if hasattr(module, "app") else single(module, cmd_name))

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            with formatter.section("Commands"):
                formatter.write_dl([(name, _first_line(module)) for name, module in modules.items()])

    return typer.Typer(
        cls=Commands,
        help=doc,
        callback=callback or (lambda: None),
        no_args_is_help=True,
        context_settings=HELP,
        add_completion=callback is not None,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def single(module: Any, name: str, *, add_completion: bool = False) -> typer.Typer:
    """An application with a single command."""
    made = typer.Typer(add_completion=add_completion, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {**HELP, **getattr(module, "CONTEXT", {})}
    made.command(name, help=module.__doc__, context_settings=settings)(module.command)
    return made


def _first_line(module: str) -> str:
    """The first line of a module's docstring, without importing it."""
    found = find_spec(module)
    source = Path(found.origin).read_text() if found is not None and found.origin else ""
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0].rstrip(".")
