"""From an event to a prediction: streams, ten symbols, waiting requests, a portfolio.

Untrained models of the shipped shape: their numbers mean nothing, their time is that of trained
ones. The claims beside ours are those of the literature's chapter on the subject and what its own
code reached when it was run (docs/benchmarks.md).
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bot.core.events import BookUpdate, Candle, Event
from bot.kvcache import KVCacheManager, WindowCache
from bot.kvcache.native import available
from bot.model import (
    BOOK_TOKENS,
    CANDLE_TOKENS,
    Checkpoint,
    Execution,
    Forecaster,
    RealTimePricePredictor,
    StreamingOrderBookAnalyzer,
    analyzer_config,
    execution,
    predictor_config,
    seeded,
)
from bot.model.portfolio import answers
from bot.model.transformer import STEP_TOKENS

Row = dict[str, Any]

_BUDGET = 256 << 20
_MINUTE = 60 * 10**9
_E12 = 10**12
_SYMBOLS = 10
_REQUESTS = 100
_BATCH = 20
_SHARED, _OWN = 256, 32
_CLAIMS = {
    "one_stream": "200 to 500 a second; its code: 92",
    "ten_symbols": "50 to 100 a second; its code: 143 to 159",
    "order_book": "300 to 1,000 a second; its code: 89 to 105",
}


def rows(
    *,
    events: int = 2_000,
    rounds: int = 20,
    threads: Sequence[int] = (1, 2),
    say: Callable[[str], None],
) -> Iterator[Row]:
    """All measurements, for each number of ``threads``. ``events`` each for the two streams, after
    a window of warming up."""
    for count in threads:
        yield from _rows(events, rounds, count, partial(_say, say, count))


def _say(say: Callable[[str], None], threads: int, what: str) -> None:
    say(f"{what}, {threads} threads")


def _rows(events: int, rounds: int, threads: int, say: Callable[[str], None]) -> Iterator[Row]:
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            say("one stream of candles")
            yield _streamed("one_stream", *_predictor(threads), _candles, events)
            say("one order book")
            yield _streamed("order_book", *_analyzer(threads), _books, events)
            say("ten symbols")
            yield from _ten_symbols(rounds, threads)
            say("waiting requests")
            yield _requests(rounds, threads)
            say("a portfolio over a shared context")
            yield _portfolio(rounds, threads)
    finally:
        torch.set_num_threads(torch_threads)


def _predictor(threads: int) -> tuple[Forecaster, KVCacheManager]:
    checkpoint, caches = _candle_model(), KVCacheManager(_BUDGET)
    run = _execution(checkpoint, threads)
    return RealTimePricePredictor(checkpoint, caches, "linear:BTCUSDT", execution=run), caches


def _analyzer(threads: int) -> tuple[Forecaster, KVCacheManager]:
    checkpoint = seeded(analyzer_config(), 1, name="analyzer", tokens=BOOK_TOKENS)
    caches, run = KVCacheManager(_BUDGET), _execution(checkpoint, threads)
    made = StreamingOrderBookAnalyzer(checkpoint, caches, "linear:BTCUSDT", depth=50, execution=run)
    return made, caches


def _candle_model() -> Checkpoint:
    config = predictor_config(window=512)
    return seeded(config, 1, name="predictor", tokens=CANDLE_TOKENS, interval="1")


def _execution(checkpoint: Checkpoint, threads: int) -> Execution:
    spec = checkpoint.card.config.cache_spec(kv_cache_dtype="int8")
    return execution(checkpoint.model, spec, decode="auto", weight_dtype="float32", threads=threads)


# --- streams --------------------------------------------------------------------------------------


def _streamed(
    measure: str,
    forecaster: Forecaster,
    caches: KVCacheManager,
    make: Callable[[int], Iterator[Event]],
    events: int,
) -> Row:
    """From handing an event over to having the prediction, tokens included."""
    warm = 600
    times = []
    for position, event in enumerate(make(warm + events)):
        began = time.perf_counter_ns()
        forecaster.take(event, position)
        if forecaster.predict() is not None and position >= warm:
            times.append(time.perf_counter_ns() - began)
    return _row(measure, times, 1, caches)


def _candles(count: int) -> Iterator[Event]:
    dice = random.Random(1)  # noqa: S311 - a market, no secret
    price = 60_000.0
    for index in range(1, count + 1):
        opened, price = price, price * (1 + dice.gauss(0, 5e-4))
        ts, high, low = index * _MINUTE, max(opened, price) + 5, min(opened, price) - 5
        first, top, least, last = (
            Decimal(f"{number:.1f}") for number in (opened, high, low, price)
        )
        volume = Decimal(dice.randint(1, 500))
        yield Candle(
            ts, ts, "linear:BTCUSDT", "1", ts - _MINUTE, first, top, least, last, volume, Decimal(0)
        )


def _books(count: int) -> Iterator[Event]:
    """A snapshot of 50 levels, then deltas of four of the best twenty."""
    dice = random.Random(2)  # noqa: S311 - a market, no secret
    ask, tick = 600_001, _E12 // 10

    def level(price: int) -> tuple[int, int]:
        return price * tick, dice.randint(1, 99) * _E12 // 10

    bids = [level(ask - 1 - i) for i in range(50)]
    asks = [level(ask + i) for i in range(50)]
    yield BookUpdate(1, 1, "linear:BTCUSDT", 50, 1, 1, True, bids, asks)
    for u in range(2, count + 1):
        ts = u * 20_000_000
        bids = [level(ask - 1 - dice.randint(0, 19)) for _ in range(2)]
        asks = [level(ask + dice.randint(0, 19)) for _ in range(2)]
        yield BookUpdate(ts, ts, "linear:BTCUSDT", 50, u, u, False, bids, asks)


# --- batches --------------------------------------------------------------------------------------


def _filled(
    checkpoint: Checkpoint, run: Execution, count: int, tokens: int
) -> tuple[list[WindowCache], KVCacheManager]:
    """Sequences of their own, each ``tokens`` long."""
    caches = KVCacheManager(_BUDGET)
    spec = checkpoint.card.config.cache_spec(kv_cache_dtype="int8")
    opened = [caches.open(str(i), spec, step_tokens=STEP_TOKENS) for i in range(count)]
    for number, cache in enumerate(opened):
        run.step(_noise(tokens, checkpoint, number), cache)
    return opened, caches


def _noise(tokens: int, checkpoint: Checkpoint, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, checkpoint.card.config.features, generator=generator)


def _ten_symbols(rounds: int, threads: int) -> Iterator[Row]:
    """One new token each: ten steps one after the other, and one batch, in turn."""
    checkpoint = _candle_model()
    run = _execution(checkpoint, threads)
    sequences, caches = _filled(checkpoint, run, _SYMBOLS, 512)
    x = _noise(_SYMBOLS, checkpoint, 99)
    alone, together = [], []
    for _ in range(5 * rounds):
        began = time.perf_counter_ns()
        for index, cache in enumerate(sequences):
            run.step(x[index : index + 1], cache)
        alone.append(time.perf_counter_ns() - began)
        began = time.perf_counter_ns()
        run.decode(x, sequences)
        together.append(time.perf_counter_ns() - began)
    yield _row("ten_symbols_single", alone[rounds:], _SYMBOLS, caches)
    speedup = statistics.median(alone[rounds:]) / statistics.median(together[rounds:])
    yield _row("ten_symbols", together[rounds:], _SYMBOLS, caches) | {"speedup": speedup}


def _requests(rounds: int, threads: int) -> Row:
    """A hundred sequences wait for one token each; a request's latency is until its batch is
    done."""
    checkpoint = _candle_model()
    run = _execution(checkpoint, threads)
    sequences, caches = _filled(checkpoint, run, _REQUESTS, 512)
    x = _noise(_REQUESTS, checkpoint, 99)
    waits, walls = [], []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        for first in range(0, _REQUESTS, _BATCH):
            run.decode(x[first : first + _BATCH], sequences[first : first + _BATCH])
            waits += [time.perf_counter_ns() - began] * _BATCH
        walls.append(time.perf_counter_ns() - began)
    row = _row("hundred_requests", waits, 1, caches)
    return row | {"predictions_per_s": _REQUESTS / (statistics.median(walls) / 1e9)}


def _portfolio(rounds: int, threads: int) -> Row:
    """Ten assets of 32 own tokens behind 256 shared ones: the context computed once and forked,
    and once an asset, in turn."""
    checkpoint = _candle_model()
    run = _execution(checkpoint, threads)
    caches = KVCacheManager(_BUDGET)
    spec = checkpoint.card.config.cache_spec(kv_cache_dtype="int8")
    context = _noise(_SHARED, checkpoint, 7)
    own = [_noise(_OWN, checkpoint, 100 + index) for index in range(_SYMBOLS)]
    shared_times, alone_times, worst, held = [], [], 0.0, 0
    for _ in range(max(rounds // 2, 3)):
        began = time.perf_counter_ns()
        with caches.anonymous(spec) as shared:
            run.step(context, shared)
            together = answers(run, shared, own)
            held = caches.metrics().used_bytes
        shared_times.append(time.perf_counter_ns() - began)
        began = time.perf_counter_ns()
        alone = []
        for tokens in own:
            with caches.anonymous(spec) as cache:
                alone.append(run.step(torch.cat((context, tokens)), cache)[-1])
        alone_times.append(time.perf_counter_ns() - began)
        worst = max(worst, float((together - torch.stack(alone)).abs().max()))
    row = _row("portfolio", shared_times, _SYMBOLS, caches)
    speedup = statistics.median(alone_times) / statistics.median(shared_times)
    return row | {"cache_mb": held / 1e6, "speedup": speedup, "largest_difference": worst}


def _row(measure: str, times_ns: list[int], predictions: int, caches: KVCacheManager) -> Row:
    """``times_ns`` of calls that made so many predictions each."""
    ordered = sorted(times_ns)
    median = statistics.median(ordered)
    return {
        "measure": measure,
        "execution": "native" if available() else "torch",
        "threads": torch.get_num_threads(),
        "p50_us": median / 1e3,
        "p99_us": ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)] / 1e3,
        "predictions_per_s": predictions / (median / 1e9),
        "cache_mb": caches.metrics().used_bytes / 1e6,
        "speedup": None,
        "claimed": _CLAIMS.get(measure, ""),
    }
