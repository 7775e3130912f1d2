"""The dashboard's routes: the page and its files, JSON about the run, a stream of its state, and
commands, which go into the run's queue and so into its journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias, get_args

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from bot.core.errors import PlainError
from bot.core.events import CommandName
from bot.operate.dashboard.books import Books
from bot.operate.dashboard.gate import Gate, read_body
from bot.operate.log_tail import tail
from bot.operate.serving import App
from bot.operate.state import State

STATIC: Final = Path(__file__).parent / "static"
MOST_STREAMS: Final = 16
STALLED_S: Final = 10.0
LIVE_EVERY_S: Final = 0.25
STORED_EVERY_S: Final = 2.0
MOST_COMMANDS_PER_S: Final = 5
_NAMES: Final = get_args(CommandName)
_LIMIT: Final = 200

Asked: TypeAlias = Callable[[Request], Awaitable[Any]]


class Live(Struct, frozen=True):
    """The running bot itself, where the dashboard is served by it."""

    picture: Callable[[str | None], State]
    """How it stands now, with the book of a symbol."""
    depth: Callable[[str], bytes]
    """The columns of a symbol's depth map."""
    command: Callable[[CommandName, str], None]
    """Puts a command, with its reason, into the run's queue."""


class _Bad(PlainError):
    """A request that cannot be answered; the text says why."""


def application(
    books: Books, live: Live | None, *, token: str, port: int, names: tuple[str, ...] = ()
) -> App:
    """The dashboard of one run, behind its gate."""
    routes = _Routes(books, live)
    paths: dict[str, Asked] = {
        "run": routes.run,
        "state": routes.state,
        "candles": routes.candles,
        "forecasts": routes.forecasts,
        "quality": routes.quality,
        "equity": routes.equity,
        "fills": routes.fills,
        "orders": routes.orders,
        "gaps": routes.gaps,
        "log": routes.log,
    }
    routed = Starlette(
        routes=[
            Route("/", routes.page),
            *(Route(f"/api/{name}", _json(asked)) for name, asked in paths.items()),
            Route("/api/depth", routes.depth),
            Route("/api/stream", routes.stream),
            Route("/api/command", routes.command, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={PlainError: _told},
    )
    return Gate(routed, token=token, port=port, names=names)


class _Routes:
    def __init__(self, books: Books, live: Live | None) -> None:
        self._books, self._live = books, live
        self._streams = 0
        self._commanded_s: list[float] = []

    async def page(self, request: Request) -> Response:
        del request
        return Response((STATIC / "index.html").read_bytes(), media_type="text/html")

    # --- what there is ---------------------------------------------------------------------

    async def run(self, request: Request) -> Any:
        del request
        return await self._books.run()

    async def state(self, request: Request) -> Any:
        return await self._state(request.query_params.get("symbol"))

    async def candles(self, request: Request) -> Any:
        return await self._books.candles(_symbol(request), _limit(request))

    async def forecasts(self, request: Request) -> Any:
        model = request.query_params.get("model", "")
        return await self._books.forecasts(_symbol(request), model, _limit(request))

    async def quality(self, request: Request) -> Any:
        """Of every model on one symbol."""
        symbol = _symbol(request)
        names = (await self._state(None)).models
        return [await self._books.quality(symbol, name) for name in names]

    async def equity(self, request: Request) -> Any:
        del request
        return await self._books.equity()

    async def fills(self, request: Request) -> Any:
        return await self._books.fills(request.query_params.get("symbol"), _limit(request))

    async def orders(self, request: Request) -> Any:
        return await self._books.orders(request.query_params.get("symbol"), _limit(request))

    async def gaps(self, request: Request) -> Any:
        return await self._books.gaps(request.query_params.get("symbol"), _limit(request))

    async def log(self, request: Request) -> Any:
        after = _number(request, "after", 0)
        return [] if self._live is None else tail.lines(after)

    async def depth(self, request: Request) -> Response:
        columns = b"" if self._live is None else self._live.depth(_symbol(request))
        return Response(columns, media_type="application/octet-stream")

    async def _state(self, symbol: str | None) -> State:
        if self._live is not None:
            return self._live.picture(symbol)
        return await self._books.state()

    # --- as it goes on ----------------------------------------------------------------------

    async def stream(self, request: Request) -> Response:
        """Server-sent events: the state, as often as the client can take it and no more often."""
        if self._streams >= MOST_STREAMS:
            return Response("too many streams\n", 503, {"retry-after": "10"})
        symbol = request.query_params.get("symbol")
        return _Stream(self._events(symbol), media_type="text/event-stream")

    async def _events(self, symbol: str | None) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            while True:
                picture = msgspec.json.encode(await self._state(symbol))
                yield b"data: " + picture + b"\n\n"
                await asyncio.sleep(STORED_EVERY_S if self._live is None else LIVE_EVERY_S)
        finally:
            self._streams -= 1

    # --- what changes something -----------------------------------------------------------------

    async def command(self, request: Request) -> Response:
        if self._live is None:
            return JSONResponse({"error": "this run is not served by the bot itself"}, 409)
        body = await read_body(request.receive)
        if body is None:
            return JSONResponse({"error": "the request is too long"}, 413)
        try:
            asked = msgspec.json.decode(body, type=_Asked)
        except msgspec.MsgspecError as error:
            return JSONResponse({"error": f"{error}; names are {', '.join(_NAMES)}"}, 400)
        now = asyncio.get_running_loop().time()
        self._commanded_s = [each for each in self._commanded_s if now - each < 1.0]
        if len(self._commanded_s) >= MOST_COMMANDS_PER_S:
            return JSONResponse({"error": "too many commands in a second"}, 429)
        self._commanded_s.append(now)
        self._live.command(asked.name, asked.reason)
        return JSONResponse({"queued": asked.name}, 202)


class _Asked(Struct, frozen=True, forbid_unknown_fields=True):
    name: CommandName
    reason: str = ""


class _Stream(StreamingResponse):
    """Ends a client that does not read."""

    async def stream_response(self, send: Any) -> None:
        async def in_time(message: Any) -> None:
            async with asyncio.timeout(STALLED_S):
                await send(message)

        try:
            await super().stream_response(in_time)
        except TimeoutError:
            # Its buffer is full: what it has not taken in all this time it will not get.
            return


def _json(asked: Asked) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return Response(msgspec.json.encode(await asked(request)), media_type="application/json")

    return answer


async def _told(request: Request, error: Exception) -> Response:
    """A question that cannot be answered, or a ledger that is away."""
    del request
    return JSONResponse({"error": str(error)}, 400 if isinstance(error, _Bad) else 503)


def _symbol(request: Request) -> str:
    symbol = request.query_params.get("symbol")
    if not symbol:
        raise _Bad("symbol: which one, for example linear:BTCUSDT")
    return symbol


def _limit(request: Request) -> int:
    return _number(request, "limit", _LIMIT)


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isdecimal() or len(text) > 15:
        raise _Bad(f"{name} = {text[:30]!r}: must be a whole number")
    return int(text)
