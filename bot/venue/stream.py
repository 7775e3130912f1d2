"""A public market stream that stays up: connect, subscribe, watch, ping, reconnect.

It turns sockets into inputs (``Connected``, ``Frame``, ``Disconnected``) and decodes nothing but
the answers to its own requests. What frames say is the codec's business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Literal

import structlog
from picows import WSError, WSTransport, ws_connect

from bot.venue.address import VenueUnreachable, cause_of
from bot.venue.connection import MESSAGE_MAX_BYTES, Connection, Counters, Inbox
from bot.venue.limit import RateLimit
from bot.venue.topics import check_args

__all__ = ["Counters", "Inbox", "MarketStream", "State", "connect_limit"]

log = structlog.get_logger()

State = Literal["waiting", "connecting", "subscribing", "live", "stale", "closed"]


def connect_limit() -> RateLimit:
    """Bybit's limit of connects, for all streams of the process to share.

    https://bybit-exchange.github.io/docs/v5/ws/connect
    """
    return RateLimit(500, 300.0)


class MarketStream:
    """One connection's worth of topics, kept subscribed until cancelled.

    A topic that Bybit refuses is logged, counted and asked for again at the next connect. After
    ``give_up_after`` connects that failed before any had succeeded, ``run`` raises
    VenueUnreachable; None tries for ever. The constructor raises ValueError for topics that one
    connection cannot carry.
    """

    def __init__(
        self,
        url: str,
        conn: str,
        category: str,
        topics: Sequence[str],
        inbox: Inbox,
        *,
        connects: RateLimit,
        renewals: RateLimit | None = None,
        random: Random,
        connect_timeout_s: float = 10.0,
        silence_s: float = 10.0,
        ping_s: float = 20.0,
        backoff_s: tuple[float, float] = (0.5, 30.0),
        give_up_after: int | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``clock`` in s and ``pause`` keep the time of pings and of the watch for silence.

        ``sleep`` is the back-off's. Only the handshake, which is the socket's, keeps wall time.
        """
        if not topics:
            raise ValueError(f"{conn}: a stream needs at least one topic")
        check_args(conn, topics)
        self.url = url
        self.conn = conn
        self.category = category
        self.topics = tuple(dict.fromkeys(topics))
        self.counters = Counters()
        self._inbox = inbox
        self._connects = connects
        self._random = random
        self._connect_timeout_s = connect_timeout_s
        self._silence_s = silence_s
        self._ping_s = ping_s
        self._backoff_s = backoff_s
        self._give_up_after = give_up_after
        self._sleep = sleep
        self._clock = clock
        self._pause = pause
        self._log = log.bind(conn=conn)
        self._state: State = "closed"
        self._connection: Connection | None = None
        self._to_renew: dict[str, None] = {}
        self._renewal_wanted = asyncio.Event()
        self._renewals = renewals or RateLimit(
            max(10, len(self.topics)), 10.0, clock=clock, sleep=pause
        )

    async def run(self) -> None:
        """Keep the topics coming until cancelled. Raises VenueUnreachable (see the class)."""
        failures = 0
        try:
            while True:
                self._state = "connecting"
                await self._connects.wait()
                lived_s = await self._live_once(failures + 1)
                failures = 1 if lived_s >= self._backoff_s[1] else failures + 1
                self._state = "waiting"
                await self._sleep(self._delay_s(failures))
        finally:
            self._state = "closed"

    def resubscribe(self, topic: str) -> None:
        """Ask for a fresh snapshot of one topic, soon.

        Requests for a topic that already waits are one request, and in 10 s at most 10 are sent,
        or one a topic where there are more, unless the constructor was given another limit.
        A connect, which subscribes everything, takes their place.
        """
        if topic not in self.topics:
            raise ValueError(f"{self.conn} does not carry {topic!r}")
        self._to_renew[topic] = None
        self._renewal_wanted.set()

    @property
    def state(self) -> State:
        connection = self._connection
        if self._state == "subscribing" and connection is not None and connection.subscribed:
            return "live"
        return self._state

    def _delay_s(self, failures: int) -> float:
        """Full jitter over an exponential bound, so that many clients do not return at once."""
        first_s, most_s = self._backoff_s
        return self._random.uniform(0.0, min(most_s, first_s * 2.0 ** min(failures - 1, 32)))

    async def _live_once(self, attempt: int) -> float:
        """One connection from its handshake to its end; seconds lived, 0 if it never opened."""
        connection = Connection(self.conn, self.category, self._inbox, self.counters, self._clock)
        try:
            try:
                transport = await self._connect(connection)
            except (OSError, WSError) as error:
                self._connect_failed(error, attempt)
                return 0.0
            opened_s = connection.heard_s
            await self._serve(connection, transport)
            return self._clock() - opened_s
        finally:
            connection.leave()
            self._connection = None

    async def _connect(self, connection: Connection) -> WSTransport:
        # picows closes a socket whose handshake is late only by its own timeout: let it be first.
        async with asyncio.timeout(self._connect_timeout_s):
            transport, _ = await ws_connect(
                lambda: connection,
                self.url,
                websocket_handshake_timeout=self._connect_timeout_s / 2,
                max_frame_size=MESSAGE_MAX_BYTES,
                max_redirects=0,
                use_aiofastnet=False,  # asyncio's own TLS is fast enough and long proven
            )
        if not connection.opened:
            raise ConnectionError("the venue closed the connection during the handshake")
        return transport

    def _connect_failed(self, error: Exception, attempt: int) -> None:
        self.counters.failed_connects += 1
        never_connected = self.counters.connects == 0
        if never_connected and self._give_up_after is not None and attempt >= self._give_up_after:
            raise VenueUnreachable(self.url, cause_of(error)) from error
        self._log.warning("connect failed", url=self.url, cause=cause_of(error))

    async def _serve(self, connection: Connection, transport: WSTransport) -> None:
        self._connection = connection
        self._state = "subscribing"
        self._to_renew.clear()
        self._renewal_wanted.clear()
        connection.subscribe(self.topics)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._ping(connection)),
                group.create_task(self._watch(connection)),
                group.create_task(self._make_room(connection)),
                group.create_task(self._renew(connection)),
            ]
            try:
                await transport.wait_disconnected()
            except WSError as error:
                self._log.warning("venue broke the WebSocket protocol", cause=str(error))
            for task in tasks:
                task.cancel()
        self._log.warning("disconnected", reason=connection.end_reason)

    async def _ping(self, connection: Connection) -> None:
        while True:
            await self._pause(self._ping_s)
            connection.ping()

    async def _watch(self, connection: Connection) -> None:
        """End a connection that is silent, or that leaves a request without an answer."""
        while True:
            if connection.paused.is_set():
                await self._pause(self._silence_s)
                continue
            now_s, heard_s = self._clock(), connection.heard_s
            unanswered_in_s = connection.asked_s() + self._connect_timeout_s - now_s
            if heard_s + self._silence_s <= now_s:
                self._state = "stale"
                connection.end(f"silent for {self._silence_s:g} s")
                return
            if unanswered_in_s <= 0:
                self._state = "stale"
                connection.end(f"no answer to a request for {self._connect_timeout_s:g} s")
                return
            # A market in which nothing happens is silent, too, but answers a ping.
            due_s = heard_s + self._silence_s / 2
            if due_s <= now_s:
                if connection.pinged_s <= heard_s:
                    connection.ping()
                due_s = heard_s + self._silence_s
            await self._pause(min(due_s - now_s, unanswered_in_s))

    async def _make_room(self, connection: Connection) -> None:
        """Read again when the inbox, having been full, has room."""
        while True:
            await connection.paused.wait()
            await self._inbox.has_room.wait()
            connection.resume()

    async def _renew(self, connection: Connection) -> None:
        while True:
            await self._renewal_wanted.wait()
            await self._renewals.wait()
            topic = next(iter(self._to_renew))
            del self._to_renew[topic]
            if not self._to_renew:
                self._renewal_wanted.clear()
            if connection.renew(topic):
                self.counters.resubscribes += 1
                self._log.info("resubscribed", topic=topic)
