"""Options and output shared by all commands."""

from __future__ import annotations

import inspect
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomat._threads import MAX_THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from tomat.prediction.run import FailedFile

#: Exit code of a command that was stopped (SIGINT, SIGTERM).
INTERRUPTED = 130
#: Failures printed; the rest are counted.
_SHOWN = 20

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        show_default=False,
        help="Densities: files, folders, globs, list files or rho_gga roots.",
    ),
]
SplitFile = Annotated[
    str | None, typer.Option(help="JSON file with the ids or indices of each split, for a rho_gga root.")
]
Split = Annotated[str | None, typer.Option(help="Split to use, for a rho_gga root.")]
Limit = Annotated[int | None, typer.Option(help="Use only the first N materials.", min=1)]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Number of threads.  [default: one per processor]", min=1, max=MAX_THREADS, show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]


def grouped(**groups: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace parameters of a command by the options of functions; the command receives what these return.

    Options that the command declares itself are not replaced.
    """

    def add(command: Callable[..., None]) -> Callable[..., None]:
        own = _parameters(command, *groups)
        options = {
            name: {o: p for o, p in _parameters(make).items() if o not in own}
            for name, make in groups.items()
        }

        def run(**given: Any) -> None:
            made = {name: groups[name](**{o: given.pop(o) for o in options[name]}) for name in groups}
            command(**given, **made)

        shown = {name: p for one, p0 in own.items() for name, p in options.get(one, {one: p0}).items()}
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in shown.values()]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return add


def _parameters(function: Callable[..., Any], *made: str) -> Mapping[str, inspect.Parameter]:
    """Parameters with evaluated annotations, except of those that are made, whose types are not imported."""
    for name in ("return", *made):
        function.__annotations__.pop(name, None)
    return inspect.signature(function, eval_str=True).parameters


@contextmanager
def progress(what: str, total: int, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A progress bar on standard error; each call of what it yields advances it by one."""
    if quiet:
        yield lambda _name: None
        return
    from rich.console import Console

    bar = progress_bar(Console(stderr=True))
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda _name: bar.advance(task)


def progress_bar(console: Console) -> Progress:
    """A bar with the number of finished items, the rate at which they finish, and the time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{3600 * task.speed:,.0f}/h")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=600.0,  # an item may take minutes
    )


@contextmanager
def named_bar(what: str, total: int, *, shown: bool) -> Iterator[Callable[[float, str], None]]:
    """A progress bar on standard error that also names what is at work.

    It yields a function of how many are done, which may be a fraction, and the name.
    """
    from rich.console import Console

    with progress_bar(Console(stderr=True, quiet=not shown)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, name: bar.update(task, completed=done, description=name[:40])


def plain_table(first: str, *numbers: str) -> Table:
    """A table without rules: names in bold, then columns of numbers."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(first, style="bold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def print_facts(facts: dict[str, Any]) -> None:
    """Print names and values in two columns."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        is_count = isinstance(value, int) and not isinstance(value, bool)
        table.add_row(name.replace("_", " "), f"{value:,}" if is_count else str(value))
    Console().print(table)


def print_failures(failed: Sequence[FailedFile]) -> None:
    """Name what failed and why, on standard error."""
    for failure in failed[:_SHOWN]:
        named = failure.error.startswith((failure.name, failure.path))
        print(f"failed: {'' if named else failure.name + ': '}{failure.error}", file=sys.stderr)
    if len(failed) > _SHOWN:
        print(f"failed: {len(failed) - _SHOWN} more; --json lists all", file=sys.stderr)


def counted(done: str, n_done: int, n_there: int, n_failed: int) -> str:
    """How a run over many structures ended: ``3 predicted, 2 there already, 1 failed``."""
    counts = [f"{n_done} {done}"]
    counts += [f"{n_there} there already"] if n_there else []
    counts += [f"{n_failed} failed"] if n_failed else []
    return ", ".join(counts)
