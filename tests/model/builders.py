"""Small models and market events for the tests of this room."""

from __future__ import annotations

import random
from decimal import Decimal

from bot.core.events import BookUpdate, Candle, Event, Level, Trade
from bot.kvcache import KVCacheManager
from bot.model import (
    BOOK_TOKENS,
    CANDLE_TOKENS,
    Checkpoint,
    RealTimePricePredictor,
    StreamingOrderBookAnalyzer,
    seeded,
)
from bot.model.tokens import BOOK_FEATURES, CANDLE_FEATURES
from bot.model.transformer import TransformerConfig

SYMBOL = "linear:BTCUSDT"
MS = 1_000_000
MINUTE = 60_000 * MS
START = 1_750_000_020_000 * MS - 1_750_000_020_000 * MS % MINUTE
E12 = 10**12


def small_config(features: int = 6, window: int = 12, **changes: object) -> TransformerConfig:
    values: dict[str, object] = {
        "features": features,
        "width": 16,
        "layers": 3,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 8,
        "hidden": 32,
        "window": window,
        "horizons_ns": (1_000, 5_000),
        "return_scale": (1e-4, 2e-4),
    }
    return TransformerConfig(**{**values, **changes})  # type: ignore[arg-type]


def candle_checkpoint(window: int = 12) -> Checkpoint:
    config = small_config(CANDLE_FEATURES, window)
    return seeded(config, 3, name="predictor", tokens=CANDLE_TOKENS, interval="1")


def book_checkpoint(window: int = 12) -> Checkpoint:
    config = small_config(BOOK_FEATURES, window)
    return seeded(config, 4, name="analyzer", tokens=BOOK_TOKENS)


def budget() -> KVCacheManager:
    return KVCacheManager(1 << 22, slab_bytes=1 << 16)


def predictor(
    caches: KVCacheManager | None = None, symbol: str = SYMBOL, window: int = 12
) -> RealTimePricePredictor:
    return RealTimePricePredictor(candle_checkpoint(window), caches or budget(), symbol)


def analyzer(
    caches: KVCacheManager | None = None, symbol: str = SYMBOL, window: int = 12
) -> StreamingOrderBookAnalyzer:
    return StreamingOrderBookAnalyzer(book_checkpoint(window), caches or budget(), symbol, depth=50)


def candle(index: int, *, symbol: str = SYMBOL, late_ns: int = 5 * MS, seed: int = 0) -> Candle:
    """Bar ``index`` after START: a pure function of its arguments."""
    dice = random.Random(1000 * seed + index)
    opened, closed = (Decimal(dice.randint(99_000, 101_000)) for _ in range(2))
    open_ts = START + index * MINUTE
    return Candle(
        ts=open_ts + MINUTE + late_ns,
        exchange_ts=open_ts + MINUTE,
        symbol=symbol,
        interval="1",
        open_ts=open_ts,
        open=opened,
        high=max(opened, closed) + dice.randint(0, 50),
        low=min(opened, closed) - dice.randint(0, 50),
        close=closed,
        volume=Decimal(dice.randint(1, 500)),
        turnover=Decimal(0),
    )


def levels(first: int, step: int, count: int, dice: random.Random) -> list[Level]:
    return [((first + step * i) * E12, dice.randint(1, 99) * E12 // 10) for i in range(count)]


def snapshot(
    ts: int = START, *, symbol: str = SYMBOL, count: int = 25, seed: int = 0
) -> BookUpdate:
    dice = random.Random(seed)
    return BookUpdate(
        ts=ts,
        exchange_ts=ts - 3 * MS,
        symbol=symbol,
        depth=50,
        u=1,
        seq=1,
        snapshot=True,
        bids=levels(100_000, -1, count, dice),
        asks=levels(100_002, 1, count, dice),
    )


def book_stream(count: int, *, symbol: str = SYMBOL, seed: int = 0) -> list[Event]:
    """A snapshot, then deltas that only change or remove deeper levels, with trades between."""
    dice = random.Random(seed)
    events: list[Event] = [snapshot(symbol=symbol, seed=seed)]
    for index in range(1, count):
        ts = START + index * 20 * MS
        if dice.random() < 0.3:
            side = dice.choice(("Buy", "Sell"))
            price, qty = 100_001 * E12, dice.randint(1, 50) * E12 // 10
            events.append(Trade(ts, ts - 3 * MS, symbol, index, side, price, qty))
            continue
        bids = [((100_000 - dice.randint(0, 30)) * E12, dice.randint(0, 80) * E12 // 10)]
        asks = [((100_002 + dice.randint(0, 30)) * E12, dice.randint(0, 80) * E12 // 10)]
        events.append(BookUpdate(ts, ts - 3 * MS, symbol, 50, index, index, False, bids, asks))
    return events
