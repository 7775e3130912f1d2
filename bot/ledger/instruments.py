"""The venue's rules as earlier runs were told them, for a start without the venue's REST."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import Connection, select
from sqlalchemy.ext.asyncio import AsyncEngine

from bot.core.events import Instrument, RiskTier
from bot.ledger.database import clear_errors
from bot.ledger.tables import instruments


async def kept_rules(engine: AsyncEngine, symbols: Collection[str]) -> list[Instrument]:
    """The newest rules of each symbol that any run recorded. Raises LedgerError."""
    with clear_errors(engine.url, "its instruments cannot be read"):
        async with engine.connect() as connection:
            return await connection.run_sync(newest_rules, symbols)


def newest_rules(connection: Connection, symbols: Collection[str]) -> list[Instrument]:
    """Of each symbol that has any; ``ts`` is when the venue told them."""
    query = (
        select(instruments)
        .where(instruments.c.symbol.in_(tuple(symbols)))
        .order_by(instruments.c.ts)
    )
    found = {row["symbol"]: row for row in connection.execute(query).mappings()}
    return [_instrument(row) for row in found.values()]


def _instrument(row: Any) -> Instrument:
    values = {name: row[name] for name in Instrument.__struct_fields__ if name in row}
    values["tiers"] = msgspec.json.decode(row["tiers"], type=tuple[RiskTier, ...])
    return Instrument(exchange_ts=row["ts"], **values)
