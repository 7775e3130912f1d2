"""All accounts over the one synthetic market: moves them with it, and collects what to tell.

The order of calls around an event is that of ``core.engine``.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from bot.core.events import E8, E12, Event, Fact, Fees
from bot.core.instrument import UNIT
from bot.core.market import Market
from bot.core.orders import OrderIds
from bot.venue.emulator.accounts import Push, TradingAccount
from bot.venue.emulator.market import Market as SyntheticMarket
from bot.venue.emulator.mirror import Mirror

LEVERAGE: E12 = 10 * UNIT
FEES = (
    Fees(0, "linear", Decimal("0.0002"), Decimal("0.00055")),
    Fees(0, "spot", Decimal("0.001"), Decimal("0.001")),
)
"""Bybit's rates without a VIP level."""


class Clearing:
    """One account for each of ``keys``, with ``usdt`` each."""

    def __init__(self, synthetic: SyntheticMarket, keys: Iterable[str], usdt: E8) -> None:
        self.synthetic = synthetic
        self.market = Market()
        for fees in FEES:
            self.market.apply(fees)
        self.ids = OrderIds()
        self.accounts = {
            key: TradingAccount(key, self.market, synthetic, usdt, LEVERAGE, self.ids)
            for key in keys
        }
        self._mirror = Mirror(synthetic)

    def trade(self, symbol: str) -> None:
        """From here on the matching engine follows ``symbol``, which must be listed."""
        self._move(self._mirror.open(symbol))

    def step(self) -> None:
        """The synthetic market has moved: match against what happened, then cancel."""
        self._move(self._mirror.events())
        for account in self.accounts.values():
            account.end_step(self.synthetic.now_ns)

    def pushes(self) -> list[tuple[str, Push]]:
        """(key, message) in order, since the last call."""
        return [(key, push) for key, account in self.accounts.items() for push in account.pushes()]

    def _move(self, events: Iterable[Event]) -> None:
        for event in events:
            facts: dict[str, list[Fact]] = {key: [] for key in self.accounts}
            for key, account in self.accounts.items():
                account.before(event, facts[key])
            self.market.apply(event)
            for key, account in self.accounts.items():
                account.after(event, facts[key])
        self.market.notices.clear()  # a synthetic book does not cross
