"""The broker's side of a run: what is published, what is listened to, and going on without it.

QoS 1. The run never waits for the broker: it puts telemetry into a bounded outbox, and fills are
read from the ledger when there is somebody to send them to.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import aiomqtt
import structlog
from msgspec import Struct

from bot.core.errors import PlainError
from bot.operate.commands import Commands
from bot.operate.messages import FillMessage, Status, encode
from bot.operate.outbox import FillCursor, Outbox

log = structlog.get_logger()
_library_log = logging.getLogger("bot.mqtt")
_library_log.setLevel(logging.CRITICAL)  # what aiomqtt reports is told by us, once

State: TypeAlias = Literal["online", "offline"]
ReadFills: TypeAlias = Callable[[int, int], Awaitable[Sequence[FillMessage]]]
"""The committed fills from a fact number on, at most so many."""

TOGETHER = 8
"""Messages under way at once; their acknowledgements come in any order."""
ANSWER_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
FLOOD_PER_S = 50
"""More commands than this in a second are a flood: none is heard for FLOOD_PAUSE_S."""
FLOOD_PAUSE_S = 60.0
GOODBYE_S = 3.0
"""How long the last message of a connection may take."""
MOST_COUNTED = 10_000
_TOLD_AGAIN_S = 0.1


class BrokerError(PlainError):
    """The settings for the broker cannot be used."""


@dataclass(frozen=True)
class Broker:
    """Where the broker is and who we are to it."""

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None


def _options(broker: Broker) -> dict[str, Any]:
    """Where a client connects, and as whom."""
    return {
        "hostname": broker.host,
        "port": broker.port,
        "username": broker.username,
        "password": broker.password,
        "tls_context": broker.tls,
        "logger": _library_log,
    }


async def reach(broker: Broker, timeout_s: float) -> None:
    """Connect once and leave again. Raises BrokerError."""
    client = aiomqtt.Client(**_options(broker), timeout=timeout_s)
    try:
        async with client:
            pass
    except aiomqtt.MqttError as error:
        raise _away(broker, error) from error


def _away(broker: Broker, error: aiomqtt.MqttError) -> BrokerError:
    where = f"mqtt://{broker.host}:{broker.port}"
    return BrokerError(f"{where}: {error}: check mqtt.host, mqtt.port and the password")


class Wiring(Struct, frozen=True):
    """What ties a connection to its run. ``prefix`` is ``kvtrader/<instance>``."""

    prefix: str
    outbox: Outbox
    cursor: FillCursor
    read_fills: ReadFills
    status: Callable[[State], Status]
    status_every_s: float
    commands: Commands


def tls_context(
    ca_file: Path | None = None, cert_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """A context that checks the broker's certificate and name. Raises BrokerError."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if cert_file is not None:
            context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(path) for path in (ca_file, cert_file, key_file) if path)
        raise BrokerError(f"mqtt: {files}: not usable for TLS: {error}") from error
    return context


class _Client(aiomqtt.Client):
    """aiomqtt 2.5 begins to write to a socket one turn of the loop after it was asked to, by its
    number alone. A broker that is lost meanwhile has left that number to nobody, or to another."""

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        del userdata
        number = sock.fileno()

        def write() -> None:
            try:
                client.loop_write()
            except OSError as error:
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def register() -> None:
            if sock.fileno() == number >= 0:
                self._loop.add_writer(number, write)

        self._loop.call_soon_threadsafe(register)


