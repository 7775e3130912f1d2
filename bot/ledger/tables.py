"""The ledger's tables, the same on SQLite and Postgres. Shape only; no engine, no SQL.

Rows are facts: they are added and never changed, but for a run's own row, a gap's end, a
symbol's latest rules, and old snapshots, which go. Money, prices and quantities are exact decimals
in text, times integer ns.
``position`` is the journal position of a row's cause, ``n`` a fact's number in its run; both
count from 0.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)

from bot.ledger.digest import plain

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Money(TypeDecorator[Decimal]):
    """An exact decimal as plain text. SQLite's NUMERIC would make it a float without a word."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Raises TypeError for what is not an exact number."""
        del dialect
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, Decimal | int):
            raise TypeError(f"money must be a Decimal, not {type(value).__name__} {value!r}")
        return plain(Decimal(value))

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        del dialect
        return None if value is None else Decimal(value)


def _run_key() -> Column[str]:
    return Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)


def _number(name: str, *, primary_key: bool = False, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, primary_key=primary_key, nullable=nullable, autoincrement=False)


def _text(name: str, *, primary_key: bool = False, nullable: bool = False) -> Column[str]:
    return Column(name, Text, primary_key=primary_key, nullable=nullable)


def _money(name: str, *, nullable: bool = False) -> Column[Decimal]:
    return Column(name, Money, nullable=nullable)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _fact_table(name: str, *columns: Column[Any], by_order: bool = False) -> Table:
    table = Table(
        name,
        metadata,
        _run_key(),
        _number("n", primary_key=True),
        _number("position"),
        *columns,
        sqlite_with_rowid=False,  # the key is the table: a fifth less to write and to store
    )
    if by_order:
        Index(None, table.c.run_id, table.c.order_id)
    return table


def _event_table(name: str, *columns: Column[Any]) -> Table:
    return Table(
        name,
        metadata,
        _run_key(),
        _number("position", primary_key=True),
        *columns,
        sqlite_with_rowid=False,
    )


runs: Final = Table(
    "runs",
    metadata,
    _text("id", primary_key=True),
    _text("mode"),
    _text("instance"),
    _text("status"),  # running, finished, failed
    _number("started_ts"),
    _number("ended_ts", nullable=True),
    _text("config"),  # JSON
    _text("code_version"),
    _number("seed", nullable=True),
    _text("models"),  # JSON: model name to hash
    _text("journal", nullable=True),
    _text("digest"),
    _number("facts"),
    _text("summary"),  # JSON
)

# --- Facts: decisions, then outcomes --------------------------------------------------------

signals: Final = _fact_table(
    "signals",
    _number("ts"),
    _text("strategy"),
    _text("symbol"),
    Column("target", Double, nullable=False),
    _text("reason"),
)

orders: Final = _fact_table(
    "orders",
    _number("ts"),
    _number("order_id"),
    _text("strategy"),
    _text("symbol"),
    _text("side"),
    _text("order_type"),
    _text("tif"),
    _money("qty"),
    _money("price", nullable=True),
    _flag("reduce_only"),
    _text("tag"),
    by_order=True,
)

order_events: Final = _fact_table(
    "order_events",
    _text("kind"),  # Amend, Cancel, Refusal, Accepted, Rejected, Cancelled
    _number("ts"),
    _number("exchange_ts", nullable=True),
    _number("answer_ts", nullable=True),
    _number("order_id"),
    _text("symbol"),
    _text("strategy", nullable=True),
    _text("request", nullable=True),
    _text("reason", nullable=True),
    _text("detail", nullable=True),
    _money("price", nullable=True),
    _money("qty", nullable=True),
    _money("leaves", nullable=True),
    _money("ahead", nullable=True),
    by_order=True,
)

fills: Final = _fact_table(
    "fills",
    _number("ts"),
    _number("exchange_ts"),
    _number("answer_ts"),
    _number("fill_id"),
    _number("order_id"),
    _text("strategy"),
    _text("symbol"),
    _text("side"),
    _money("price"),
    _money("qty"),
    _flag("maker"),
    _money("fee"),
    _text("fee_coin"),
    _text("cause"),
    _number("cause_seq"),
    _money("ahead_at_arrival", nullable=True),
    _money("leaves"),
    _text("policy"),
    _money("realized_pnl"),
    _money("position_qty"),
    by_order=True,
)

