"""One public WebSocket: its frames to the inbox, its requests matched with their answers.

A connection does not reconnect and has no tasks; ``stream.py`` owns both.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec
import structlog
from msgspec import Struct
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from bot.core.events import Connected, Disconnected, Input
from bot.venue.topics import requests

log = structlog.get_logger()

ANSWER_MAX_BYTES = 1024
"""Longer frames are market data. Bybit's acks and pongs are under 300 bytes."""
MESSAGE_MAX_BYTES = 10 * 1024 * 1024
_MARKET_DATA = b'{"topic":'
"""What begins with its topic is market data, however short."""


class Inbox(Protocol):
    """The one queue, as a socket sees it."""

    def now(self) -> int:
        """Give the local stamp in ns; it never decreases."""

    def put(self, item: Input) -> None:
        """Take the item at once, also beyond the limit: a read in progress cannot be undone."""

    def put_frames(self, conn: str, messages: Sequence[bytes]) -> bool:
        """Stamp the messages of one read and take them in; returns whether there is room for more."""

    @property
    def has_room(self) -> asyncio.Event:
        """Set while reading may go on; always the same event."""


class Counters(Struct):
    """What happened on a stream since it was made."""

    frames: int = 0
    bytes: int = 0
    connects: int = 0
    failed_connects: int = 0
    disconnects: int = 0
    pings: int = 0
    refused: int = 0
    resubscribes: int = 0
    paused: int = 0
    faults: int = 0


class _Answer(Struct):
    """Bybit's answer to a request (https://bybit-exchange.github.io/docs/v5/ws/connect)."""

    op: str = ""
    success: bool = True
    ret_msg: str = ""
    req_id: str = ""


class _Request(Struct, frozen=True):
    op: Literal["subscribe", "unsubscribe"]
    topics: tuple[str, ...]
    sent_s: float
    renewal: bool = False


_answers = msgspec.json.Decoder(_Answer)


