"""The orders that reach one symbol's book: makers around the fair value, and takers.

Zero intelligence plus a little: makers keep a depth profile around the fair value, pull quotes
that it has passed, and lean their sizes towards the drift; takers lift what is mispriced, and
otherwise lean towards the drift and their own last side. Now and then one sweeps the book. So
imbalance and flow foretell returns.
"""

from __future__ import annotations

import math
from random import Random
from typing import NamedTuple

from bot.venue.emulator.listing import Listing
from bot.venue.emulator.orderbook import BookSide, Execution, OrderBook

TRADE_SHARE = 0.19
"""The share of a symbol's events that are taker orders."""
REACH = 1500
"""Makers quote at most that many ticks from the touch."""
_CLUSTER_SHARE = 0.3  # events that follow the one before at once
_CLUSTER_NS = 2e6
_TAKER_REACH = (2, 25)  # ticks beyond the best price: the bounds of a taker's own limit
SWEEP_SHARE = 0.02
"""The share of takers that take everything up to a price some way off."""
_SWEEP_REACH = 1e-4  # of the price, on average
_SWEEP_REACH_MOST = 5e-4
_TAKER_SPREAD = 1.5  # deviation of the log of a taker's size
_MAKER_SPREAD = 1.2
_EVERYTHING = 1 << 62  # lots
_LEAN = 0.6  # how much the drift tilts the touch sizes
_TAKER_LEAN = 0.3
_TAKER_HABIT = 0.12


class Took(NamedTuple):
    """A taker's side and executions; a sweep tells the whole coin's market something."""

    buy: bool
    executions: list[Execution]
    sweep: bool


