"""A Google Cloud Storage bucket on this machine, for the real client; and a door in front of it that can fail."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import fsspec
import gcsfs
import pytest
from gcp_storage_emulator.server import create_server

BUCKET = "densities"


@dataclass
class Door:
    """Passes requests on, but for those that ``fault`` answers in its own way: a status, or None to let them pass.

    ``seen`` lists method and path of every request.
    """

    port: int
    behind: int
    fault: Callable[[str, str, bytes], int | None] = lambda _method, _path, _body: None
    seen: list[tuple[str, str]] = field(default_factory=list)


def _generation(door: Door, path: str) -> dict[str, str]:
    """The generation of an object that TensorStore reads: a header of the service, not of the emulator."""
    where, _, query = path.partition("?")
    if "alt=media" not in query or "tensorstore=" not in query or not where.startswith("/storage/v1/"):
        return {}
    with urlopen(f"http://127.0.0.1:{door.behind}{where}") as answer:
        return {"x-goog-generation": str(json.load(answer)["generation"])}


def _handler(door: Door) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            door.seen.append((self.command, self.path))
            status = door.fault(self.command, self.path, body)
            if status is not None:
                self._answer(
                    status,
                    {"content-type": "application/json"},
                    b'{"error": {"code": %d, "message": "busy"}}' % status,
                )
                return
            # Upload links in the answers lead through this door too.
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _PER_HOP}
            headers["host"] = f"127.0.0.1:{door.port}"
            request = Request(
                f"http://127.0.0.1:{door.behind}{self.path}", body or None, headers, method=self.command
            )
            try:
                with urlopen(request) as answer:
                    generation = _generation(door, self.path) if self.command == "GET" else {}
                    self._answer(answer.status, {**dict(answer.headers), **generation}, answer.read())
            except HTTPError as answer:
                self._answer(answer.code, dict(answer.headers), answer.read())

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in (*_PER_HOP, "date", "server"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _pass_on  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


_PER_HOP = (
    "host",
    "content-length",
    "connection",
    "transfer-encoding",
    "accept-encoding",
    "content-encoding",
)


@contextmanager
def bucket(patch: pytest.MonkeyPatch) -> Iterator[Door]:
    """An empty bucket behind a door; ``gs://densities`` leads there in this process and in those it starts."""
    emulator = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    emulator.start()
    behind = emulator._api._httpd.server_address[1]
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    door = Door(server.server_address[1], behind)
    server.RequestHandlerClass = _handler(door)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{door.port}")
    # TensorStore, which writes checkpoints, has a client of its own.
    patch.setenv("TENSORSTORE_GCS_HTTP_URL", f"http://127.0.0.1:{door.port}")
    patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
    # No credentials are looked for: here, and in processes that inherit the variable.
    patch.setenv("FSSPEC_GCS_TOKEN", "anon")
    patch.setitem(fsspec.config.conf, "gcs", {"token": "anon"})
    gcsfs.GCSFileSystem.clear_instance_cache()
    try:
        yield door
    finally:
        gcsfs.GCSFileSystem.clear_instance_cache()
        server.shutdown()
        server.server_close()
        emulator.stop()


def upload(source: Path, url: str) -> None:
    """A folder or file as it is."""
    fs, inner = fsspec.core.url_to_fs(url)
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        if path.is_file():
            name = f"{inner}/{path.relative_to(source)}" if source.is_dir() else inner
            fs.pipe_file(name, path.read_bytes())


def content(url: str) -> dict[str, bytes]:
    """Every file below a URL, by relative path."""
    fs, inner = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return {name.removeprefix(inner).lstrip("/"): fs.cat_file(name) for name in fs.find(inner)}


def on_disk(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def somewhere() -> str:
    """A URL below the bucket that nobody used."""
    return f"gs://{BUCKET}/{uuid.uuid4().hex}"
