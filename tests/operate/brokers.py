"""Brokers for tests, on loopback: amqtt in this process, mosquitto, a proxy that is a bad net."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiomqtt
import pytest
from amqtt.broker import Broker

from tests.processes import free_port


class _TidyBroker(Broker):
    """amqtt forgets to close what has lost its other end; this one does at the end."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._accepted: list[asyncio.StreamWriter] = []

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        self._accepted.append(writer)
        await super().stream_connected(reader, writer, listener_name)

    async def shutdown(self) -> None:
        await super().shutdown()
        for writer in self._accepted:
            writer.transport.abort()
        await asyncio.sleep(0)  # an aborted transport closes its socket in the next turn
        await asyncio.sleep(0)


@asynccontextmanager
async def amqtt_broker(port: int, password_file: Path | None = None) -> AsyncIterator[int]:
    """A real MQTT broker in this process."""
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    plugins: dict[str, Any] = {
        "amqtt.plugins.authentication.AnonymousAuthPlugin": {
            "allow_anonymous": password_file is None
        }
    }
    if password_file is not None:
        plugins["amqtt.plugins.authentication.FileAuthPlugin"] = {
            "password_file": str(password_file)
        }
    broker = _TidyBroker(
        {"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}, "plugins": plugins}
    )
    await broker.start()
    try:
        yield port
    finally:
        await broker.shutdown()


class Mosquitto:
    """A mosquitto in a process of its own. Skips the test where it is not installed."""

    def __init__(self, folder: Path, *lines: str) -> None:
        found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if found is None:
            pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
        self.port = free_port()
        self._command = [found, "-c", str(folder / "mosquitto.conf")]
        (folder / "mosquitto.conf").write_text(
            "\n".join([f"listener {self.port} 127.0.0.1", "user root", *lines]) + "\n"
        )
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class BadNet:
    """A TCP proxy before a broker that can cut, stall and refuse its connections."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.refuses = False
        self.cuts = 0
        """Connections that were cut while they were in use."""
        self.flows = asyncio.Event()
        self.flows.set()
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        self.flows.set()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        self.cuts += len(self._writers)
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self.refuses:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        await asyncio.gather(self._pipe(reader, back), self._pipe(there, writer))
        self._writers -= {writer, back}

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self.flows.wait()
                writer.write(data)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def misbehave(self, chance: random.Random, seconds: float) -> None:
        """Cut, stall and refuse at random for so long."""
        end_s = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end_s:
            match chance.choice(("cut", "stall", "refuse", "well")):
                case "cut":
                    self.cut()
                case "stall":
                    self.flows.clear()
                case "refuse":
                    self.refuses = True
                    self.cut()
            await asyncio.sleep(chance.uniform(0.05, 0.6))
            self.refuses = False
            self.flows.set()


class Listener:
    """Everything that comes below ``kvtrader/``, as (topic, payload)."""

    def __init__(self, port: int, **login: Any) -> None:
        self._client = aiomqtt.Client("127.0.0.1", port, **login)
        self.heard: list[tuple[str, bytes]] = []

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        await self._client.subscribe("kvtrader/#", qos=1)
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._client.__aexit__(*error)

    async def _listen(self) -> None:
        async for message in self._client.messages:
            assert isinstance(message.payload, bytes)
            self.heard.append((str(message.topic), message.payload))

    def of(self, topic: str) -> list[bytes]:
        return [payload for name, payload in self.heard if name == f"kvtrader/test/{topic}"]

    async def send(self, payload: bytes, topic: str = "command", *, retain: bool = False) -> None:
        await self._client.publish(f"kvtrader/test/{topic}", payload, qos=1, retain=retain)


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    """Wait for it. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
