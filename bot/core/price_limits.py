"""How far from the market an order's price may lie. Bybit's rules, in exact integers.

https://bybit-exchange.github.io/docs/v5/account/set-price-limit; the futures' formula is that of
2026-05-26, with the premium of the last 30 s. Prices and ratios are in units of 1e-12.
"""

from __future__ import annotations

from msgspec import Struct

from bot.core.events import E12, Side
from bot.core.instrument import UNIT, Rules

PREMIUM_S = 30
_SECOND_NS = 10**9


class Premium(Struct):
    """The mean of middle minus mark, a sample a second, over the last ``PREMIUM_S`` seconds."""

    samples: list[tuple[int, E12]] = []
    total: E12 = 0

    def sample(self, stamp_ns: int, premium: E12) -> None:
        """The first of each second counts."""
        second, samples = stamp_ns // _SECOND_NS, self.samples
        if samples and second <= samples[-1][0]:
            return
        samples.append((second, premium))
        self.total += premium
        while samples[0][0] <= second - PREMIUM_S:
            self.total -= samples.pop(0)[1]

    @property
    def mean(self) -> E12:
        return self.total // len(self.samples) if self.samples else 0


def futures_limit(
    side: Side, *, mark: E12, index: E12, premium: E12, x: E12, y: E12, tick: E12
) -> E12:
    """The highest buy or the lowest sell price, on the tick within.

    Buy: min(mark (1 + Y), max(index, mark (1 + X) + max(0, premium))); sell: mirrored.
    """
    if side == "Buy":
        near = mark * (UNIT + x) + max(0, premium) * UNIT
        bound = min(mark * (UNIT + y), max(index * UNIT, near))
        return bound // (tick * UNIT) * tick
    near = mark * (UNIT - x) + min(0, premium) * UNIT
    bound = max(mark * (UNIT - y), min(index * UNIT if index else near, near))
    return -(-bound // (tick * UNIT)) * tick


def spot_limit(side: Side, *, price: E12, y: E12, tick: E12) -> E12:
    """Spot has no mark and no index here: the last price stands in for both."""
    if side == "Buy":
        return price * (UNIT + y) // (tick * UNIT) * tick
    return -(-price * (UNIT - y) // (tick * UNIT)) * tick


def limit_of(
    rules: Rules, side: Side, *, mark: E12, index: E12, premium: E12, last: E12
) -> E12 | None:
    """The bound of a limit order's price; None while there is none or it is not known."""
    if not rules.price_limit_y:
        return None
    tick = rules.tick_size
    if not rules.is_linear:
        return spot_limit(side, price=last, y=rules.price_limit_y, tick=tick) if last else None
    if not mark:
        return None
    x, y = rules.price_limit_x, rules.price_limit_y
    return futures_limit(side, mark=mark, index=index, premium=premium, x=x, y=y, tick=tick)
