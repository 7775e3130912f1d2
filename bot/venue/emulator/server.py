"""The local venue as a process: Bybit v5's WebSocket and REST paths on one loopback port."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from bot.core.instrument import to_e8
from bot.venue.emulator.clearing import Clearing
from bot.venue.emulator.connection import IDLE_S, Socket
from bot.venue.emulator.control import Control
from bot.venue.emulator.feed import Feed, LiveFeed
from bot.venue.emulator.hub import Hub
from bot.venue.emulator.limits import AddressGuard
from bot.venue.emulator.listing import DEFAULT_SYMBOLS, VenueError
from bot.venue.emulator.market import Market
from bot.venue.emulator.playback import Playback
from bot.venue.emulator.private import PrivateGate
from bot.venue.emulator.private_socket import PRIVATE, PrivateDesk, active_s
from bot.venue.emulator.rest import (
    CATEGORIES,
    BadParameterError,
    Result,
    envelope,
    refusal,
    routes,
    server_time,
)
from bot.venue.emulator.signing import DEMO_KEY, DEMO_SECRET

HOST = "127.0.0.1"
DEMO = {DEMO_KEY: DEMO_SECRET}
_TICK_S = 0.01
_SLICE_NS = 100_000_000  # after a sleep of the machine, catch up in pieces that let others run


class Venue:
    """A local Bybit. ``start``, use the two URLs, ``close``.

    Without ``capture`` it plays a synthetic market of ``symbols`` that follows from ``seed``;
    with one it plays that file's frames again. Raises VenueError for what it cannot play.
    ``clock_ns`` is the market's time, so that a test may let it run faster than the wall; a
    client that says nothing for ``idle_s`` is cut. Each API key of ``secrets`` (key to secret)
    has an account of ``usdt``; a capture has no private side.
    """

    def __init__(
        self,
        symbols: Iterable[str] = DEFAULT_SYMBOLS,
        *,
        seed: int = 7,
        events_per_s: float = 40.0,
        capture: Path | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        history_hours: int = 168,
        funding_minutes: int = 480,
        idle_s: float = IDLE_S,
        secrets: Mapping[str, str] = DEMO,
        usdt: Decimal = Decimal(100_000),
    ) -> None:
        self._clock_ns = clock_ns
        self._idle_s = idle_s
        self._addresses = AddressGuard()
        self._clearing: Clearing | None = None
        self._desk: PrivateDesk | None = None
        self._gate: PrivateGate | None = None
        self.feed: Feed
        if capture is None:
            market = Market(
                symbols,
                seed=seed,
                start_ns=clock_ns(),
                events_per_s=events_per_s,
                history_hours=history_hours,
                funding_minutes=funding_minutes,
            )
            self._clearing = Clearing(market, secrets, to_e8(usdt))
            self._desk = PrivateDesk(secrets, self._now_ms)
            self._gate = PrivateGate(self._clearing, secrets, clock_ns, self._now_ms)
            self.feed = LiveFeed(market, self._clearing.step)
            self._routes = routes(market)
        else:
            playback = Playback(capture)
            self.feed = playback
            self._routes = playback.routes()
        self.hub = Hub(self.feed, self._desk)
        self._runner: web.AppRunner | None = None
        self._driver: asyncio.Task[None] | None = None

    async def start(self, port: int = 0) -> tuple[str, str]:
        """Listen on 127.0.0.1 and return the WebSocket and the REST URL; 0 picks a free port.

        Raises VenueError if the port is taken.
        """
        runner = web.AppRunner(self._application(), handle_signals=False, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, port).start()
        except OSError as error:
            await runner.cleanup()
            if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise
            why = "already in use" if error.errno == errno.EADDRINUSE else "not permitted"
            raise VenueError(
                f"http://{HOST}:{port}: the address is {why}; choose another port, or 0"
            ) from error
        self._runner = runner
        self._driver = asyncio.create_task(self._drive(), name="venue-market")
        bound = runner.addresses[0][1]
        return f"ws://{HOST}:{bound}", f"http://{HOST}:{bound}"

    async def wait(self) -> None:
        """Return, or raise, only when the market has stopped."""
        assert self._driver is not None, "start() comes first"
        await asyncio.shield(self._driver)

    async def close(self) -> None:
        """Cut every connection and give the port back. Raises what broke the market, if it did."""
        driver, runner = self._driver, self._runner
        self._driver = self._runner = None
        if driver is not None:
            driver.cancel()
        self.hub.stall(False)
        self.hub.drop(None)
        if runner is not None:
            await runner.cleanup()
        if driver is not None:
            (outcome,) = await asyncio.gather(driver, return_exceptions=True)
            if isinstance(outcome, Exception):
                raise outcome

    async def _drive(self) -> None:
        """Move the market with the clock and deliver what falls due."""
        played_ns = self._clock_ns()
        while True:
            now_ns = self._clock_ns()
            while played_ns < now_ns:
                played_ns = min(played_ns + _SLICE_NS, now_ns)
                self.hub.publish(self.feed.advance(played_ns))
                if self._clearing is not None and self._desk is not None:
                    self.hub.deliver(self._desk.addressed(self._clearing.pushes()))
                await asyncio.sleep(0)
            await asyncio.sleep(_TICK_S)

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._outage, self._guard])
        for category in CATEGORIES:
            application.router.add_get(f"/v5/public/{category}", self._socket)
        application.router.add_get("/v5/market/time", self._time)
        for path in self._routes:
            application.router.add_get(path, self._answer)
        if self._gate is not None:
            application.router.add_get("/v5/private", self._private_socket)
            self._gate.add_to(application)
        Control(self.hub, self._addresses).add_to(application)
        return application

    @web.middleware
    async def _outage(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """While refusing, everything but the control path is reset, as by a dead host.

        While stalling, a connection is accepted and then hears nothing.
        """
        if request.path.startswith("/control/"):
            return await handler(request)
        stalled = self.hub.stalling
        if stalled:
            await self.hub.moved.wait()
        if stalled or self.hub.refusing:
            if request.transport is not None:
                request.transport.abort()
            raise web.HTTPServiceUnavailable
        return await handler(request)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """More than 600 REST requests in 5 s from one address, and it is banned for 10 minutes."""
        path = request.path
        is_rest = path.startswith("/v5/") and not path.startswith(("/v5/public/", "/v5/private"))
        if is_rest and not self._addresses.admits(request.remote or "", self._now_ms()):
            text = "Access too frequent, please try it again 10 minutes later.\n"
            raise web.HTTPForbidden(text=text)
        return await handler(request)

    async def _time(self, request: web.Request) -> web.Response:
        del request
        now_ns = self._now_ns()
        return _json(envelope(server_time(now_ns), now_ns // 1_000_000))

    async def _answer(self, request: web.Request) -> web.Response:
        now_ms = self._now_ms()
        try:
            result = self._routes[request.path](request.query)
        except BadParameterError as error:
            return _json(refusal(10001, str(error), now_ms))
        return _json(envelope(result, now_ms))

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = Socket(self.hub, request, self._idle_s)
        return await socket.run(request.path.rpartition("/")[2])

    async def _private_socket(self, request: web.Request) -> web.StreamResponse:
        try:
            idle_s = active_s(request.query.get("max_active_time"))
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        socket = Socket(self.hub, request, self._idle_s if idle_s is None else idle_s)
        return await socket.run(PRIVATE)

    def _now_ns(self) -> int:
        """What the venue says the time is."""
        return self._clock_ns() + self.hub.skew_ms * 1_000_000

    def _now_ms(self) -> int:
        return self._now_ns() // 1_000_000


def _json(body: Result) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")


async def serve(venue: Venue, port: int, announce: Callable[[str, str], None]) -> None:
    """Run ``venue`` until cancelled; ``announce`` gets both URLs once it listens.

    Raises VenueError if it cannot listen, and whatever stops the market.
    """
    ws_url, rest_url = await venue.start(port)
    try:
        announce(ws_url, rest_url)
        await venue.wait()
    finally:
        await venue.close()
