"""Random markets and random traders, the same for the same seed: lives that laws are tried on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from random import Random
from typing import Any

from msgspec.structs import replace

from bot.core.engine import Engine
from bot.core.events import (
    Accepted,
    BookUpdate,
    ClockOffset,
    Command,
    Decision,
    Event,
    FeedDown,
    FundingRate,
    RiskTier,
    Ticker,
)
from bot.core.latency import Latency
from bot.core.matching import FillPolicy
from bot.core.risk import RiskLimits
from bot.core.strategy import Seen, View
from strategies.market_maker import MarketMaker
from strategies.threshold import Threshold
from tests.builders import LINEAR, MS, SPOT, book, e12, fees, prediction, rules, trade

DEPOSIT = 50_000 * 10**8
SYMBOLS = (LINEAR, SPOT)
TIERS = tuple(
    RiskTier(Decimal(limit), Decimal(maintenance), Decimal(initial), Decimal(deduction))
    for limit, maintenance, initial, deduction in (
        (2000, "0.005", "0.01", 0), (10**9, "0.01", "0.02", 10),
    )
)  # fmt: skip


def feed(seed: int, length: int = 250) -> Iterator[Event]:
    """Two symbols whose mids wander, with gaps, late trades, funding, marks that leap and return,
    and predictions."""
    random = Random(seed)
    for symbol in SYMBOLS:
        yield replace(rules(symbol, qty_step="0.001", min_qty="0.001"), tiers=TIERS)
        yield fees(symbol, Decimal("-0.0001") if seed % 3 == 0 else Decimal("0.0002"))
    mids = dict.fromkeys(SYMBOLS, 1000)
    t, seq = 1000, 10
    for number in range(length):
        symbol = random.choice(SYMBOLS)
        t += random.randint(0, 40)
        seq += random.randint(1, 3)
        kind = random.choices("btfpgkxco", (40, 40, 2, 10, 1, 4, 1, 2, 1))[0]
        if number < 2:
            symbol, kind = SYMBOLS[number], "s"
        mid = mids[symbol] = mids[symbol] + random.choice((-1, 0, 0, 0, 1))
        if kind == "s" or (kind == "b" and random.random() < 0.1):
            yield wall(t, symbol, mid, seq, random)
        elif kind == "b":
            sizes = [f"{(mid - 1 - i) / 10:.1f}x{random.randint(0, 9)}" for i in range(2)]
            yield book(t, " ".join(sizes), seq=seq, symbol=symbol)
        elif kind == "t":
            side, late = random.choice(("Buy", "Sell")), random.choice((0, 0, 0, 3))
            price = (mid + random.choice((-1, 0, 1))) / 10
            qty = f"{random.uniform(0.1, 9):.3f}"
            yield trade(t - late, side, f"{price:.1f}", qty, seq=seq - late, symbol=symbol)
        elif kind == "f":
            rate = Decimal(random.randint(-50, 50)) / 10**5
            yield FundingRate(t * MS, t * MS, LINEAR, rate, t * MS)
        elif kind == "p":
            expected = random.uniform(-0.02, 0.02)
            model = random.choice(("predictor", "analyzer"))
            yield prediction(t, expected, model=model, symbol=symbol)
        elif kind == "g":
            yield FeedDown(t * MS, symbol, "gap")
        elif kind in "kx":
            leap = random.choice((Decimal("0.8"), Decimal("1.25"))) if kind == "x" else 1
            mark, rate = Decimal(mid) / 10 * leap, Decimal(random.randint(-9, 9)) / 10**5
            yield Ticker(
                t * MS, t * MS, LINEAR, mark=mark, index=Decimal(mid) / 10, funding_rate=rate,
                next_funding_ts=(t // 500 + 1) * 500 * MS,
            )  # fmt: skip
        elif kind == "c":
            yield ClockOffset(t * MS, random.randint(-20, 20) * MS)
        else:
            yield Command(t * MS, random.choice(("cancel_all", "pause", "resume")), "test")


def wall(t: int, symbol: str, mid: int, seq: int, random: Random) -> BookUpdate:
    sides = [
        " ".join(f"{(mid + sign * (1 + i)) / 10:.1f}x{random.randint(1, 9)}" for i in range(5))
        for sign in (-1, 1)
    ]
    return book(t, *sides, snapshot=True, seq=seq, symbol=symbol, depth=5)


class Fidget:
    """Random orders, exits, stops, amendments and cancels."""

    def __init__(self, seed: int) -> None:
        self.state = None
        self._random = Random(seed)

    def on_event(self, event: Seen, view: View) -> Iterable[Decision] | None:
        random = self._random
        if not isinstance(event, BookUpdate | Accepted) or random.random() < 0.5:
            return None
        symbol = event.symbol
        mid = view.mid(symbol)
        if mid is None:
            return None
        orders = view.orders(symbol)
        if orders and random.random() < 0.4:
            order = random.choice(orders)
            if random.random() < 0.5:
                return [view.cancel(order)]
            trigger = None if not order.trigger else mid + random.randint(-5, 5) / 10
            price = mid if order.price else None
            return [view.amend(order, qty=random.uniform(0.1, 5), price=price, trigger=trigger)]
        side: Any = random.choice(("Buy", "Sell"))
        if random.random() < 0.25:
            return self._conditional(view, symbol, side, mid)
        if random.random() < 0.2:
            qty = random.uniform(0.1, 3)
            return [view.market(symbol, side, qty, reduce_only=random.random() < 0.3)]
        tif: Any = random.choice(("GTC", "GTC", "PostOnly", "IOC", "FOK"))
        price = mid + random.randint(-3, 3) / 10
        reduce_only = random.random() < 0.2
        qty = random.uniform(0.1, 5)
        return [view.limit(symbol, side, qty, price, tif=tif, reduce_only=reduce_only)]

    def _conditional(self, view: View, symbol: str, side: Any, mid: float) -> list[Decision]:
        """A stop, an exit of what is held, or an order that brings its exits along."""
        random = self._random
        by: Any = random.choice(("last", "mark", "index")) if symbol == LINEAR else "last"
        near = mid + random.choice((-3, -2, -1, 1, 2, 3)) / 10
        kind = random.choice(("stop", "exit", "bracket"))
        if kind == "stop" or symbol == SPOT:
            price = random.choice((None, near))
            return [view.stop(symbol, side, random.uniform(0.1, 3), near, price=price, by=by)]
        if kind == "exit":
            order = view.exit(symbol, random.choice(("TakeProfit", "StopLoss")), near, by=by)
            return [] if order is None else [order]
        way = 1 if side == "Buy" else -1
        return [
            view.limit(
                symbol, side, random.uniform(0.1, 3), mid + way * 0.1,
                take_profit=mid + way * 0.3, stop_loss=mid - way * 0.3,
            )
        ]  # fmt: skip


def engine(seed: int) -> Engine:
    """Three traders and one to three policies, of which the first trades."""
    random = Random(seed)
    jitter = random.choice((0, 3)) * MS
    latency = random.choice((0, 10)) * MS
    through: Any = random.choice(("traded", "full"))
    policies = [
        FillPolicy(
            queue=queue,
            through=through,
            order_latency=Latency(latency, jitter, seed),
            response_latency=Latency(latency, jitter, seed + 1),
        )
        for queue in random.sample(("conservative", "probabilistic", "none"), 3)
    ]
    return Engine(
        [
            ("fidget", SYMBOLS, Fidget(seed)),
            ("maker", (LINEAR,), MarketMaker((LINEAR,), half_spread=0.0002, requote_ms=5)),
            ("taker", SYMBOLS, Threshold(SYMBOLS, edge=0.0)),
        ],
        usdt=DEPOSIT,
        leverage=e12(5),
        policy=policies[0],
        shadows=policies[1 : random.randint(1, 3)],
        limits=RiskLimits(10**13, 10**12, 10**13, 100, 50),
    )
