"""A stand-in of wandb's server on this machine: it answers the queries of the real client about runs."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ENTITY, PROJECT = "team", "densities"
KEY = "k" * 40


@dataclass
class Run:
    """A run on the server.

    Attributes:
        name: its id.
        rows: its history; the first ``exported`` of them are served as parquet, the rest as JSON.
    """

    name: str
    rows: list[dict[str, Any]]
    display_name: str
    state: str = "finished"
    config: dict[str, Any] = field(default_factory=dict)
    exported: int = 0

    @property
    def last_step(self) -> int:
        return int(self.rows[-1]["_step"]) if self.rows else -1


@dataclass
class Server:
    """What is served, and what was asked.

    Attributes:
        url: of the server.
        runs: of the one project.
        broken: names of runs whose history cannot be had.
        asked: names of runs whose history was asked for.
    """

    url: str
    runs: list[Run]
    broken: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL query."""
        name = re.search(r"query (\w+)", query)
        kind = name[1] if name else ""
        if kind in ("Viewer", "GetDefaultEntity"):
            return {
                "viewer": {
                    "id": "1",
                    "username": "me",
                    "entity": ENTITY,
                    "flags": "{}",
                    "teams": {"edges": []},
                }
            }
        if (given.get("entity"), given.get("project")) != (ENTITY, PROJECT):
            return {"project": None}
        if kind == "Runs":
            return {"project": {"internalId": "7", "readOnly": False, **self._page(given["cursor"])}}
        run = next(run for run in self.runs if run.name == named(given))
        return {"project": {"run": self._of(run, kind, given)}}

    def _page(self, cursor: str | None) -> dict[str, Any]:
        """One run a page, so that the client has to turn pages."""
        at = int(cursor or 0)
        edges = [{"node": self._node(run), "cursor": str(at + 1)} for run in self.runs[at : at + 1]]
        more = at + 1 < len(self.runs)
        info = {"endCursor": str(at + 1), "hasNextPage": more}
        return {"runCount": len(self.runs), "runs": {"edges": edges, "pageInfo": info}}

    @staticmethod
    def _node(run: Run) -> dict[str, Any]:
        nothing = dict.fromkeys(("sweepName", "group", "jobType", "commit", "description", "notes"))
        return {
            **nothing,
            "id": f"id-{run.name}",
            "projectId": "7",
            "name": run.name,
            "displayName": run.display_name,
            "state": run.state,
            "tags": [],
            "readOnly": False,
            "config": json.dumps({key: {"value": value} for key, value in run.config.items()}),
            "summaryMetrics": json.dumps(run.rows[-1] if run.rows else {}),
            "systemMetrics": "{}",
            "createdAt": "2026-01-02T03:04:05Z",
            "heartbeatAt": "2026-01-02T04:04:05Z",
            "historyLineCount": len(run.rows),
            "historyKeys": {"lastStep": run.last_step, "keys": {}},
            "user": {"name": "me", "username": "me"},
        }

    def _of(self, run: Run, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        if kind == "RunHistoryKeys":
            return {"historyKeys": {"lastStep": run.last_step, "keys": {}}}
        if kind == "RunParquetHistory":
            self.asked.append(run.name)
            live = run.rows[run.exported :]
            urls = [f"{self.url}/files/{run.name}.parquet"] if run.exported else []
            return {"parquetHistory": {"parquetUrls": urls, "liveData": live}}
        if kind == "HistoryPage":
            low, high = int(given["minStep"]), int(given["maxStep"])
            return {"history": [json.dumps(row) for row in run.rows if low <= row["_step"] < high]}
        raise KeyError(f"the client asks something new: {kind}")

    def parquet(self, name: str) -> bytes:
        """The exported part of a run's history."""
        run = next(run for run in self.runs if run.name == name)
        names = dict.fromkeys(key for row in run.rows for key in row)
        rows = [{key: row.get(key) for key in names} for row in run.rows[: run.exported]]
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), out)
        return out.getvalue()


def named(given: dict[str, Any]) -> str | None:
    """The run that a query is about."""
    return next((given[key] for key in ("run", "runName", "name") if key in given), None)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.path != "/graphql":
                return self._send(200, b"{}")
            asked = json.loads(body)
            given = asked.get("variables") or {}
            if named(given) in server.broken:
                return self._send(400, b'{"errors": [{"message": "the history is damaged"}]}')
            return self._send(200, json.dumps({"data": server.answer(asked["query"], given)}).encode())

        def do_GET(self) -> None:
            found = re.fullmatch(r"/files/(.+)\.parquet", self.path)
            self._send(200, server.parquet(found[1])) if found else self._send(404, b"")

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(*runs: Run) -> Iterator[Server]:
    """A server with some runs."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server = Server(f"http://127.0.0.1:{http.server_address[1]}", list(runs))
    http.RequestHandlerClass = _handler(server)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
