"""What only a futures ticker has: mark price, funding rate and open interest of one symbol.

The rate follows Bybit's formula, P + clamp(I - P, -0.05%, +0.05%), with P the mean premium of
mark over index since the last settlement and I = 0.01% per 8 hours; positive: longs pay.
https://www.bybit.com/en/help-center/article/Introduction-to-Funding-Rate
"""

from __future__ import annotations

from collections import deque
from random import Random

from msgspec import Struct

from bot.venue.emulator.listing import Listing

INTEREST = 0.0001
CAP = 0.005
_CLAMP = 0.0005
_BASIS_MEMORY = 1 / 30  # a second's weight in the mark's basis
_HISTORY = 200
_E8 = 100_000_000


class Settlement(Struct, frozen=True):
    """A rate in units of 1e-8, as settled at ``at_ms``."""

    at_ms: int
    rate_e8: int


class Funding:
    """One symbol's. Spot symbols carry one too; nobody asks it anything."""

    def __init__(self, listing: Listing, rng: Random) -> None:
        self._rng = rng
        self._interval_ms = listing.funding_minutes * 60_000
        self._basis = 0.0
        self._premium_sum = 0.0
        self._seconds = 0
        self.mark = 0.0
        self.rate_e8 = 0
        self.next_ms = 0
        self.history: deque[Settlement] = deque(maxlen=_HISTORY)
        self.open_interest = listing.lots_for(max(1.0, listing.coin.open_interest_usdt))

    def seed_history(self, now_ms: int) -> None:
        """Settlements of the past, the newest at the last settlement time before ``now_ms``."""
        self.next_ms = (now_ms // self._interval_ms + 1) * self._interval_ms
        for ago in range(_HISTORY, 0, -1):
            rate = rate_of(self._rng.gauss(0.0, 6e-4))
            self.history.append(Settlement(self.next_ms - ago * self._interval_ms, rate))

    def second(self, now_ms: int, mid: float, index: float) -> None:
        """Once a second, in order: settle if it is time, then mark and rate."""
        while now_ms >= self.next_ms:
            self.history.append(Settlement(self.next_ms, self.rate_e8))
            self.next_ms += self._interval_ms
            self._premium_sum, self._seconds = 0.0, 0
        premium = mid / index - 1
        first = not self.mark
        self._basis = premium if first else self._basis + _BASIS_MEMORY * (premium - self._basis)
        self.mark = index * (1 + self._basis)
        self._premium_sum += self._basis
        self._seconds += 1
        self.rate_e8 = rate_of(self._premium_sum / self._seconds)

    def trade(self, lots: int) -> None:
        """Trades open and close positions; a third of them change the open interest."""
        draw = self._rng.random()
        if draw < 1 / 3:
            change = lots if draw < 1 / 6 else -lots
            self.open_interest = max(1, self.open_interest + change)


def rate_of(premium: float) -> int:
    """The funding rate, in 1e-8, of a mean premium."""
    rate = premium + min(max(INTEREST - premium, -_CLAMP), _CLAMP)
    return round(min(max(rate, -CAP), CAP) * _E8)
