"""What the ledger has committed, as messages for the outbox: facts, predictions, money."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from bot.core.account import Account
from bot.core.events import Fact, Fill, FundingPaid, Liquidated, Prediction, Signal
from bot.core.instrument import amount
from bot.ledger import folds, tables
from bot.ledger.database import clear_errors
from bot.ledger.digest import plain
from bot.ledger.facts import StoredFact, fills_from
from bot.ledger.writer import Entry
from bot.operate.messages import (
    FillMessage,
    OrderMessage,
    PnlMessage,
    PositionMessage,
    PredictionMessage,
    SignalMessage,
)
from bot.operate.outbox import Outbox


class Publisher:
    """Listens to a run's LedgerWriter.

    Entries before ``first_position`` were published by an earlier process; ``account`` is what
    they came to.
    """

    def __init__(
        self,
        run_id: str,
        outbox: Outbox,
        account: Account,
        *,
        first_position: int,
        prediction_every_s: float,
    ) -> None:
        self._run_id, self._outbox = run_id, outbox
        self._first_position = first_position
        self._prediction_every_ns = int(prediction_every_s * 1e9)
        self._prediction_due_ns: dict[tuple[str, str], int] = {}
        self._held = {symbol: _fold_of(each) for symbol, each in account.positions.items()}
        self._funding = amount(account.funding)

    def __call__(self, entry: Entry) -> None:
        if entry.position < self._first_position:
            return
        if type(entry.event) is Prediction:
            self._predicted(entry.position, entry.event)
        for n, fact in enumerate(entry.facts, entry.first_fact):
            self._fact(n, fact)
        for table, row in entry.rows:
            if table is tables.equity:
                self._worth(row)

    def _predicted(self, position: int, event: Prediction) -> None:
        key = (event.symbol, event.model)
        if event.ts < self._prediction_due_ns.get(key, 0):
            return
        self._prediction_due_ns[key] = event.ts + self._prediction_every_ns
        message = PredictionMessage(
            self._run_id,
            position,
            event.ts,
            event.symbol,
            event.model,
            event.read_position,
            event.ready_ts,
            event.price,
            event.horizons,
            event.trained,
            event.weight,
            event.rebuilt,
        )
        self._outbox.put(f"prediction/{event.symbol}", message)

    def _fact(self, n: int, fact: Fact) -> None:
        match fact:
            case Fill():
                self._held.setdefault(fact.symbol, folds.Account()).fill(_row(fact))
                self._outbox.fills_due.set()
                self._position(n, fact)
            case Liquidated():
                self._held.setdefault(fact.symbol, folds.Account()).liquidate(fact.loss)
                self._position(n, fact)
            case FundingPaid():
                self._funding += fact.amount
            case Signal():
                values = msgspec.structs.asdict(fact)
                self._outbox.put("signal", SignalMessage(self._run_id, n, **values))
            case _:
                self._outbox.put("order", order_message(self._run_id, n, fact))

    def _position(self, n: int, fact: Fill | Liquidated) -> None:
        held = self._held[fact.symbol]
        entry = held.position.average_entry
        message = PositionMessage(
            self._run_id,
            n,
            fact.ts,
            fact.symbol,
            _kept(fact.position) if isinstance(fact, Fill) else Decimal(0),
            None if entry is None else _kept(entry),
            _kept(held.realized),
            _kept(amount(held.fees)),
        )
        self._outbox.put("position", message)

    def _worth(self, row: tuple[Any, ...]) -> None:
        _, ts, _, equity, wallet = row
        realized = sum((each.realized for each in self._held.values()), Decimal(0))
        fees = amount(sum(each.fees for each in self._held.values()))
        message = PnlMessage(
            self._run_id,
            ts,
            Decimal(equity),
            Decimal(wallet),
            _kept(realized),
            _kept(fees),
            _kept(self._funding),
        )
        self._outbox.put("pnl", message)


class Fills:
    """A run's fills as the ledger has them, for a broker that was away."""

    def __init__(self, ledger: AsyncEngine, run_id: str) -> None:
        self._ledger, self._run_id = ledger, run_id

    async def __call__(self, first: int, most: int) -> list[FillMessage]:
        """Fills from fact ``first`` on. Raises LedgerError."""
        with clear_errors(self._ledger.url, "fills cannot be read"):
            async with self._ledger.connect() as connection:
                stored = await connection.run_sync(fills_from, self._run_id, first, most)
        return [fill_message(self._run_id, each) for each in stored]


def fill_message(run_id: str, stored: StoredFact) -> FillMessage:
    """A fill as it stands in the ledger."""
    values = msgspec.structs.asdict(stored.fact)
    return FillMessage(run=run_id, fact=stored.n, fill_id=values.pop("id"), **values)


def order_message(run_id: str, n: int, fact: Fact) -> OrderMessage:
    """A step in an order's life."""
    values = msgspec.structs.asdict(fact)
    if "id" in values:
        values["order_id"] = values.pop("id")
    return OrderMessage(run=run_id, fact=n, kind=type(fact).__name__, **values)  # type: ignore[arg-type]


def _kept(number: Decimal) -> Decimal:
    """A number as the ledger writes it: 0.002, not 0.0020."""
    return Decimal(plain(number))


def _row(fill: Fill) -> dict[str, Any]:
    return {**msgspec.structs.asdict(fill), "position_qty": fill.position}


def _fold_of(position: Any) -> folds.Account:
    """A position of the running account as the fold that would have come to it."""
    fold = folds.Account()
    fold.position.size, fold.position.cost = position.qty, abs(position.cost)
    fold.realized, fold.fees = amount(position.realized), position.fees
    return fold