funding_paid: Final = _fact_table(
    "funding_paid",
    _number("ts"),
    _number("exchange_ts"),
    _text("symbol"),
    _number("funding_ts"),
    _money("rate"),
    _money("mark"),
    _money("position_qty"),
    _money("amount"),
)

liquidations: Final = _fact_table(
    "liquidations",
    _number("ts"),
    _number("exchange_ts"),
    _text("symbol"),
    _money("position_qty"),
    _money("price"),
    _money("loss"),
)

# --- What facts did, and what they met: keyed by the fact's number ------------------------------

postings: Final = Table(
    "postings",
    metadata,
    _run_key(),
    _number("n", primary_key=True),  # -1: before the first fact, a deposit
    _number("leg", primary_key=True),
    _number("position"),
    _number("ts"),
    _text("symbol", nullable=True),
    _text("account"),
    _text("asset"),
    _money("amount"),
    sqlite_with_rowid=False,
)

quotes: Final = _fact_table(
    "quotes",
    _text("symbol"),
    _money("bid", nullable=True),  # null: that side is empty, or the book is not trusted
    _money("ask", nullable=True),
    _money("mark", nullable=True),
)

positions: Final = _fact_table(
    "positions",
    _number("ts"),
    _text("symbol"),
    _money("qty"),
    _money("cost"),
    _money("realized_pnl"),
    _money("fees"),
    _money("funding"),
)
Index(None, positions.c.run_id, positions.c.symbol)

snapshots: Final = Table(
    "snapshots",
    metadata,
    _run_key(),
    _number("position", primary_key=True),  # of the first input that is not in it
    _number("ts"),
    _number("facts"),  # made before it
    _text("digest"),  # of those
    _text("sha256"),  # of the body
    Column("body", LargeBinary, nullable=False),
)

# --- Events that are kept beside the journal, to be asked for ------------------------------------

predictions: Final = _event_table(
    "predictions",
    _text("symbol", primary_key=True),
    _text("model", primary_key=True),
    _number("horizon", primary_key=True),  # index in the prediction; a row each
    _number("ts"),
    _number("read_position"),
    _number("read_ts"),
    _number("ready_ts"),
    Column("price", Double, nullable=False),
    Column("weight", Double, nullable=True),
    _flag("trained"),
    _flag("rebuilt"),
    _number("horizon_ns", nullable=True),  # null: a prediction without horizons
    Column("expected_return", Double, nullable=True),
    Column("up_probability", Double, nullable=True),
    Column("confidence", Double, nullable=True),
    _text("quantiles", nullable=True),  # JSON
)
Index(
    None,
    predictions.c.run_id,
    predictions.c.symbol,
    predictions.c.model,
    predictions.c.read_ts,
)

gaps: Final = _event_table(
    "gaps",
    _text("symbol", primary_key=True),
    _number("ts"),
    _text("reason"),
    _number("end_position", nullable=True),
    _number("end_ts", nullable=True),
)

commands: Final = _event_table(
    "commands",
    _text("name", primary_key=True),
    _text("source", primary_key=True),
    _number("ts"),
    _text("reason"),
)

instruments: Final = Table(
    "instruments",
    metadata,
    _run_key(),
    _text("symbol", primary_key=True),
    _number("position"),
    _number("ts"),
    _text("base"),
    _text("quote"),
    _money("tick_size"),
    _money("qty_step"),
    _money("min_qty"),
    _money("min_notional"),
    _money("max_limit_qty"),
    _money("max_market_qty"),
    _money("max_leverage"),
    _money("price_limit_x"),
    _money("price_limit_y"),
    _number("funding_interval_min"),
)

equity: Final = Table(
    "equity",
    metadata,
    _run_key(),
    _number("ts", primary_key=True),
    _number("position"),
    _money("equity"),
    _money("wallet"),
    sqlite_with_rowid=False,
)
