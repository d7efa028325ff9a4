"""The command line: ``tomat`` and ``tomat-tokenize``. One file a command: parse, call, print."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import NoReturn

import typer

from tomat.cli import catalogue, codec, promolecule

__all__ = ["app", "main", "run", "tokenize_main"]

_HELP = {"help_option_names": ["-h", "--help"]}


#: A module of this package each, in the order --help lists them.
_COMMANDS = (
    "tokenize",
    "show",
    "info",
    "verify",
    "plan",
    "coverage",
    "sync",
    "export_hf",
    "train",
    "export",
    "seal",
    "predict",
    "eval",
    "compare",
    "probe",
    "report",
)
#: The same for ``tomat codec``.
_CODEC_COMMANDS = ("sketch", "merge", "fit", "floor", "compare", "list", "show")
#: The same for ``tomat catalogue``.
_CATALOGUE_COMMANDS = ("build", "query", "summary", "split")


def _app(package: str, names: tuple[str, ...], doc: str | None) -> typer.Typer:
    """An application of commands; each module's docstring is its command's help."""
    made = typer.Typer(
        help=doc,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for name in names:
        module = import_module(f"{package}.{name}")
        settings = {**_HELP, **getattr(module, "CONTEXT", {})}
        made.command(name.replace("_", "-"), help=module.__doc__, context_settings=settings)(module.command)
    return made


app = _app("tomat.cli", _COMMANDS, "Electron densities of crystals as token sequences.")
app.add_typer(_app("tomat.cli.codec", _CODEC_COMMANDS, codec.__doc__), name="codec")
app.add_typer(promolecule.app, name="promolecule")
app.add_typer(_app("tomat.cli.catalogue", _CATALOGUE_COMMANDS, catalogue.__doc__), name="catalogue")
#: One command in an application is the application itself.
_tokenize_app = _app("tomat.cli", ("tokenize",), None)


def main() -> None:
    """Entry point of ``tomat``."""
    run(app, "tomat")


def tokenize_main() -> None:
    """Entry point of ``tomat-tokenize``."""
    run(_tokenize_app, "tomat-tokenize")


def run(application: typer.Typer, name: str) -> None:
    """Errors a user can mend become one message and exit code 1; anything else keeps its traceback."""
    # transformers, which Levanter imports, says at its import that PyTorch is missing: nothing here needs it.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        application(prog_name=name)
    except KeyError as error:
        _fail(str(error.args[0]) if error.args else str(error))
    except OSError as error:
        _fail(_os_message(error))
    except ValueError as error:
        _fail(str(error))
    except MemoryError as error:
        _fail(f"not enough memory: {error}" if str(error) else "not enough memory")


def _os_message(error: OSError) -> str:
    """The file and what the system said; the error number says nothing to a reader."""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    # The package's own messages name the file.
    return str(error.args[1]) if error.errno and len(error.args) == 2 else str(error)


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(1)