class Connection(WSListener):
    """The life of one socket, from the handshake to its end.

    Puts ``Connected`` before its first frame and one ``Disconnected`` after its last, unless it
    was left. ``reading`` is cleared while the inbox has no room.
    """

    def __init__(
        self,
        conn: str,
        category: str,
        inbox: Inbox,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self.opened = False
        self.paused = asyncio.Event()
        self.heard_s = 0.0
        self.pinged_s = 0.0
        self.end_reason = ""
        self._resumed_s = 0.0
        self._conn = conn
        self._category = category
        self._inbox = inbox
        self._counters = counters
        self._log = log.bind(conn=conn)
        self._clock = clock
        self._transport: WSTransport | None = None
        self._left = False
        self._parts = bytearray()
        self._messages: list[bytes] = []
        self._numbers = itertools.count(1)
        self._waiting: dict[str, _Request] = {}

    # --- What the stream asks for -----------------------------------------------------------

    def subscribe(self, topics: tuple[str, ...]) -> None:
        """Ask for the topics in as many requests as Bybit wants."""
        for chunk in requests(topics):
            self._ask("subscribe", chunk)

    def renew(self, topic: str) -> bool:
        """Unsubscribe and subscribe one topic, for a fresh snapshot; False if under way."""
        if any(topic in request.topics for request in self._waiting.values()):
            return False
        self._ask("unsubscribe", (topic,), renewal=True)
        return True

    def ping(self) -> None:
        self.pinged_s = self._clock()
        self._send({"req_id": f"ping-{next(self._numbers)}", "op": "ping"})
        self._counters.pings += 1

    def resume(self) -> None:
        """Read again. Time spent not reading says nothing about the venue."""
        self.paused.clear()
        self.heard_s = self._resumed_s = self._clock()
        if self._transport is not None:
            self._transport.underlying_transport.resume_reading()

    def end(self, reason: str) -> None:
        """Close the socket; ``Disconnected`` with this reason follows."""
        self.end_reason = self.end_reason or reason
        self._close()

    def leave(self) -> None:
        """Close the socket and put nothing more: the bot goes, the feed did not fail."""
        self._left = True
        self._close()

    @property
    def subscribed(self) -> bool:
        """Whether every request has its answer."""
        return self.opened and not self._waiting

    def asked_s(self) -> float:
        """When the oldest request without an answer could first have had one; else infinity."""
        for request in self._waiting.values():
            return max(request.sent_s, self._resumed_s)
        return math.inf

    # --- What the socket says ---------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        if self._left:
            self._close()
            return
        self.opened = True
        self.heard_s = self._clock()
        self._counters.connects += 1
        self._inbox.put(Connected(self._inbox.now(), self._conn, self._category))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Keep what one read of the socket brings, and put it into the inbox together."""
        del transport
        try:
            data = frame.get_payload_as_bytes()
            # Most frames end here. Their type is not asked for: picows makes an enum of it, which
            # takes as long as all the rest, and no control frame begins like this.
            if data.startswith(_MARKET_DATA) and frame.fin and not self._parts:
                self._messages.append(data)
            else:
                self._receive(frame, data)
            if frame.last_in_buffer:
                self.heard_s = self._clock()
                self._deliver()
        except Exception as error:  # noqa: BLE001 - the rim: counted, logged, and the socket ends
            # The frame may be lost, so the books are unknown: a new connection makes them anew.
            self._counters.faults += 1
            self._log.exception("frame failed")
            self.end(f"frame failed: {error!r}")

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        del transport
        if self._left:
            return
        self._deliver()  # what was read before a frame that broke the protocol
        self._counters.disconnects += 1
        self.end_reason = self.end_reason or "connection lost"
        self._inbox.put(Disconnected(self._inbox.now(), self._conn, self.end_reason))

    def _receive(self, frame: WSFrame, data: bytes) -> None:
        """Whatever is not one whole message of market data."""
        kind = frame.msg_type
        if kind is WSMsgType.CLOSE:
            self._closed_by_venue(data)
        elif kind is WSMsgType.PONG or self._left:
            pass
        elif frame.fin and not self._parts:
            self._take(data)
        else:
            self._take_part(frame, data)

    def _take(self, data: bytes) -> None:
        self._messages.append(data)
        if len(data) <= ANSWER_MAX_BYTES and not data.startswith(_MARKET_DATA) and b'"op"' in data:
            self._take_answer(data)

    def _deliver(self) -> None:
        messages, self._messages = self._messages, []
        if self._left or not messages:
            return
        self._counters.frames += len(messages)
        self._counters.bytes += sum(map(len, messages))
        if not self._inbox.put_frames(self._conn, messages) and not self.paused.is_set():
            self._pause()

    def _take_part(self, frame: WSFrame, part: bytes) -> None:
        """Join the fragments of one message (RFC 6455, 5.4)."""
        self._parts += part
        if len(self._parts) > MESSAGE_MAX_BYTES:
            self.end(f"message of more than {MESSAGE_MAX_BYTES} bytes")
        elif frame.fin:
            data = bytes(self._parts)
            self._parts.clear()
            self._take(data)

    def _pause(self) -> None:
        assert self._transport is not None
        self._transport.underlying_transport.pause_reading()
        self.paused.set()
        self._counters.paused += 1

    def _closed_by_venue(self, payload: bytes) -> None:
        # https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1: 1005 is "no code was sent"
        code = int.from_bytes(payload[:2], "big") if payload else 1005
        text = payload[2:].decode("utf-8", "replace")
        self.end(f"closed by the venue: {code} {text}".rstrip())

    # --- Requests and answers ---------------------------------------------------------------

    def _ask(
        self,
        op: Literal["subscribe", "unsubscribe"],
        topics: tuple[str, ...],
        *,
        renewal: bool = False,
    ) -> None:
        req_id = f"{op}-{next(self._numbers)}"
        self._waiting[req_id] = _Request(op, topics, self._clock(), renewal)
        self._send({"req_id": req_id, "op": op, "args": topics})

    def _send(self, message: dict[str, object]) -> None:
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.send(WSMsgType.TEXT, msgspec.json.encode(message))

    def _take_answer(self, data: bytes) -> None:
        try:
            answer = _answers.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._counters.faults += 1
            self._log.warning("answer cannot be read", cause=str(error), data=data[:200])
            return
        # An answer without req_id is for the oldest request: Bybit answers in order. A refusal
        # may come without even its op, and would otherwise be waited for.
        req_id = answer.req_id
        if not req_id and answer.op not in ("ping", "pong"):
            req_id = next(iter(self._waiting), "")
        request = self._waiting.pop(req_id, None)
        if request is None:
            if not answer.success:
                self._log.warning("refused", op=answer.op, ret_msg=answer.ret_msg)
        elif not answer.success:
            self._refused(request, answer.ret_msg)
        elif request.op == "unsubscribe":
            # Not earlier: a subscribe that overtakes the unsubscribe is refused as a duplicate.
            self._ask("subscribe", request.topics, renewal=True)

    def _refused(self, request: _Request, ret_msg: str) -> None:
        if request.renewal:
            self.end(f"{request.op} of {request.topics[0]} refused: {ret_msg}")
        elif "already subscribed" in ret_msg and len(request.topics) == 1:
            self._log.info("already subscribed", topic=request.topics[0])
        elif len(request.topics) > 1:
            # One bad topic refuses the whole request; alone, it takes nothing down with it.
            self._log.warning("request refused, asking one by one", ret_msg=ret_msg)
            for topic in request.topics:
                self._ask("subscribe", (topic,))
        else:
            self._counters.refused += 1
            self._log.error("subscription refused", topic=request.topics[0], ret_msg=ret_msg)

    def _close(self) -> None:
        if self._transport is not None and not self._transport.is_disconnected:
            if not self._transport.is_close_frame_sent:
                self._transport.send_close(WSCloseCode.OK)
            # Not graceful: a peer that has gone would hold the socket open for minutes.
            self._transport.disconnect(graceful=False)
