"""Weeks in small: many symbols, a day of stamps, gaps on the way, and what is left of it."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from msgspec import Struct
from msgspec.structs import replace

from bot import build
from bot.config import Settings
from bot.core.events import Connected, Disconnected, Event, FeedDown, Input, Tick
from bot.ledger.journal import JournalWriter, read
from bot.research.bench import made_feed
from bot.research.bench.made_feed import CONN, Maker
from bot.run import Memory, Run

SYMBOLS = tuple(f"linear:MADE{number:02d}USDT" for number in range(20))
DAY_NS = 86_400 * 10**9
MAKER = "strategies.market_maker.MarketMaker"
SETTINGS = Settings(
    symbols=SYMBOLS,
    strategies=(
        {"use": MAKER, "symbols": SYMBOLS[:2], "params": {"half_spread": 2e-6, "requote_ms": 5000}},
    ),
)
LOST_EVERY = 1500
"""A delta is lost of so many messages; a hundred times rarer, the connection."""
SOAK_MB = 24
"""What may be added after a tenth of the way: allocators never give all back."""


class Soaked(Struct):
    """What a soak leaves behind."""

    digest: str
    events: int
    orders: int
    gaps: Counter[str]
    lost: Counter[str]
    grown_mb: float


def opening() -> Iterator[Input]:
    rules, *_ = made_feed.opening()
    for symbol in SYMBOLS:
        yield replace(rules, symbol=symbol)
    yield from build.fees(SETTINGS, 0)


class Market:
    """Twenty books, of which deltas and now and then the connection are lost."""

    def __init__(self, messages: int) -> None:
        self.lost: Counter[str] = Counter()
        self._messages = messages
        step_ns = DAY_NS * len(SYMBOLS) // messages
        names = (symbol.partition(":")[2] for symbol in SYMBOLS)
        self._makers = [Maker(number, name, step_ns) for number, name in enumerate(names)]
        self._random = Random(5)
        self._renew: set[int] = set()

    def inputs(self) -> Iterator[Input]:
        """A socket's inputs; a lost book is sent whole again when its turn comes the next time."""
        yield Connected(self._makers[0].next().ts, CONN, "linear")
        yield from (maker.snapshot() for maker in self._makers)
        due_ns = 0
        for number in range(self._messages):
            index = number % len(SYMBOLS)
            maker = self._makers[index]
            frame = maker.next()
            if frame.ts >= due_ns:
                due_ns = frame.ts + 60 * 10**9
                yield Tick(frame.ts)
            if self._random.random() < 1 / (100 * LOST_EVERY):
                yield from self._reconnected(frame.ts)
            elif index in self._renew:
                self._renew.discard(index)
                yield replace(maker.snapshot(), ts=frame.ts)
            elif b"orderbook" in frame.data and self._random.random() < 1 / LOST_EVERY:
                self._lose(index, "gap in u")
                yield from self._next_delta(maker)
            else:
                yield frame

    def _lose(self, index: int, why: str) -> None:
        self.lost[f"{SYMBOLS[index]} {why}"] += 1
        self._renew.add(index)

    def _next_delta(self, maker: Maker) -> Iterator[Input]:
        """What comes until the missing delta shows."""
        while b"orderbook" not in (frame := maker.next()).data:
            yield frame
        yield frame

    def _reconnected(self, ts: int) -> Iterator[Input]:
        for index in set(range(len(SYMBOLS))) - self._renew:
            self._lose(index, "connection lost")
        yield Disconnected(ts, CONN, "connection lost")
        yield Connected(ts, CONN, "linear")


class Gaps:
    """Counts what the run tells of lost books."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()

    def __call__(self, position: int, event: Event, facts: object) -> None:
        if type(event) is FeedDown:
            self.told[f"{event.symbol} {event.reason.partition(':')[0]}"] += 1


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def soak(folder: Path, messages: int) -> Soaked:
    """Through journal and engine, as a live run does; the journal is flushed when it is due."""
    market, gaps, sink = Market(messages), Gaps(), Memory()
    run = Run(build.engine(SETTINGS), sink, [gaps])
    journal = JournalWriter(folder, {"kind": "soak"})
    early_mb = 0.0
    for item in opening():
        journal.append(item)
        run.take(item)
    for item in market.inputs():
        journal.append(item)
        run.take(item)
        if run.position % 500 == 0:
            journal.flush()
        if run.position == messages // 10:
            early_mb = rss_mb()
    run.finish()
    grown_mb = rss_mb() - early_mb
    journal.close()
    assert run.skipped == 0
    return Soaked(
        sink.digest.hexdigest(), run.events, run.counts["orders"], gaps.told, market.lost, grown_mb
    )


def digest_of(folder: Path) -> str:
    sink = Memory()
    run = Run(build.engine(SETTINGS), sink)
    for item in read(folder):
        run.take(item)
    run.finish()
    return sink.digest.hexdigest()


def check(folder: Path, messages: int) -> None:
    soaked = soak(folder, messages)
    print(soaked)  # noqa: T201 - the figures of the long one
    assert soaked.orders > 100
    assert soaked.gaps == soaked.lost
    assert sum(soaked.lost.values()) > messages / LOST_EVERY / 2
    assert soaked.grown_mb < SOAK_MB
    assert digest_of(folder) == soaked.digest


def test_a_day_of_twenty_symbols_leaves_no_gap_unexplained_and_replays_the_same(tmp_path):
    check(tmp_path / "run", 60_000)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_five_million_messages_leave_memory_flat_and_replay_the_same(tmp_path):
    check(tmp_path / "run", 5_000_000)
