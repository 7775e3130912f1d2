"""What fills cost against the middle of the book at their decision."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, and_, select

from bot.ledger.tables import fills, orders, quotes


def slippage_of(connection: Connection, run_id: str, summary: Mapping[str, Any]) -> str | None:
    """In USDT, paid is positive: as the run kept it, else from the quotes beside its orders.

    None where neither is there. An order without a trusted book beside it does not count.
    """
    kept = summary.get("slippage")
    if kept is not None:
        return str(sum((Decimal(str(paid)) for paid in kept.values()), Decimal(0)))
    ordered = and_(orders.c.run_id == fills.c.run_id, orders.c.order_id == fills.c.order_id)
    quoted = and_(quotes.c.run_id == orders.c.run_id, quotes.c.n == orders.c.n)
    rows = connection.execute(
        select(fills.c.side, fills.c.price, fills.c.qty, quotes.c.bid, quotes.c.ask)
        .join(orders, ordered)
        .join(quotes, quoted)
        .where(fills.c.run_id == run_id, quotes.c.bid.is_not(None), quotes.c.ask.is_not(None))
    ).all()
    if not rows:
        return None
    return str(sum((_paid(*row) for row in rows), Decimal(0)))


def _paid(side: str, *numbers: Any) -> Decimal:
    price, qty, bid, ask = (Decimal(number) for number in numbers)
    worse = price - (bid + ask) / 2
    return qty * (worse if side == "Buy" else -worse)
