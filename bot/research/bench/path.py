"""How fast the path of one message is: to the strategy alone, and with everything but a network."""

from __future__ import annotations

import asyncio
import gc
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from bot.core.engine import Engine
from bot.core.events import BookUpdate, Event, Fact, Frame, Input
from bot.core.latency import Latency
from bot.core.matching import FillPolicy
from bot.core.risk import RiskLimits
from bot.core.strategy import Seen, Strategy, View
from bot.garbage import rare_collections
from bot.ledger.runs import start_run
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from bot.research.bench import made_feed
from bot.run import Memory, Run, Sink
from bot.venue.archive import read_capture
from strategies.market_maker import MarketMaker

_COMMIT_STEPS = 500
"""Steps with facts that wait before a commit; it goes on beside the stepping as in a live run."""
_TURN_EVERY = 200
"""Messages taken before the loop looks at its other tasks, as in a live run."""
_MS = 1_000_000
_LIMITS = RiskLimits(
    max_position_notional=10**17,
    max_order_notional=10**15,
    max_daily_loss=10**17,
    max_orders_per_s=1000,
    max_open_orders=1000,
)
_POLICY = FillPolicy(order_latency=Latency(5 * _MS), response_latency=Latency(5 * _MS))
"""5 ms there and 5 ms back, what the peers' figures were measured with."""


class _Feed(Struct):
    opening: list[Input]
    inputs: list[Input]
    symbols: tuple[str, ...]
    bytes_per_message: float
    levels_per_message: float


class _Round(Struct):
    wall_s: float
    run: Run


class _Counting:
    """A strategy that only counts what it is shown."""

    def __init__(self) -> None:
        self.state = None
        self.seen = 0

    def on_event(self, event: Seen, view: View) -> None:
        del event, view
        self.seen += 1


def feed(source: Path | None, *, messages: int, rounds: int) -> dict[str, Any]:
    """Frame bytes to the strategy's callback: decode, book, step; no journal, no ledger."""
    made = _feed(source, messages)
    timed = [_plain_round(made, _Counting()) for _ in range(rounds)]
    return _result(made, timed, _latencies_us(made, _Counting()), ledger="none", rounds=rounds)


def replay(source: Path | None, *, messages: int, rounds: int) -> dict[str, Any]:
    """The market maker with queue-accurate fills, risk, digest, and a SQLite ledger on disk."""
    made = _feed(source, messages)
    timed = [asyncio.run(_ledger_round(made)) for _ in range(rounds)]
    latencies = _latencies_us(made, _maker(made))
    return _result(made, timed, latencies, ledger="sqlite", rounds=rounds)


def steps(messages: int) -> list[tuple[int, Event, list[Fact]]]:
    """(position, event, facts) of every step of the market maker that made facts."""
    made = _feed(None, messages)
    run = _started(made, _maker(made), Memory())
    found: list[tuple[int, Event, list[Fact]]] = []

    def keep(position: int, event: Event, facts: Sequence[Fact]) -> None:
        if facts:
            found.append((position, event, list(facts)))

    run.watchers.append(keep)
    for item in made.inputs:
        run.take(item)
    return found


# --- input --------------------------------------------------------------------------------------


def _feed(source: Path | None, messages: int) -> _Feed:
    if source is None:
        made = made_feed.make(messages)
        inputs: list[Input] = [*made.frames]
        symbols = (made_feed.SYMBOL,)
        return _Feed(
            made.opening, inputs, symbols, made.bytes_per_message, made.levels / made.books
        )
    inputs = list(read_capture(source))
    run = Run(engine((), None), Memory())
    tally = _Tally()
    run.watchers.append(tally)
    for item in inputs:
        run.take(item)
    size = sum(len(item.data) for item in inputs if isinstance(item, Frame))
    frames = run.frames
    return _Feed(
        made_feed.opening()[1:2],
        inputs,
        tuple(run.engine.market.listings),
        size / frames,
        tally.levels / max(1, tally.books),
    )


