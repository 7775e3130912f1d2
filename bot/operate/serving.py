"""A web server in the bot's own loop: uvicorn, without its signals, its logs, or its patience.

A client has ``FIRST_REQUEST_S`` to send the head of a request. Connections and requests at a time
are bounded; beyond, the answer is 503. There are no WebSockets.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bot.core.errors import PlainError

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

FIRST_REQUEST_S = 10.0
KEEP_ALIVE_S = 20
MOST_CONNECTIONS = 64
HEAD_MAX_BYTES = 16 * 1024
LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


class ServingError(PlainError):
    """A port cannot be served; the text names the setting and the way out."""


def bind(setting: str, host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one. Raises ServingError that names ``setting``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen()  # whoever is told the address may come at once
    except OSError as error:
        bound.close()
        raise ServingError(
            f"{setting}: cannot listen on {host} port {port}: {error.strerror}; choose another "
            f"`{setting}.port` (0 picks a free one) or `{setting}.host`"
        ) from error
    return bound


def url_of(bound: socket.socket) -> str:
    """Where a person on this machine finds it."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class _Protocol(H11Protocol):
    """Ends a connection that does not bring the head of a request in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(FIRST_REQUEST_S, self._end_if_headless)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(KEEP_ALIVE_S + FIRST_REQUEST_S, self._end_if_headless)

    def _end_if_headless(self) -> None:
        """No request is being answered: either none has come, or only a part of its head."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the bot."""
        yield


async def serve(app: App, bound: socket.socket) -> None:
    """Answer requests on ``bound`` until cancelled; then streams end and the port is free."""
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=HEAD_MAX_BYTES,
    )
    # A client's nonsense is no news of ours, and must not fill the disk.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = _Server(config)
    try:
        await server.serve(sockets=[bound])
    except asyncio.CancelledError:
        server.should_exit = server.force_exit = True
        if server.started:
            for task in tuple(server.server_state.tasks):
                task.cancel()
            await server.shutdown(sockets=[bound])
        raise
    finally:
        bound.close()
