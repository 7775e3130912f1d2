"""Bybit v5 public streams: frames in, events out. Knows no socket and no clock.

Fields are found by key, never by position: key order differs between topics and categories.
A frame that cannot be read is counted and named, never raised.

https://bybit-exchange.github.io/docs/v5/ws/connect and the pages of each topic beside it.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from typing import Literal, TypeAlias, get_args

from msgspec import Struct

from bot.core.events import (
    BookUpdate,
    Candle,
    Connected,
    Disconnected,
    Event,
    FeedDown,
    FeedUp,
    Frame,
    Input,
    Level,
    Ticker,
    Trade,
)
from bot.core.instrument import E12_OF_TEXT
from bot.venue import native, payloads
from bot.venue.payloads import MS, UNREADABLE, Envelope

DEPTHS = (1, 50, 200, 1000)
_DEPTH_NAMES = frozenset(map(str, DEPTHS))
_PROBLEMS_KEPT = 100
SNAPSHOT_WAIT_NS = 1_000_000_000
"""How long deltas may come without the snapshot that they change, before it is asked for."""
_TOPIC_IN_PIECES = re.compile(rb'"topic"\s*:\s*"([\w.]{1,100})"')

Skip: TypeAlias = Literal["malformed", "unknown topic", "refused", "no connection"]
SKIPPED: tuple[Skip, ...] = get_args(Skip)
"""Why a frame was skipped, as ``Codec.counts`` names it."""


class Problem(Struct, frozen=True):
    """A frame that was skipped, in one line."""

    ts: int
    conn: str
    kind: Skip
    text: str


# --- Topics -----------------------------------------------------------------------------------


class Topic:
    """One subscribed stream: how to read it, and what must be remembered to do so."""

    __slots__ = ("depth", "is_live", "kind", "symbol", "ticker", "u", "waiting_since")

    def __init__(self, kind: str, symbol: str, depth: int) -> None:
        self.kind = kind
        self.symbol = symbol
        self.depth = depth
        self.is_live = False
        self.u = 0
        self.ticker: Ticker | None = None
        self.waiting_since = 0


def _parse_topic(text: str, category: str) -> Topic | None:
    """``orderbook.50.BTCUSDT``, ``publicTrade.X``, ``tickers.X``, ``kline.1.X``; None otherwise."""
    match text.split("."):
        case ["orderbook", depth, name] if depth in _DEPTH_NAMES and name:
            return Topic("orderbook", f"{category}:{name}", int(depth))
        case ["publicTrade" | "tickers" as kind, name] if name:
            return Topic(kind, f"{category}:{name}", 0)
        case ["kline", interval, name] if interval and name:
            return Topic("kline", f"{category}:{name}", 0)
        case _:
            return None


class Codec:
    """Translates the inputs of every connection. One codec serves a whole run.

    ``frames`` counts all of them, ``counts`` the unusual ones by kind; ``problems`` has the last
    that were skipped, for whoever logs. ``scan`` reads most frames and may leave any of them to
    ``payloads``, which alone finds faults.
    """

    def __init__(self, scan: native.Scan = native.scan) -> None:
        self._scan = scan
        self.frames = 0
        self.counts: Counter[str] = Counter()
        self.problems: deque[Problem] = deque(maxlen=_PROBLEMS_KEPT)
        self._categories: dict[str, str] = {}
        self._topics: dict[str, dict[str, Topic]] = {}

    def decode(self, item: Input) -> list[Event]:
        """The events of one input, in order. What is an event already passes through."""
        if type(item) is Frame:
            self.frames += 1
            topics = self._topics.get(item.conn)
            if topics is None:
                return self._skip(item, "no connection", "a frame before its connection opened")
            scanned = self._scan(item.data)
            topic = None if scanned is None else topics.get(scanned[0])
            if scanned is None or topic is None:
                return self._read(item, topics)
            if len(scanned) == 2:
                ts, symbol = item.ts, topic.symbol
                return [
                    Trade(ts, at_ns, symbol, seq, side, price, qty, block, rpi)
                    for at_ns, seq, side, price, qty, block, rpi in scanned[1]
                ]
            _, is_snapshot, stamp_ns, u, seq, bids, asks = scanned
            return self._book(item, topic, is_snapshot, stamp_ns, u, seq, bids, asks)
        if type(item) is Connected:
            lost = self._drop_connection(item.conn, item.ts, "reconnected")
            self._categories[item.conn] = item.category
            self._topics[item.conn] = {}
            return lost
        if type(item) is Disconnected:
            return self._drop_connection(item.conn, item.ts, item.reason)
        return [item]  # type: ignore[list-item] # the others are events

    def book_topic(self, symbol: str) -> str | None:
        """The order-book topic of ``symbol``, for a resubscribe."""
        for topics in self._topics.values():
            for text, topic in topics.items():
                if topic.symbol == symbol and topic.kind == "orderbook":
                    return text
        return None

    def _drop_connection(self, conn: str, ts: int, reason: str) -> list[Event]:
        """Every live book of a connection is unknown from here on."""
        topics = self._topics.pop(conn, {}).values()
        return [
            FeedDown(ts, topic.symbol, reason)
            for topic in topics
            if topic.kind == "orderbook" and topic.is_live
        ]

    def _read(self, frame: Frame, topics: dict[str, Topic]) -> list[Event]:
        """The events of a frame that the scanner left."""
        try:
            envelope = payloads.envelope(frame.data)
        except UNREADABLE as error:
            self._skip(frame, "malformed", _quote(frame, error))
            named = _TOPIC_IN_PIECES.search(frame.data)
            lost = topics.get(named[1].decode()) if named is not None else None
            return self._lose(frame, lost, "a frame could not be read") if lost else []
        text = envelope.topic
        if not text:
            return self._control(frame, envelope)
        topic = topics.get(text)
        if topic is None:
            topic = _parse_topic(text, self._categories[frame.conn])
            if topic is None:
                return self._skip(frame, "unknown topic", f"{text[:80]!r}")
            topics[text] = topic
        try:
            if topic.kind == "orderbook":
                return self._read_book(frame, topic, envelope)
            if topic.kind == "publicTrade":
                return _read_trades(frame.ts, topic, envelope)
            if topic.kind == "tickers":
                return self._ticker(frame.ts, topic, envelope)
            return self._klines(frame.ts, topic, envelope)
        except UNREADABLE as error:
            self._skip(frame, "malformed", f"{text}: {_quote(frame, error)}")
            return self._lose(frame, topic, "a frame could not be read")

    def _lose(self, frame: Frame, topic: Topic, reason: str) -> list[Event]:
        """A delta is missing, or a print: the symbol is unknown until its next snapshot.

        Of other topics nothing can be lost that the next frame does not tell.
        """
        if topic.kind not in ("orderbook", "publicTrade"):
            return []
        is_lost = False
        for other in self._topics[frame.conn].values():
            if other.kind == "orderbook" and other.symbol == topic.symbol and other.is_live:
                other.is_live = False
                other.waiting_since = 0
                is_lost = True
        return [FeedDown(frame.ts, topic.symbol, reason)] if is_lost else []

    def _early(self, ts: int, topic: Topic) -> list[Event]:
        """A delta of a book that is not known. A snapshot that got lost is asked for again."""
        self.counts["before snapshot"] += 1
        if not topic.waiting_since:
            topic.waiting_since = ts
        if ts - topic.waiting_since < SNAPSHOT_WAIT_NS:
            return []
        topic.waiting_since = ts
        seconds = SNAPSHOT_WAIT_NS // 10**9
        return [FeedDown(ts, topic.symbol, f"no snapshot came in {seconds} s")]

    def _control(self, frame: Frame, envelope: Envelope) -> list[Event]:
        """Acks, pongs and errors move nothing; a refusal is a problem."""
        if not envelope.op and envelope.success is None:
            return self._skip(frame, "malformed", _quote(frame, "neither a topic nor an answer"))
        self.counts["control"] += 1
        if envelope.success is False:
            return self._skip(frame, "refused", envelope.ret_msg[:200])
        return []

    def _skip(self, frame: Frame, kind: Skip, text: str) -> list[Event]:
        self.counts[kind] += 1
        self.problems.append(Problem(frame.ts, frame.conn, kind, text))
        return []

    # --- the topics' data ----------------------------------------------------------------------

    def _read_book(self, frame: Frame, topic: Topic, envelope: Envelope) -> list[Event]:
        data = payloads.book(envelope.data)
        number = E12_OF_TEXT
        return self._book(
            frame,
            topic,
            envelope.type == "snapshot",
            (envelope.cts or envelope.ts) * MS,
            data.u,
            data.seq,
            [(number[price], number[qty]) for price, qty in data.b],
            [(number[price], number[qty]) for price, qty in data.a],
        )

    def _book(
        self,
        frame: Frame,
        topic: Topic,
        is_snapshot: bool,
        exchange_ts: int,
        u: int,
        seq: int,
        bids: list[Level],
        asks: list[Level],
    ) -> list[Event]:
        """An update that follows the one before it, or what it means that it does not."""
        ts = frame.ts
        is_snapshot = is_snapshot or u == 1
        if not is_snapshot and (u != topic.u + 1 or not topic.is_live):
            return self._not_next(frame, topic, u)
        topic.u = u
        update = BookUpdate(
            ts, exchange_ts, topic.symbol, topic.depth, u, seq, is_snapshot, bids, asks
        )
        if topic.is_live:
            return [update]
        topic.is_live = True
        topic.waiting_since = 0
        return [FeedUp(ts, topic.symbol), update]

    def _not_next(self, frame: Frame, topic: Topic, u: int) -> list[Event]:
        if not topic.is_live:
            return self._early(frame.ts, topic)
        if u <= topic.u:
            self.counts["duplicate"] += 1
            return []
        return self._lose(frame, topic, f"gap in u: {u} after {topic.u}")

    def _ticker(self, ts: int, topic: Topic, envelope: Envelope) -> list[Event]:
        """Linear tickers come as deltas: a key that is absent is unchanged."""
        data = payloads.tickers(envelope.data)
        last = topic.ticker
        if last is None or envelope.type == "snapshot":
            last = Ticker(0, 0, topic.symbol)
        merged = Ticker(
            ts,
            envelope.ts * MS,
            topic.symbol,
            payloads.price_or_none(data.last_price) or last.last,
            payloads.price_or_none(data.mark_price) or last.mark,
            payloads.price_or_none(data.index_price) or last.index,
            payloads.rate(data.funding_rate) if data.funding_rate else last.funding_rate,
            payloads.stamp_or_none(data.next_funding_time) or last.next_funding_ts,
            payloads.volume(data.open_interest) if data.open_interest else last.open_interest,
        )
        topic.ticker = merged
        return [merged] if _says_more(merged, last) else []

    def _klines(self, ts: int, topic: Topic, envelope: Envelope) -> list[Event]:
        """Only a closed bar (``confirm``) is a candle; its stamp is its close."""
        price, volume = payloads.price, payloads.volume
        return [
            Candle(
                ts, (k.end + 1) * MS, topic.symbol, k.interval, k.start * MS, price(k.open),
                price(k.high), price(k.low), price(k.close), volume(k.volume), volume(k.turnover),
            )
            for k in payloads.klines(envelope.data)
            if k.confirm
        ]  # fmt: skip


def _read_trades(ts: int, topic: Topic, envelope: Envelope) -> list[Event]:
    symbol = topic.symbol
    number = E12_OF_TEXT
    return [
        Trade(ts, t.T * MS, symbol, t.seq, t.S, number[t.p], number[t.v], t.BT, t.RPI)
        for t in payloads.trades(envelope.data)
    ]


def _says_more(new: Ticker, old: Ticker) -> bool:
    """Most ticker deltas only move the best bid and ask, which the book tells better."""
    return (
        new.last != old.last
        or new.mark != old.mark
        or new.index != old.index
        or new.funding_rate != old.funding_rate
        or new.next_funding_ts != old.next_funding_ts
        or new.open_interest != old.open_interest
    )


def _quote(frame: Frame, cause: object) -> str:
    return f"{cause}: {frame.data[:80]!r}"
