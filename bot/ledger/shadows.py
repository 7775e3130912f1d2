"""Shadow accounts in the ledger: their facts as rows, and what each came to. See core.shadow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Table, select

from bot.core.events import Fact, Fill, FundingPaid, Liquidated
from bot.core.instrument import amount
from bot.ledger import tables
from bot.ledger.digest import plain
from bot.ledger.folds import fee_in_quote

Row: TypeAlias = tuple[Any, ...]
Record: TypeAlias = dict[str, Any]

FILL_COLUMNS: Final = tuple(column.name for column in tables.shadow_fills.columns)
OUTCOME_COLUMNS: Final = tuple(column.name for column in tables.shadow_outcomes.columns)
EQUITY_COLUMNS: Final = tuple(column.name for column in tables.shadow_equity.columns)


def rows_of(
    run_id: str, policy: str, position: int, first: int, facts: Sequence[Fact]
) -> Iterator[tuple[Table, Row]]:
    """A row per fact; ``first`` is the number of the first one in its account."""
    for n, fact in enumerate(facts, first):
        is_fill = type(fact) is Fill
        known = {"run_id": run_id, "policy": policy, "n": n, "position": position}
        if not is_fill:
            known["kind"] = type(fact).__name__
        columns = FILL_COLUMNS if is_fill else OUTCOME_COLUMNS
        values = (known[name] if name in known else _value(fact, name) for name in columns)
        yield tables.shadow_fills if is_fill else tables.shadow_outcomes, tuple(values)


def _value(fact: Fact, column: str) -> Any:
    field = {"fill_id": "id", "position_qty": "position"}.get(column, column)
    if column == "order_id":
        value = getattr(fact, "order_id", None) or getattr(fact, "id", None)
    elif column == "amount" and isinstance(fact, Liquidated):
        value = fact.loss
    else:
        value = getattr(fact, field, None)
    return plain(value) if isinstance(value, Decimal) else value


def equity_row(
    run_id: str, policy: str, position: int, ts: int, equity: Decimal, wallet: Decimal
) -> tuple[Table, Row]:
    return tables.shadow_equity, (run_id, policy, ts, position, plain(equity), plain(wallet))


def pnl(connection: Connection, run_id: str, symbol: str | None = None) -> list[Record]:
    """Profit per policy and symbol, and in total, as ``queries.pnl`` has it for the trading one."""
    sums: dict[tuple[str, str], list[Decimal]] = defaultdict(lambda: [Decimal(0)] * 3)
    for row in _rows(connection, tables.shadow_fills, run_id, symbol):
        fee = fee_in_quote(row["symbol"], row["fee"], row["fee_coin"], row["price"])
        for key in ((row["policy"], row["symbol"]), (row["policy"], "total")):
            realized, fees, funding = sums[key]
            sums[key] = [realized + row["realized_pnl"], fees + amount(fee), funding]
    for row in _rows(connection, tables.shadow_outcomes, run_id, symbol):
        lost = row["amount"] if row["kind"] == Liquidated.__name__ else Decimal(0)
        paid = row["amount"] if row["kind"] == FundingPaid.__name__ else Decimal(0)
        if lost or paid:
            for key in ((row["policy"], row["symbol"]), (row["policy"], "total")):
                realized, fees, funding = sums[key]
                sums[key] = [realized - lost, fees, funding + paid]
    return [
        {
            "symbol": name,
            "policy": policy,
            "realized_pnl": plain(realized),
            "fees": plain(fees),
            "funding": plain(funding),
            "net_pnl": plain(realized - fees - funding),
        }
        for (policy, name), (realized, fees, funding) in sorted(sums.items())
    ]


def _rows(connection: Connection, table: Table, run_id: str, symbol: str | None) -> Iterator[Any]:
    statement = select(table).where(table.c.run_id == run_id)
    if symbol is not None:
        statement = statement.where(table.c.symbol == symbol)
    yield from connection.execute(statement.order_by(table.c.policy, table.c.n)).mappings()