class OrderFlow:
    """One symbol's makers and takers. ``act`` is one matching-engine event."""

    def __init__(self, listing: Listing, book: OrderBook, rng: Random, events_per_s: float) -> None:
        self._book = book
        self._rng = rng
        coin = listing.coin
        self._touch_lots = listing.lots_for(coin.touch_usdt)
        self._taker_lots = listing.lots_for(coin.trade_usdt)
        least, most = _TAKER_REACH
        volatility = coin.vol * coin.price / listing.tick_size
        self._taker_reach = min(max(round(2 * volatility), least), most)
        self._price = coin.price / listing.tick_size
        self._targets = [self._touch_lots * _profile(distance) for distance in range(REACH)]
        slow = (1e9 / events_per_s - _CLUSTER_SHARE * _CLUSTER_NS) / (1 - _CLUSTER_SHARE)
        self._slow_ns = max(slow, 1e5)
        self._habit = 0.0

    def delay_ns(self) -> int:
        """The time to the next event: a mixture of lone events and bursts."""
        rng = self._rng
        mean = _CLUSTER_NS if rng.random() < _CLUSTER_SHARE else self._slow_ns
        return 1 + int(rng.expovariate(1.0) * mean)

    def open_book(self, fair: float) -> None:
        """Fill an empty book around ``fair`` (in ticks)."""
        for buy in (True, False):
            touch = _touch(fair, buy=buy)
            for distance in range(REACH):
                price = touch - distance if buy else touch + distance
                target = self._targets[distance]
                if price < 1 or self._rng.random() > 0.8:
                    continue
                for _ in range(1 + int(self._rng.expovariate(1.0))):
                    self._book.add(buy=buy, price=price, lots=self._maker_lots(target))

    def act(self, fair: float, signal: float) -> Took | None:
        """One event around ``fair`` (in ticks): what a taker did, or None for a maker's."""
        draw = self._rng.random()
        if draw < TRADE_SHARE:
            buy = self._taker_buys(fair, signal)
            if draw < TRADE_SHARE * SWEEP_SHARE:
                return self._sweep(buy=buy)
            return self._take(buy=buy)
        self._pull_passed(fair)
        self._requote(fair, signal)
        return None

    def trim(self, fair: float) -> None:
        """Cancel what the market has left far behind, so that the book stays bounded."""
        for side in (self._book.bids, self._book.asks):
            limit = 2 * REACH
            while len(side.keys) > 1 and abs(side.keys[0] * side.sign - fair) > limit:
                side.drop_level(side.keys[0] * side.sign)

    def _taker_buys(self, fair: float, signal: float) -> bool:
        if fair > self._book.asks.best():
            chance = 0.95
        elif fair < self._book.bids.best():
            chance = 0.05
        else:
            chance = 0.5 + _TAKER_LEAN * signal + _TAKER_HABIT * self._habit
        buy = self._rng.random() < chance
        self._habit += 0.3 * ((1.0 if buy else -1.0) - self._habit)
        return buy

    def _take(self, *, buy: bool) -> Took:
        drawn = math.exp(self._rng.gauss(-0.5 * _TAKER_SPREAD**2, _TAKER_SPREAD))
        lots = max(1, int(self._taker_lots * min(drawn, 40.0)))
        return Took(buy, self._execute(lots, self._taker_reach, buy=buy), sweep=False)

    def _sweep(self, *, buy: bool) -> Took:
        share = min(_SWEEP_REACH * self._rng.expovariate(1.0), _SWEEP_REACH_MOST)
        reach = max(2, round(share * self._price))
        return Took(buy, self._execute(_EVERYTHING, reach, buy=buy), sweep=True)

    def _execute(self, lots: int, reach: int, *, buy: bool) -> list[Execution]:
        """Take from the best price to ``reach`` ticks behind it, but never a side's last level."""
        side = self._book.asks if buy else self._book.bids
        limit = side.best() - side.sign * reach
        last = side.keys[0] * side.sign
        return side.take(lots, max(limit, last + 1) if side.sign > 0 else min(limit, last - 1))

    def _pull_passed(self, fair: float) -> None:
        """Makers cancel most of the quotes that the fair value has gone through."""
        for side, buy in ((self._book.bids, True), (self._book.asks, False)):
            touch = _touch(fair, buy=buy)
            for _ in range(8):
                passed = (side.best() - touch) * side.sign > 0
                if not passed or len(side.keys) < 2 or self._rng.random() > 0.8:
                    break
                side.drop_level(side.best())

    def _requote(self, fair: float, signal: float) -> None:
        """A maker walks over a few neighbouring levels and mends each towards the profile."""
        rng, book = self._rng, self._book
        buy = rng.random() < 0.5
        side = book.bids if buy else book.asks
        touch = _touch(fair, buy=buy)
        place = rng.random()
        if place < 0.6:
            distance = 0
        elif place < 0.9:
            distance = int(rng.expovariate(0.05))
        else:
            distance = int(rng.random() * REACH)
        lean = math.exp(_LEAN * (signal if buy else -signal))
        for _ in range(1 + int(rng.expovariate(0.36))):
            price = touch - distance if buy else touch + distance
            if distance >= REACH or price < 1:
                return
            target = self._targets[distance] * (lean if distance < 3 else 1.0)
            if side.totals.get(price, 0) < target * (0.3 + 1.4 * rng.random()):
                book.add(buy=buy, price=price, lots=self._maker_lots(target))
            elif len(side.keys) > 1:
                self._cancel_one(side, price)
            distance += 1 if rng.random() < 0.7 else 1 + int(rng.expovariate(0.5))

    def _cancel_one(self, side: BookSide, price: int) -> None:
        orders = side.orders[price]
        if len(orders) == 1:
            side.drop_level(price)
        else:
            side.remove(price, self._rng.choice(list(orders)))

    def _maker_lots(self, target: float) -> int:
        drawn = math.exp(self._rng.gauss(-0.5 * _MAKER_SPREAD**2, _MAKER_SPREAD))
        return max(1, int(0.4 * target * min(drawn, 20.0)))


def taker_lots_per_s(listing: Listing, events_per_s: float) -> float:
    """What takers trade, about: sweeps find half of what makers aim at."""
    reach = round(_sweep_reach(listing) * listing.coin.price / listing.tick_size)
    swept = listing.lots_for(listing.coin.touch_usdt) * sum(map(_profile, range(reach))) / 2
    lone = listing.lots_for(listing.coin.trade_usdt)
    return events_per_s * TRADE_SHARE * (lone + SWEEP_SHARE * swept)


def sweep_vol(listing: Listing, events_per_s: float) -> float:
    """The deviation per sqrt(s) of the log price that sweeps alone would give."""
    return math.sqrt(2 * events_per_s * TRADE_SHARE * SWEEP_SHARE) * _sweep_reach(listing)


def _sweep_reach(listing: Listing) -> float:
    return max(_SWEEP_REACH, 2 * listing.tick_size / listing.coin.price)


def _profile(distance: int) -> float:
    """The depth that makers aim at, of the touch's: lean behind it, rising again far out."""
    return 0.05 + 0.0008 * min(distance, 200) + 0.9 * math.exp(-distance / 3)


def _touch(fair: float, *, buy: bool) -> int:
    """The best price that a maker is willing to show: the ticks on either side of ``fair``."""
    return math.floor(fair) if buy else math.floor(fair) + 1
