"""The command line: ``tomat`` and ``tomat-tokenize``. One file a command: parse, call, print."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import typer

from tomat.cli import codec, info, promolecule, show, sweep, sync, tokenize, verify
from tomat.cli.codec import compare, fit, floor, merge, sketch
from tomat.cli.codec import list as codec_list
from tomat.cli.codec import show as codec_show

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["app", "main", "tokenize_main"]

_HELP = {"help_option_names": ["-h", "--help"]}


def _app(*commands: ModuleType, doc: str | None) -> typer.Typer:
    """An application of commands; each module's docstring is its command's help."""
    made = typer.Typer(
        help=doc,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for module in commands:
        name = module.__name__.rsplit(".", 1)[-1]
        made.command(name, help=module.__doc__, context_settings=_HELP)(module.command)
    return made


app = _app(
    tokenize, show, info, verify, sync, sweep, doc="Electron densities of crystals as token sequences."
)
app.add_typer(
    _app(sketch, merge, fit, floor, compare, codec_list, codec_show, doc=codec.__doc__), name="codec"
)
app.add_typer(promolecule.app, name="promolecule")
#: One command in an application is the application itself.
_tokenize_app = _app(tokenize, doc=None)


def main() -> None:
    """Entry point of ``tomat``."""
    _run(app, "tomat")


def tokenize_main() -> None:
    """Entry point of ``tomat-tokenize``."""
    _run(_tokenize_app, "tomat-tokenize")


def _run(application: typer.Typer, name: str) -> None:
    """Errors a user can mend become one message and exit code 1; anything else keeps its traceback."""
    try:
        application(prog_name=name)
    except KeyError as error:
        _fail(str(error.args[0]) if error.args else str(error))
    except OSError as error:
        _fail(_os_message(error))
    except ValueError as error:
        _fail(str(error))


def _os_message(error: OSError) -> str:
    """The file and what the system said; the error number says nothing to a reader."""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    # The package's own messages name the file.
    return str(error.args[1]) if error.errno and len(error.args) == 2 else str(error)


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(1)
