"""Facts to the writer, and beside them what they met and what they left: quotes and positions.

Stands between the run and the writer; reads the market and the account right after each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from sqlalchemy import Table

from bot.core.account import Account, Position
from bot.core.events import E12, Event, Fact, Fill, FundingPaid, Liquidated, Order
from bot.core.instrument import amount, to_decimal
from bot.core.market import Market
from bot.ledger import tables
from bot.ledger.digest import plain
from bot.ledger.rows import Row
from bot.ledger.writer import LedgerWriter

_QUOTED: Final = frozenset((Order, Fill))
"""Facts beside which the best prices are kept, to judge them by."""
_MOVING: Final = frozenset((Fill, FundingPaid, Liquidated))
"""Facts after which a position is not what it was."""


class Bookkeeper:
    """A run's sink over the ledger's writer. ``market`` and ``account`` are the engine's."""

    def __init__(self, writer: LedgerWriter, market: Market, account: Account) -> None:
        self._writer = writer
        self._market = market
        self._account = account

    def add(self, position: int, event: Event | None, facts: Sequence[Fact]) -> None:
        first = self._writer.next_fact
        self._writer.add(position, event, facts)
        if facts:
            beside = self._beside(position, first, facts)
            if beside:
                self._writer.add_rows(position, beside)

    def add_equity(self, position: int, ts: int, equity: Decimal, wallet: Decimal) -> None:
        self._writer.add_equity(position, ts, equity, wallet)

    def _beside(self, position: int, first: int, facts: Sequence[Fact]) -> list[tuple[Table, Row]]:
        """A quote per order and fill; a position per symbol that moved, after its last fact."""
        run_id = self._writer.run_id
        beside: list[tuple[Table, Row]] = []
        moved: dict[str, tuple[int, int]] = {}
        for n, fact in enumerate(facts, first):
            kind = type(fact)
            if kind in _QUOTED:
                row = (run_id, n, position, fact.symbol, *self._quote(fact.symbol))
                beside.append((tables.quotes, row))
            if kind in _MOVING:
                moved[fact.symbol] = (n, fact.ts)
        for symbol, (n, ts) in moved.items():
            held = _held(self._account.position(symbol))
            beside.append((tables.positions, (run_id, n, position, ts, symbol, *held)))
        return beside

    def _quote(self, symbol: str) -> tuple[str | None, str | None, str | None]:
        """(bid, ask, mark) of the trusted book after the step; None for what is not known."""
        listing = self._market.listing(symbol)
        mark = _price(listing.mark)
        if not listing.is_live:
            return None, None, mark
        return _price(listing.book.best_bid), _price(listing.book.best_ask), mark


def _price(price: E12) -> str | None:
    return plain(to_decimal(price)) if price else None


def _held(position: Position) -> tuple[str, ...]:
    """Quantity, cost, realized profit, fees, funding."""
    money = (position.cost, position.realized, position.fees, position.funding)
    return (plain(to_decimal(position.qty)), *(plain(amount(value)) for value in money))