class _Tally:
    def __init__(self) -> None:
        self.levels = self.books = 0

    def __call__(self, position: int, event: object, facts: Sequence[object]) -> None:
        del position, facts
        if isinstance(event, BookUpdate) and not event.snapshot:
            self.books += 1
            self.levels += len(event.bids) + len(event.asks)


# --- rounds -------------------------------------------------------------------------------------


def engine(symbols: tuple[str, ...], strategy: Strategy | None) -> Engine:
    strategies = [("bench", symbols, strategy)] if strategy is not None else []
    return Engine(strategies, usdt=10**17, leverage=10 * 10**12, policy=_POLICY, limits=_LIMITS)


def _maker(made: _Feed) -> MarketMaker:
    return MarketMaker(made.symbols, half_spread=2e-6, max_inventory=1e6)


def _started(made: _Feed, strategy: Strategy, sink: Sink) -> Run:
    run = Run(engine(made.symbols, strategy), sink)
    for item in made.opening:
        run.take(item)
    gc.collect()
    return run


def _plain_round(made: _Feed, strategy: Strategy) -> _Round:
    run = _started(made, strategy, Memory())
    take = run.take
    with rare_collections():
        started = time.perf_counter()
        for item in made.inputs:
            take(item)
        return _Round(time.perf_counter() - started, run)


async def _ledger_round(made: _Feed) -> _Round:
    with tempfile.TemporaryDirectory() as folder:
        ledger = await open_ledger(f"sqlite:///{folder}/bench.db")
        await start_run(
            ledger, "bench", mode="bench", instance="bench", started_ts=0, config={},
            code_version="bench",
        )  # fmt: skip
        writer = LedgerWriter(ledger, "bench")
        run = _started(made, _maker(made), writer)
        with rare_collections():
            started = time.perf_counter()
            await _take_all(made.inputs, run, writer)
            wall_s = time.perf_counter() - started
        await ledger.dispose()
        return _Round(wall_s, run)


async def _take_all(inputs: list[Input], run: Run, writer: LedgerWriter) -> None:
    """Step to the end, and commit meanwhile and then."""
    take = run.take
    committing = asyncio.ensure_future(writer.commit(None))
    for number, item in enumerate(inputs, 1):
        take(item)
        if number % _TURN_EVERY == 0:
            await asyncio.sleep(0)
            if committing.done() and writer.pending >= _COMMIT_STEPS:
                await committing
                committing = asyncio.ensure_future(writer.commit(None))
    await committing
    run.finish()
    await writer.commit(None)


def _latencies_us(made: _Feed, strategy: Strategy) -> list[float]:
    """Microseconds each input took, without a ledger."""
    run = _started(made, strategy, Memory())
    clock, take = time.perf_counter_ns, run.take
    spent: list[float] = []
    with rare_collections():
        for item in made.inputs:
            before = clock()
            take(item)
            spent.append((clock() - before) / 1e3)
    return spent


def _result(
    made: _Feed, timed: list[_Round], latencies_us: list[float], *, ledger: str, rounds: int
) -> dict[str, Any]:
    middle = sorted(timed, key=lambda each: each.wall_s)[len(timed) // 2]
    messages = middle.run.frames
    cuts = statistics.quantiles(latencies_us, n=100)
    return {
        "messages": messages,
        "bytes_per_message": round(made.bytes_per_message, 1),
        "levels_per_message": round(made.levels_per_message, 2),
        "events": middle.run.events,
        "orders": middle.run.counts["orders"],
        "fills": middle.run.counts["fills"],
        "facts": middle.run.counts["facts"],
        "latency_ms": "5 to the exchange, 5 back",
        "journal": "none",
        "ledger": ledger,
        "rounds": rounds,
        "wall_s": round(middle.wall_s, 4),
        "messages_per_s": round(messages / middle.wall_s),
        "messages_per_s_all": sorted(round(messages / each.wall_s) for each in timed),
        "p50_us": round(cuts[49], 2),
        "p99_us": round(cuts[98], 2),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
