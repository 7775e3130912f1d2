"""A headless Chromium, spoken to over its DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio",
         "--disable-extensions", "--disable-background-networking", "--remote-debugging-port=0",
         "--disable-dev-shm-usage")  # fmt: skip
WAIT_S = 30.0


class Page:
    """One page. ``problems`` are its console errors and warnings, exceptions and failed loads."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.problems: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            waiting = self._waiting.pop(said.get("id"), None)
            if waiting is not None:
                waiting.set_result(said)
            self._note(said.get("method", ""), said.get("params", {}))

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params)[:500])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(json.dumps(params["args"])[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"]["text"])

    async def send(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(waiting, WAIT_S)
        assert "error" not in answer, answer
        return answer["result"]

    async def open(self, url: str) -> None:
        for domain in ("Page", "Runtime", "Log"):
            await self.send(f"{domain}.enable")
        await self.send("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """The value of an expression, a promise's once it is kept."""
        answer = await self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait for an expression to be true."""
        end = asyncio.get_running_loop().time() + WAIT_S
        while not await self.run(script):
            assert asyncio.get_running_loop().time() < end, (script, self.problems)
            await asyncio.sleep(0.1)

    async def size(self, width: int, height: int) -> None:
        await self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                        deviceScaleFactor=1, mobile=width < 500)  # fmt: skip


@asynccontextmanager
async def page(folder: Path):
    """An empty page of a fresh browser. Skips the test where there is no Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium: apt-get install chromium")
    process = await asyncio.create_subprocess_exec(
        program, *FLAGS, f"--user-data-dir={folder}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port = await asyncio.to_thread(_port, folder / "DevToolsActivePort")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                (target,) = [each for each in await answer.json() if each["type"] == "page"]
            async with (
                session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket,
                asyncio.TaskGroup() as group,
            ):
                made = Page(socket)
                reading = group.create_task(made.read())
                yield made
                reading.cancel()
    finally:
        process.terminate()
        await process.wait()


def _port(file: Path) -> int:
    for _ in range(300):
        if file.exists() and (text := file.read_text()):
            return int(text.splitlines()[0])
        time.sleep(0.1)
    raise AssertionError("chromium did not start")
