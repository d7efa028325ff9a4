"""A page in a real browser, headless, through the DevTools protocol: what it says on the console, and how it looks."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

#: Software rendering: the machines that run tests have no graphics card.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-port=0",
)


def executable() -> str | None:
    """Chromium or Chrome on this machine, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


@dataclass
class Visit:
    """What a page did.

    Attributes:
        messages: errors and warnings of its console, and exceptions.
        requests: URLs it asked for, itself and what it holds apart.
        facts: values of expressions.
        screenshot: PNG of the whole page.
    """

    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    screenshot: bytes = b""


def visit(
    page: Path,
    *,
    width: int = 1280,
    height: int = 900,
    dark: bool = False,
    expressions: dict[str, str] | None = None,
    picture: int = 0,
) -> Visit:
    """Open ``page``, scroll through it, wait for its figures, and evaluate JavaScript ``expressions``.

    ``picture``: so many pixels of its length go onto the screenshot.
    """
    return asyncio.run(_visit(page, width, height, dark, expressions or {}, picture))


class _Session:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0
        self.found = Visit()

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer; events that come before it are noted."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=60)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        of = message.get("params", {})
        match message.get("method"):
            case "Runtime.consoleAPICalled" if of["type"] in ("error", "warning", "assert"):
                self.found.messages.append(f"{of['type']}: {[a.get('value') for a in of['args']]}")
            case "Runtime.exceptionThrown":
                self.found.messages.append(json.dumps(of["exceptionDetails"])[:500])
            case "Log.entryAdded" if of["entry"]["level"] in ("error", "warning"):
                self.found.messages.append(f"{of['entry']['level']}: {of['entry']['text']}")
            case "Network.requestWillBeSent":
                self.found.requests.append(of["request"]["url"][:200])

    async def value(self, expression: str) -> Any:
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")


#: Scrolls through the page, so that every figure comes near, and waits until all are drawn.
_SETTLE = """(async () => {
  const pause = ms => new Promise(done => setTimeout(done, ms));
  for (let y = 0; y < document.body.scrollHeight; y += 300) { window.scrollTo(0, y); await pause(15); }
  for (let i = 0; i < 200; i++) {
    if ([...document.querySelectorAll('.plot')].every(div => div.dataset.drawn)) break;
    await pause(100);
  }
  window.scrollTo(0, 0); await pause(400); return true; })()"""


async def _visit(
    page: Path, width: int, height: int, dark: bool, expressions: dict[str, str], picture: int
) -> Visit:
    async with _browser() as session:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await session.call(f"{domain}.enable")
        mobile = width < 600
        await session.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await session.call("Emulation.setEmulatedMedia", features=[theme])
        await session.call("Page.navigate", url=page.resolve().as_uri())
        for _ in range(200):
            if await session.value("document.readyState") == "complete":
                break
            await asyncio.sleep(0.1)
        await session.value(_SETTLE)
        for name, expression in expressions.items():
            session.found.facts[name] = await session.value(expression)
        if picture:
            full = await session.value("document.documentElement.scrollHeight")
            clip = {"x": 0, "y": 0, "width": width, "height": min(full, picture), "scale": 1}
            shot = await session.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
            session.found.screenshot = base64.b64decode(shot["data"])
        return session.found


@contextlib.asynccontextmanager
async def _browser() -> AsyncIterator[_Session]:
    """A browser of its own, ended with the block."""
    program = executable()
    assert program is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": "disabled:"},
        )
        try:
            port = _port(Path(profile) / "DevToolsActivePort", process)
            async with aiohttp.ClientSession() as http:
                async with http.get(f"http://127.0.0.1:{port}/json") as answer:
                    targets = await answer.json()
                url = next(x["webSocketDebuggerUrl"] for x in targets if x["type"] == "page")
                async with http.ws_connect(url, max_msg_size=0) as socket:
                    yield _Session(socket)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(place: Path, process: subprocess.Popen[bytes]) -> int:
    for _ in range(300):
        if place.exists() and (text := place.read_text().split()):
            return int(text[0])
        assert process.poll() is None, "the browser ended by itself"
        time.sleep(0.1)
    raise AssertionError("the browser did not start")
