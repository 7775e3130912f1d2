"""One question to a public stream: does a connection open, and does it answer a ping."""

from __future__ import annotations

import asyncio

import msgspec
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bot.venue.address import VenueUnreachable, cause_of


class _Pinged(WSListener):
    def __init__(self) -> None:
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        # https://bybit-exchange.github.io/docs/v5/ws/connect
        transport.send(WSMsgType.TEXT, msgspec.json.encode({"req_id": "probe", "op": "ping"}))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        del transport
        if frame.msg_type is WSMsgType.TEXT and not self.answered.done():
            self.answered.set_result(None)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        del transport
        if not self.answered.done():
            self.answered.set_exception(ConnectionError("closed without an answer to a ping"))


async def ping(url: str, timeout_s: float) -> float:
    """Connect, ping, close; seconds from the start to the pong. Raises VenueUnreachable."""
    clock = asyncio.get_running_loop().time
    started_s = clock()
    listener = _Pinged()
    try:
        async with asyncio.timeout(timeout_s):
            transport, _ = await ws_connect(
                lambda: listener,
                url,
                websocket_handshake_timeout=timeout_s / 2,
                max_redirects=0,
                use_aiofastnet=False,
            )
            try:
                await listener.answered
            finally:
                transport.disconnect(graceful=False)
    except (OSError, WSError) as error:
        raise VenueUnreachable(url, cause_of(error)) from error
    finally:
        if listener.answered.done() and not listener.answered.cancelled():
            listener.answered.exception()  # told above, or nobody waits for it any more
        else:
            listener.answered.cancel()
    return clock() - started_s
