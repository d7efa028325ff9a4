"""The command line: ``tomat`` and ``tomat-tokenize``. One file per command: parse, call, print."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from tomat._core import __version__
from tomat.cli._lazy import group, single

__all__ = ["app", "main", "run", "tokenize_main"]

#: Commands, each a module or package here, in the order of --help.
_COMMANDS = (
    "densities",
    "tokenize",
    "tokenize_crystals",
    "crystal_text",
    "show",
    "info",
    "verify",
    "audit",
    "plan",
    "coverage",
    "sync",
    "fetch",
    "export_hf",
    "train",
    "export",
    "models",
    "seal",
    "runs",
    "predict",
    "eval",
    "compare",
    "probe",
    "report",
    "codec",
    "promolecule",
    "catalogue",
)

#: Makes ``tokenize`` a command of its own, whose inputs have no densities.
CRYSTALS = "--crystals"


def _say_version(asked: bool) -> None:
    if asked:
        print(f"tomat {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """Options of the program itself."""


app = group("tomat.cli", _COMMANDS, "Electron densities of crystals as token sequences.", _options)


def main() -> None:
    """Entry point of ``tomat``."""
    if sys.argv[1:2] == ["tokenize"] and CRYSTALS in sys.argv:
        sys.argv[1] = "tokenize-crystals"
    run(app, "tomat")


def tokenize_main() -> None:
    """Entry point of ``tomat-tokenize``."""
    from tomat.cli import tokenize, tokenize_crystals

    if CRYSTALS in sys.argv:
        run(single(tokenize_crystals, "tokenize-crystals"), f"tomat-tokenize {CRYSTALS}")
    run(single(tokenize, "tokenize", add_completion=True), "tomat-tokenize")


def run(application: typer.Typer, name: str) -> None:
    """Run a command; errors the user can fix become one message and exit code 1, others keep their traceback."""
    # transformers, imported by Levanter, warns that PyTorch is missing, which nothing here needs.
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
    """The file and the system's message, without the error number."""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    # The package's own messages name the file.
    return str(error.args[1]) if error.errno and len(error.args) == 2 else str(error)


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(1)