class Mqtt:
    """One run's connection to a broker, made again whenever it is lost."""

    def __init__(self, broker: Broker, wiring: Wiring) -> None:
        self._broker, self._wiring = broker, wiring
        self._ending, self._closing = asyncio.Event(), asyncio.Event()
        self._sending = 0
        self._listen_from_s = 0.0
        self.is_connected = False
        self.connects = 0
        self.floods = 0

    async def run(self) -> None:
        """Serve until ``close``."""
        pause_s, told = FIRST_PAUSE_S, False
        while not self._closing.is_set():
            try:
                async with self._client() as client:
                    self.is_connected, pause_s, told = True, FIRST_PAUSE_S, False
                    self.connects += 1
                    log.info("the broker is there", host=self._broker.host)
                    await self._serve(client)
            except aiomqtt.MqttError as error:
                if not told:
                    log.warning("the broker is away", host=self._broker.host, error=str(error))
                told = True
            finally:
                self.is_connected = False
            await self._pause(random.uniform(pause_s / 2, pause_s))  # noqa: S311 - no secret
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def close(self, within_s: float) -> int:
        """Send what waits, for so long at most, say ``offline`` and end ``run``.

        A broker that is away is waited for while there are fills for it. Returns how many fills
        are left, MOST_COUNTED at most. Raises PlainError where the ledger cannot tell.
        """
        end_s = time.monotonic() + within_s
        outbox = self._wiring.outbox
        self._ending.set()
        try:
            has_fills = bool(self.is_connected or await self._unsent(1))
            while time.monotonic() < end_s:
                waits = len(outbox) or outbox.fills_due.is_set() or self._sending
                if not (waits if self.is_connected else has_fills):
                    break
                await asyncio.sleep(0.02)
        finally:
            self._closing.set()
        return await self._unsent(MOST_COUNTED)

    async def _unsent(self, most: int) -> int:
        return len(await self._wiring.read_fills(self._wiring.cursor.next_fact, most))

    def _client(self) -> aiomqtt.Client:
        broker, wiring = self._broker, self._wiring
        lost = encode(wiring.status("offline"))
        return _Client(
            **_options(broker),
            will=aiomqtt.Will(f"{wiring.prefix}/status", lost, qos=1, retain=True),
            timeout=ANSWER_S,
            max_queued_incoming_messages=4 * FLOOD_PER_S,
        )

    async def _serve(self, client: aiomqtt.Client) -> None:
        """Everything that goes on while connected. Raises aiomqtt.MqttError when it is lost."""
        await self._publish_status(client, "online")
        self._wiring.outbox.fills_due.set()
        await _first_of(
            self._send_fills(client),
            self._send_telemetry(client),
            self._send_status(client),
            self._listen(client),
            self._closing.wait(),
        )
        if self._closing.is_set():
            await self._publish_status(client, "offline")

    async def _pause(self, seconds: float) -> None:
        """Wait before the next try; the end of the run tries again at once, then ever so often."""
        ending, seconds = (
            (self._closing, FIRST_PAUSE_S) if self._ending.is_set() else (self._ending, seconds)
        )
        try:
            await asyncio.wait_for(ending.wait(), seconds)
        except TimeoutError:
            return

    # --- sending -------------------------------------------------------------------------------

    async def _publish(
        self, client: aiomqtt.Client, topic: str, payload: bytes, *, retain: bool = False
    ) -> None:
        await client.publish(f"{self._wiring.prefix}/{topic}", payload, qos=1, retain=retain)

    async def _publish_status(self, client: aiomqtt.Client, state: State) -> None:
        await self._publish(client, "status", encode(self._wiring.status(state)), retain=True)

    async def _send_status(self, client: aiomqtt.Client) -> None:
        while True:
            await asyncio.sleep(self._wiring.status_every_s)
            await self._publish_status(client, "online")

    async def _send_telemetry(self, client: aiomqtt.Client) -> None:
        outbox = self._wiring.outbox
        while True:
            await outbox.filled.wait()
            parcels = outbox.take(TOGETHER)
            self._sending += 1
            try:
                await _all_of(
                    self._publish(client, each.topic, each.payload, retain=each.retain)
                    for each in parcels
                )
            except BaseException:
                outbox.put_back(parcels)
                raise
            finally:
                self._sending -= 1

    async def _send_fills(self, client: aiomqtt.Client) -> None:
        """From the ledger, from where the last delivery ended: at least once, in batches."""
        outbox, cursor = self._wiring.outbox, self._wiring.cursor
        while True:
            await outbox.fills_due.wait()
            self._sending += 1
            try:
                outbox.fills_due.clear()
                if await _deliver(client, self._wiring.prefix, cursor, self._wiring.read_fills):
                    outbox.fills_due.set()  # there may be more
            except (PlainError, OSError) as error:  # the ledger is away, or the cursor's disk full
                outbox.fills_due.set()
                log.warning("fills wait to be sent", error=str(error))
                await asyncio.sleep(1)
            finally:
                self._sending -= 1

    # --- listening -----------------------------------------------------------------------------

    async def _listen(self, client: aiomqtt.Client) -> None:
        """Answer commands. A flood ends the connection, so that nothing is read of it."""
        await asyncio.sleep(max(0.0, self._listen_from_s - time.monotonic()))
        await client.subscribe(f"{self._wiring.prefix}/command", qos=1)
        second, heard = 0, 0
        async for message in client.messages:
            now_s = int(time.monotonic())
            heard = heard + 1 if now_s == second else 1
            second = now_s
            if heard > FLOOD_PER_S:
                self.floods += 1
                self._listen_from_s = time.monotonic() + FLOOD_PAUSE_S
                log.warning("a flood of commands: none is heard for a while", per_s=heard)
                raise aiomqtt.MqttError("a flood of commands")
            if isinstance(message.payload, bytes):
                answer = self._wiring.commands.answer(message.payload, retained=message.retain)
                if answer is not None:
                    self._wiring.outbox.put(*answer)


async def send_fills(
    broker: Broker, prefix: str, cursor: FillCursor, read_fills: ReadFills, timeout_s: float
) -> int:
    """Deliver the fills of a run that has ended, over a connection of its own; how many.

    Raises BrokerError where the broker is away or goes away; the cursor knows how far it came.
    """
    sent = 0
    try:
        async with _Client(**_options(broker), timeout=timeout_s) as client:
            while delivered := await _deliver(client, prefix, cursor, read_fills):
                sent += delivered
    except aiomqtt.MqttError as error:
        raise _away(broker, error) from error
    return sent


async def _deliver(
    client: aiomqtt.Client, prefix: str, cursor: FillCursor, read_fills: ReadFills
) -> int:
    """The next fills that the cursor knows of, all of them acknowledged; how many."""
    fills = await read_fills(cursor.next_fact, TOGETHER)
    await _all_of(client.publish(f"{prefix}/fill", encode(fill), qos=1) for fill in fills)
    if fills:
        cursor.advance(fills[-1].fact + 1)
    return len(fills)


async def _first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run all until one ends; then the others are cancelled. Raises what one raised.

    asyncio.wait_for, which aiomqtt waits with, swallows a cancellation that meets an answer (Python
    3.11, https://github.com/python/cpython/issues/86296): whoever goes on is told again.
    """
    tasks = [asyncio.create_task(each) for each in coroutines]
    waiting = set(tasks)
    try:
        _, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        while waiting:
            for task in waiting:
                task.cancel()
            _, waiting = await asyncio.wait(waiting, timeout=_TOLD_AGAIN_S)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def _all_of(coroutines: Any) -> None:
    """Run all to their ends; then raise the first error, if there was one."""
    ends = await asyncio.gather(*coroutines, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
