"""The real client side in a storm: what it believes of a book is held against what was true.

The truth is read from the venue's own frames before any fault strikes them, by code of its own.
Venue, streams, faults and back-off share the time of the loop, which is virtual.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from random import Random
from typing import Any

from msgspec import Struct

from bot.core.events import BookUpdate, Event, FeedDown, Input, Trade
from bot.core.market import Market
from bot.venue.emulator import Venue
from bot.venue.emulator.control import Control, FaultRequest
from bot.venue.emulator.limits import AddressGuard
from bot.venue.limit import RateLimit
from bot.venue.stream import MarketStream
from bot.venue.wire import Codec
from tests.venue.loopback import Box

SYMBOLS = ("linear:BTCUSDT", "spot:ETHUSDT")
START_NS = 1_800_000_000 * 10**9
LASTS_S = 2.0
"""How long faults that last do so."""
SILENCE_S = 5.0
LASTING = {
    **dict.fromkeys(("silence", "half_open", "outage", "delay"), LASTS_S),
    "slow_consumer": SILENCE_S,  # nothing comes until 200 frames wait for it, or it seems silent
}
EVERYWHERE = {"silence", "half_open", "outage", "skew"}
"""Faults that strike every connection, not that of one category."""
BOOKS_KEPT = 4000
SLOP_NS = 100_000_000
"""Market time by which a print may leave the venue after the book that shows it, and a frame."""


class Truth:
    """Every book at every ``u``, and every print, as the venue meant them."""

    def __init__(self, venue: Venue) -> None:
        self.books: dict[str, OrderedDict[tuple[int, int], tuple[dict, dict]]] = {}
        self.trades: dict[str, Counter[tuple[int, int, int]]] = {s: Counter() for s in SYMBOLS}
        self.stamps: dict[tuple[str, int], int] = {}
        self.frames = 0
        self.withdrawn: Counter[tuple[int, int, int]] = Counter()
        self._now: dict[str, tuple[dict, dict]] = {}
        feed = venue.feed
        advance, subscribe = feed.advance, feed.subscribe

        def seen_advance(to_ns: int) -> list[Any]:
            outgoing = advance(to_ns)
            for (category, _), text in outgoing:
                self._read(category, text)
            return outgoing

        def seen_subscribe(topic: tuple[str, str]) -> list[str]:
            texts = subscribe(topic)
            for text in texts:
                self._read(topic[0], text)
            return texts

        strikes = venue.hub._strikes
        forget = strikes.forget

        def seen_forget(topic: tuple[str, str]) -> None:
            """What a delay or a reordering held back when the last listener went."""
            lane = strikes._lanes.get(topic)
            if lane is not None and topic[1].startswith("publicTrade"):
                for text in [*(lane.late or ()), *filter(None, [lane.overtaken])]:
                    self.withdrawn.update(_prints(text))
            forget(topic)

        strikes.forget = seen_forget  # type: ignore[method-assign]
        feed.advance = seen_advance  # type: ignore[method-assign]
        feed.subscribe = seen_subscribe  # type: ignore[method-assign]

    def _read(self, category: str, text: str) -> None:
        message = json.loads(text)
        kind, *_, name = message["topic"].split(".")
        symbol = f"{category}:{name}"
        self.frames += 1
        if kind == "publicTrade":
            self.trades[symbol].update(_prints(text))
            for one in message["data"]:
                self.stamps[symbol, one["seq"]] = one["T"] * 10**6
        elif kind == "orderbook":
            self._book(symbol, message)

    def _book(self, symbol: str, message: dict[str, Any]) -> None:
        data = message["data"]
        if message["type"] == "snapshot":
            bids, asks = {}, {}
        else:
            bids, asks = (dict(side) for side in self._now[symbol])
        for side, changes in ((bids, data["b"]), (asks, data["a"])):
            for price, qty in changes:
                if qty == "0":
                    side.pop(e12(price))
                else:
                    side[e12(price)] = e12(qty)
        self._now[symbol] = bids, asks
        kept = self.books.setdefault(symbol, OrderedDict())
        kept[data["u"], data["seq"]] = bids, asks
        self.stamps[symbol, data["seq"]] = message["cts"] * 10**6
        if len(kept) > BOOKS_KEPT:
            kept.popitem(last=False)


def _prints(text: str) -> list[tuple[int, int, int]]:
    return [(one["seq"], e12(one["p"]), e12(one["v"])) for one in json.loads(text)["data"]]


class Down(Struct):
    """A time in which a book is known to be unknown: [last good stamp, next good stamp]."""

    symbol: str
    since_ns: int
    since_s: float
    until_ns: int = 0
    until_s: float = 0.0
    reason: str = ""


class Strike(Struct):
    """A fault that was caused, and until when it keeps a book of ``category`` from returning."""

    category: str
    fault: str
    at_s: float
    end_s: float


class BackOff:
    """A stream's sleep between its connects, remembered."""

    def __init__(self) -> None:
        self.naps: list[tuple[float, float]] = []

    async def __call__(self, delay_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        self.naps.append((now_s, now_s + delay_s))
        await asyncio.sleep(delay_s)

    def within(self, since_s: float, until_s: float) -> float:
        """How much of a time was slept."""
        return sum(max(0.0, min(until_s, b) - max(since_s, a)) for a, b in self.naps)


class Post(Box):
    """An inbox that says when there is something in it."""

    def __init__(self, filled: asyncio.Event, now_ns: Callable[[], int]) -> None:
        super().__init__(clock_ns=now_ns)
        self._filled = filled

    def put(self, item: Input) -> None:
        super().put(item)
        self._filled.set()


class Believer:
    """Stream, codec and market as a run has them, with a check after every event."""

    def __init__(self, truth: Truth) -> None:
        self.codec = Codec()
        self.market = Market()
        self.events = 0
        self.compared = 0
        self.downs: dict[str, list[Down]] = {symbol: [] for symbol in SYMBOLS}
        self.trades: dict[str, Counter[tuple[int, int, int]]] = {s: Counter() for s in SYMBOLS}
        self.streams: list[MarketStream] = []
        self._truth = truth
        self._last: dict[str, BookUpdate] = {}
        self._gap_since: set[str] = set()

    def take(self, item: Input) -> None:
        for event in self.codec.decode(item):
            self.events += 1
            self._note(event)
            self.market.apply(event)
            for notice in self.market.notices:
                self._note(notice)
            self.market.notices.clear()
            if type(event) is BookUpdate:
                self._check(event)

    def is_live(self) -> bool:
        listings = self.market.listings
        return all(symbol in listings and listings[symbol].is_live for symbol in SYMBOLS)

    def _note(self, event: Event) -> None:
        if type(event) is FeedDown:
            self._gap_since.add(event.symbol)
            last = self._last.get(event.symbol)
            downs = self.downs[event.symbol]
            if not downs or downs[-1].until_ns:
                since_ns = self._truth.stamps[event.symbol, last.seq] if last is not None else 0
                now_s = asyncio.get_running_loop().time()
                downs.append(Down(event.symbol, since_ns, now_s, reason=event.reason))
            for stream in self.streams:
                topic = self.codec.book_topic(event.symbol)
                if stream.category == event.symbol.partition(":")[0] and topic in stream.topics:
                    stream.resubscribe(topic)
        elif type(event) is Trade:
            self.trades[event.symbol][event.seq, event.price, event.qty] += 1

    def _check(self, event: BookUpdate) -> None:
        symbol = event.symbol
        last, listing = self._last.get(symbol), self.market.listings[symbol]
        if last is not None and event.u not in (last.u + 1, last.u, 1):
            assert symbol in self._gap_since, f"{symbol}: {event.u} after {last.u}, and no gap"
        if last is not None and not event.snapshot and not listing.was_crossed:
            assert event.u == last.u + 1
        self._last[symbol] = event
        if not listing.is_live:
            return
        self._gap_since.discard(symbol)
        downs = self.downs[symbol]
        if downs and not downs[-1].until_ns:
            downs[-1].until_ns = self._truth.stamps[symbol, event.seq]
            downs[-1].until_s = asyncio.get_running_loop().time()
        self.compare(symbol)

    def compare(self, symbol: str) -> None:
        """The book that a strategy sees is the venue's at that ``u``, level for level."""
        book = self.market.listings[symbol].book
        bids, asks = self._truth.books[symbol][book.u, book.seq]
        where = f"{symbol} at u {book.u}"
        assert book.bids == bids, f"{where}: bids {book.bids.items() ^ bids.items()} differ"
        assert book.asks == asks, f"{where}: asks {book.asks.items() ^ asks.items()} differ"
        self.compared += 1

    def unexplained_trades(self, symbol: str) -> list[tuple[int, int, int]]:
        """Prints that never came although the book was never marked down around them."""
        heard = [seq for seq, _, _ in self.trades[symbol]]
        lost = self._truth.trades[symbol] - self.trades[symbol] - self._truth.withdrawn
        return [
            one
            for one in lost
            if min(heard) < one[0] < max(heard) and not self._is_explained(symbol, one[0])
        ]

    def _is_explained(self, symbol: str, seq: int) -> bool:
        """Whether the print was made in a gap, or so near to one that it was sent in it."""
        at_ns = self._truth.stamps[symbol, seq]
        return any(
            down.since_ns - SLOP_NS <= at_ns <= (down.until_ns or 1 << 63) + SLOP_NS
            for down in self.downs[symbol]
        )


class Storm:
    """A venue that breaks, and a believer of it."""

    def __init__(self, venue: Venue, truth: Truth, believer: Believer) -> None:
        self.venue = venue
        self.truth = truth
        self.believer = believer
        self.loop_errors: list[dict[str, Any]] = []
        self.boxes: list[Box] = []
        self.filled = asyncio.Event()
        self.most_waiting = 0
        self.back_offs: dict[str, BackOff] = {}
        self.strikes: list[Strike] = []
        self._loop = asyncio.get_running_loop()
        self._control = Control(venue.hub, AddressGuard())

    def now_ns(self) -> int:
        return START_NS + int(self._loop.time() * 1e9)

    def cause(self, **request: Any) -> None:
        """Make a fault happen, and note every one that a mix draws."""
        self._control.cause(FaultRequest(**request))
        mix = self.venue.hub.mix
        if mix is not None and request["fault"] == "mix":
            draw = mix.draw

            def seen_draw(topic: tuple[str, str]) -> str | None:
                drawn = draw(topic)
                if drawn is not None:
                    self._note(drawn, topic[0])
                return drawn

            mix.draw = seen_draw  # type: ignore[method-assign]

    def _note(self, fault: str, category: str) -> None:
        now_s = self._loop.time()
        end_s = now_s + LASTING.get(fault, 0.0)
        hit = [s.partition(":")[0] for s in SYMBOLS] if fault in EVERYWHERE else [category]
        self.strikes += [Strike(each, fault, now_s, end_s) for each in hit]

    async def pump(self) -> None:
        while True:
            await self.filled.wait()
            self.filled.clear()
            for box in self.boxes:
                self.most_waiting = max(self.most_waiting, len(box.items))
                for item in box.take():
                    self.believer.take(item)

    async def calm(self) -> None:
        """No more faults; until the books are live and have moved 20 times."""
        self.cause(fault="mix", rate=0.0)
        self.cause(fault="skew", seconds=0.0)
        before = self.believer.compared
        await self.until(
            lambda: self.believer.is_live() and self.believer.compared > before + 20, 60.0
        )

    def late_recoveries(self) -> list[tuple[Down, float]]:
        """Times down of which more than 2 s were neither back-off nor a fault that went on.

        The 2 s begin anew with a fault that strikes the book's connection on its way back.
        """
        late: list[tuple[Down, float]] = []
        for down in (one for downs in self.believer.downs.values() for one in downs):
            if not down.until_s:
                continue
            category = down.symbol.partition(":")[0]
            ends_s = [
                strike.end_s
                for strike in self.strikes
                if strike.category == category
                and strike.end_s > down.since_s
                and strike.at_s <= down.until_s
            ]
            since_s = min(max([down.since_s, *ends_s]), down.until_s)
            slept_s = self.back_offs[category].within(since_s, down.until_s)
            took_s = down.until_s - since_s - slept_s
            if took_s > 2.0:
                late.append((down, took_s))
        return late

    async def until(self, condition: Any, limit_s: float) -> None:
        deadline_s = self._loop.time() + limit_s
        while not condition():
            assert self._loop.time() < deadline_s, self.state()
            await asyncio.sleep(0.05)

    def state(self) -> str:
        states = [f"{s.conn} {s.state} {s.counters}" for s in self.believer.streams]
        live = {s: one.is_live for s, one in self.believer.market.listings.items()}
        return f"not in time: {states}, {live}, {dict(self.believer.codec.counts)}"


@asynccontextmanager
async def storm(seed: int = 1, depth: int = 50) -> AsyncIterator[Storm]:
    """A running venue, two streams, and a pump; what any of them raises comes out."""
    loop = asyncio.get_running_loop()
    venue = Venue(
        SYMBOLS,
        seed=seed,
        events_per_s=60.0,
        history_hours=1,
        clock_ns=lambda: START_NS + int(loop.time() * 1e9),
    )
    truth = Truth(venue)
    ws, _ = await venue.start()
    believer = Believer(truth)
    weather = Storm(venue, truth, believer)
    loop.set_exception_handler(lambda _, context: weather.loop_errors.append(context))
    for symbol in SYMBOLS:
        category, name = symbol.split(":")
        box = Post(weather.filled, weather.now_ns)
        weather.boxes.append(box)
        back_off = weather.back_offs[category] = BackOff()
        believer.streams.append(
            MarketStream(
                f"{ws}/v5/public/{category}",
                f"{category}.1",
                category,
                [f"orderbook.{depth}.{name}", f"publicTrade.{name}"],
                box,
                connects=RateLimit(500, 300.0, clock=loop.time),
                renewals=RateLimit(100_000, 1.0, clock=loop.time),
                random=Random(seed),
                sleep=back_off,
                connect_timeout_s=1.0,
                silence_s=SILENCE_S,
                clock=loop.time,
            )
        )
    body = asyncio.current_task()
    assert body is not None
    tasks = [asyncio.create_task(stream.run()) for stream in believer.streams]
    tasks += [asyncio.create_task(weather.pump()), asyncio.create_task(venue.wait())]
    for task in tasks:  # None of them ends by itself: what ends one of them ends the test.
        task.add_done_callback(lambda done: done.cancelled() or body.cancel())
    try:
        await weather.until(believer.is_live, 10.0)
        yield weather
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        await venue.close()
        for end in ends:
            if isinstance(end, Exception):
                raise end


@lru_cache(maxsize=1 << 16)
def e12(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole) * 10**12 + int(fraction.ljust(12, "0") or 0)
