"""Runs logged with wandb, from its public API or from its offline files, as folders that reports read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomat.report.pulled import RUNS, RemoteRun, check_folder, is_there, table, write_run
from tomat.report.wandb_file import records
from tomat.storage.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

#: Runs of a page, and steps of a page of history.
_RUNS_PAGE, _STEPS_PAGE = 50, 1000
#: Times that a question is asked again after the first.
_RETRIES = 4
#: Exit codes that wandb gives to a run that ended by itself.
_STATES = {0: "finished"}


@dataclass(frozen=True)
class _Source:
    """Where a run comes from: its id and name, and what is asked for when its turn comes."""

    id: str
    name: str
    about: Callable[[], RemoteRun]
    history: Callable[[], Iterable[Mapping[str, Any]]]


@dataclass(frozen=True)
class Pulled:
    """What was pulled.

    Attributes:
        new: folders written now.
        there: folders that were complete already.
        failed: messages by run.
    """

    new: list[str]
    there: list[str]
    failed: dict[str, str]


def pull_project(
    project: str,
    out: Path,
    *,
    chosen: Sequence[str] = (),
    base_url: str | None = None,
    timeout: int = 60,
    tell: Callable[[str], None] = lambda _: None,
) -> Pulled:
    """Write the runs of a project of wandb to folders in ``out``, and their table.

    Args:
        project: ``ENTITY/PROJECT``.
        out: the folder.
        chosen: ids or names of runs; all without any.
        base_url: of another server; None is wandb's configured one.
        timeout: seconds to wait for an answer.
        tell: is told of each run before its history is fetched.

    Raises:
        ValueError: wandb is not installed, there is no key, no such project, or no such run.
        OSError: the server cannot be reached, or the folder not be written.
    """
    if project.count("/") != 1 or not all(project.split("/")):
        raise ValueError(f"{project}: not ENTITY/PROJECT, as in the address of the project's page")
    runs = _runs(project, base_url, timeout)
    known = {name for run in runs for name in (run.id, run.name)}
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(
            f"{project}: has no run {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'none'}"
        )
    return _pull([run for run in runs if not chosen or {run.id, run.name} & set(chosen)], out, tell)


def pull_offline(paths: Sequence[Path], out: Path, tell: Callable[[str], None] = lambda _: None) -> Pulled:
    """Write runs that wandb kept offline (``wandb/offline-run-*``) to folders in ``out``, and their table.

    Raises:
        ValueError: a path is no offline run.
        OSError: a file cannot be read, or the folder not be written.
    """
    found = []
    for path in paths:
        files = sorted(path.glob("run-*.wandb")) if path.is_dir() else [path]
        if not path.exists() or not files:
            raise FileNotFoundError(
                f"{path}: no run-*.wandb; give folders wandb/offline-run-*, or such files"
            )
        found += files
    return _pull([_offline(path) for path in found], out, tell)


def _pull(runs: Sequence[_Source], out: Path, tell: Callable[[str], None]) -> Pulled:
    """Write those that are not there yet, and the table when all are."""
    new: list[str] = []
    there: list[str] = []
    failed: dict[str, str] = {}
    folders = [out / _folder_name(run) for run in runs]
    for folder, run in zip(folders, runs, strict=True):
        check_folder(folder, run.id)
        try:
            about = run.about()
            if is_there(folder, about):
                there.append(folder.name)
                continue
            tell(f"{run.name} ({run.id}), {about.last_step + 1:,} steps")
            rows = list(run.history())
        except Exception as error:  # of the client, of every kind; other runs may be well
            failed[folder.name] = f"{run.name}: {error}"
            continue
        write_run(folder, about, rows)
        new.append(folder.name)
    if not failed:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / RUNS, table(folders))
    return Pulled(new, there, failed)


def _folder_name(run: _Source) -> str:
    """Name and id, as names of runs may occur twice."""
    name = re.sub(r"[^\w.=+-]+", "-", run.name).strip("-.") or "run"
    return name if name == run.id else f"{name}-{re.sub(r'[^\w.=+-]+', '-', run.id)}"


def _runs(project: str, base_url: str | None, timeout: int) -> list[_Source]:
    """The runs of a project."""
    try:
        import wandb
        from wandb.errors import AuthenticationError, CommError, UsageError
    except ImportError as error:
        raise ValueError(f"pulling runs needs wandb: pip install 'tomat[train]' ({error})") from error
    where = f"wandb project {project}"
    # By default the client tries for an hour.
    wandb.setup(
        wandb.Settings(
            x_graphql_retry_max=_RETRIES,
            x_graphql_retry_wait_max_seconds=10,
            x_graphql_timeout_seconds=timeout,
        )
    )
    try:
        api = wandb.Api(overrides={} if base_url is None else {"base_url": base_url}, timeout=timeout)
        return [_source(run) for run in api.runs(project, per_page=_RUNS_PAGE, lazy=False)]
    except AuthenticationError as error:
        raise ValueError(
            f"{where}: the server could not be asked with this key ({error}); check the network, and log in with: "
            "wandb login --relogin"
        ) from error
    except UsageError as error:
        raise ValueError(
            f"{where}: no API key; set WANDB_API_KEY, or log in with: wandb login ({error})"
        ) from error
    except CommError as error:
        raise OSError(f"{where}: the server does not answer as it should ({error}); try again") from error
    except (TimeoutError, ConnectionError) as error:
        raise OSError(
            f"{where}: the server cannot be reached ({error}); check the network and try again"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{where}: {error}; check the name in the address of the project's page, and that your key may see it"
        ) from error


def _source(run: Any) -> _Source:
    return _Source(
        run.id, run.name or run.id, lambda: _about(run), lambda: run.scan_history(page_size=_STEPS_PAGE)
    )


def _about(run: Any) -> RemoteRun:
    return RemoteRun(
        id=run.id,
        name=run.name or run.id,
        state=run.state,
        url=run.url,
        created=str(run.created_at),
        last_step=run.lastHistoryStep,
        config=dict(run.config),
        summary=dict(run.summary_metrics),
    )


def _offline(path: Path) -> _Source:
    """The run of an offline file."""
    header: Any = None
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    state = "crashed"  # unless its end is there
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            header = record.run
            config.update(_items(record.run.config.update))
        elif kind == "config":
            config.update(_items(record.config.update))
        elif kind == "summary":
            summary.update(_items(record.summary.update))
        elif kind == "history":
            row = _items(record.history.item)
            if record.history.HasField("step"):
                row.setdefault("_step", record.history.step.num)
            rows.append(row)
        elif kind == "exit":
            state = _STATES.get(record.exit.exit_code, "failed")
    if header is None:
        raise ValueError(f"{path}: has no run; it was stopped before the run began")
    about = RemoteRun(
        id=header.run_id,
        name=header.display_name or header.run_id,
        state=state,
        url="",
        created=header.start_time.ToDatetime().isoformat() + "Z",
        last_step=max((int(row["_step"]) for row in rows if "_step" in row), default=-1),
        config=config,
        summary=summary,
    )
    return _Source(about.id, about.name, lambda: about, lambda: rows)


def _items(items: Iterable[Any]) -> dict[str, Any]:
    """Keys and values of wandb's items; nested keys are joined."""
    return dict(_each(items))


def _each(items: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for item in items:
        key = "/".join(item.nested_key) or item.key
        yield key, json.loads(item.value_json)
