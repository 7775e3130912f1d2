"""One client's WebSocket: frames out through a bounded queue, requests in, and its limits."""

from __future__ import annotations

import asyncio
from collections import deque

from aiohttp import WSMsgType, web

from bot.venue.emulator.hub import Hub, Member

ACK_DELAY_S = 0.005
"""An answer never comes sooner: pybit registers a request only after it has sent it."""
IDLE_S = 600.0
"""A silent client is cut. https://bybit-exchange.github.io/docs/v5/ws/connect"""
MAX_OUTBOX = 20_000
"""Frames that may wait for a slow reader before its connection is cut."""
_MAX_REQUEST_BYTES = 1 << 20


class Socket:
    """The server's side of one connection; the hub knows it as an ``Outlet``."""

    def __init__(self, hub: Hub, request: web.Request, idle_s: float) -> None:
        self._hub = hub
        self._request = request
        self._idle_s = idle_s
        self._outbox: deque[str] = deque()
        self._wake = asyncio.Event()
        self._closing_code: int | None = None
        self._most_waiting = MAX_OUTBOX
        # Bybit offers no compression on public streams.
        self._ws = web.WebSocketResponse(compress=False, max_msg_size=_MAX_REQUEST_BYTES)

    async def run(self, category: str) -> web.StreamResponse:
        """Serve the connection until either side ends it."""
        if not self._ws.can_prepare(self._request).ok:
            raise web.HTTPBadRequest(text="this path speaks WebSocket\n")
        await self._ws.prepare(self._request)
        member = self._hub.join(category, self)
        writer = asyncio.create_task(self._write(), name=f"venue-{member.connection.id}")
        try:
            await self._read(member)
        finally:
            self._hub.leave(member)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await self._ws.close()
        return self._ws

    def send(self, text: str) -> None:
        if len(self._outbox) >= self._most_waiting:
            self.abort()
            return
        self._outbox.append(text)
        if self._most_waiting == MAX_OUTBOX:
            self._wake.set()

    def abort(self) -> None:
        self._outbox.clear()
        if self._request.transport is not None:
            self._request.transport.abort()

    def close(self, code: int) -> None:
        self._closing_code = code
        self._wake.set()

    def truncate(self, text: str) -> None:
        """Write the header of a frame and half of its payload, then end the connection."""
        self._outbox.clear()
        payload = text.encode()
        transport = self._request.transport
        if transport is not None:
            # https://www.rfc-editor.org/rfc/rfc6455#section-5.2: FIN, text, 64-bit length
            transport.write(b"\x81\x7f" + len(payload).to_bytes(8, "big"))
            transport.write(payload[: len(payload) // 2])
            transport.close()

    def choke(self, frames: int) -> None:
        self._most_waiting = min(frames, MAX_OUTBOX - 1)

    async def _read(self, member: Member) -> None:
        loop = asyncio.get_running_loop()
        while not self._ws.closed:
            try:
                message = await self._ws.receive(timeout=self._idle_s)
            except TimeoutError:
                return
            if message.type is not WSMsgType.TEXT:
                return
            loop.call_later(ACK_DELAY_S, self._hub.request, member, message.data)

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._outbox:
                    await self._ws.send_str(self._outbox.popleft())
                if self._closing_code is not None:
                    await self._ws.close(code=self._closing_code)
                    return
        except ConnectionError:
            self.abort()  # the reader sees the end and cleans up
