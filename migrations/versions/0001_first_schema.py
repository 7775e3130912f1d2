"""The first schema: runs, their facts, and the events kept beside the journal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    "runs",
    "signals",
    "orders",
    "order_events",
    "fills",
    "funding_paid",
    "liquidations",
    "predictions",
    "gaps",
    "commands",
    "instruments",
    "equity",
)


def upgrade() -> None:
    _create_runs()
    _create_signals()
    _create_orders()
    _create_order_events()
    _create_fills()
    _create_funding_paid()
    _create_liquidations()
    _create_predictions()
    _create_gaps()
    _create_commands()
    _create_instruments()
    _create_equity()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _run_id() -> sa.Column[str]:
    return sa.Column(
        "run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
    )


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("instance", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("started_ts", sa.BigInteger, nullable=False),
        sa.Column("ended_ts", sa.BigInteger, nullable=True),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("code_version", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=True),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("journal", sa.Text, nullable=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("facts", sa.BigInteger, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
    )


def _create_signals() -> None:
    op.create_table(
        "signals",
        _run_id(),
        sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("target", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )


def _create_orders() -> None:
    op.create_table(
        "orders",
        _run_id(),
        sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("order_id", sa.BigInteger, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("side", sa.Text, nullable=False),
        sa.Column("order_type", sa.Text, nullable=False),
        sa.Column("tif", sa.Text, nullable=False),
        sa.Column("qty", sa.Text, nullable=False),
        sa.Column("price", sa.Text, nullable=True),
        sa.Column("reduce_only", sa.Boolean, nullable=False),
        sa.Column("tag", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_orders_run_id_order_id", "orders", ["run_id", "order_id"])


def _create_order_events() -> None:
    op.create_table(
        "order_events",
        _run_id(),
        sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("exchange_ts", sa.BigInteger, nullable=True),
        sa.Column("answer_ts", sa.BigInteger, nullable=True),
        sa.Column("order_id", sa.BigInteger, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("strategy", sa.Text, nullable=True),
        sa.Column("request", sa.Text, nullable=True),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("detail", sa.Text, nullable=True),
        sa.Column("price", sa.Text, nullable=True),
        sa.Column("qty", sa.Text, nullable=True),
        sa.Column("leaves", sa.Text, nullable=True),
        sa.Column("ahead", sa.Text, nullable=True),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_order_events_run_id_order_id", "order_events", ["run_id", "order_id"])


def _create_fills() -> None:
    op.create_table(
        "fills",
        _run_id(),
        sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("exchange_ts", sa.BigInteger, nullable=False),
        sa.Column("answer_ts", sa.BigInteger, nullable=False),
        sa.Column("fill_id", sa.BigInteger, nullable=False),
        sa.Column("order_id", sa.BigInteger, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("side", sa.Text, nullable=False),
        sa.Column("price", sa.Text, nullable=False),
        sa.Column("qty", sa.Text, nullable=False),
        sa.Column("maker", sa.Boolean, nullable=False),
        sa.Column("fee", sa.Text, nullable=False),
        sa.Column("fee_coin", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("cause_seq", sa.BigInteger, nullable=False),
        sa.Column("ahead_at_arrival", sa.Text, nullable=True),
        sa.Column("leaves", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("realized_pnl", sa.Text, nullable=False),
        sa.Column("position_qty", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_fills_run_id_order_id", "fills", ["run_id", "order_id"])


def _create_funding_paid() -> None:
    op.create_table(
        "funding_paid",
        _run_id(),
        sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("exchange_ts", sa.BigInteger, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("funding_ts", sa.BigInteger, nullable=False),
        sa.Column("rate", sa.Text, nullable=False),
        sa.Column("mark", sa.Text, nullable=False),
        sa.Column("position_qty", sa.Text, nullable=False),
        sa.Column("amount", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )


def _create_liquidations() -> None:
    op.create_table(
        "liquidations",
        _run_id(),
        sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("exchange_ts", sa.BigInteger, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("position_qty", sa.Text, nullable=False),
        sa.Column("price", sa.Text, nullable=False),
        sa.Column("loss", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )


def _create_predictions() -> None:
    op.create_table(
        "predictions",
        _run_id(),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("symbol", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("horizon", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("read_position", sa.BigInteger, nullable=False),
        sa.Column("read_ts", sa.BigInteger, nullable=False),
        sa.Column("ready_ts", sa.BigInteger, nullable=False),
        sa.Column("price", sa.Double, nullable=False),
        sa.Column("weight", sa.Double, nullable=True),
        sa.Column("trained", sa.Boolean, nullable=False),
        sa.Column("rebuilt", sa.Boolean, nullable=False),
        sa.Column("horizon_ns", sa.BigInteger, nullable=True),
        sa.Column("expected_return", sa.Double, nullable=True),
        sa.Column("up_probability", sa.Double, nullable=True),
        sa.Column("confidence", sa.Double, nullable=True),
        sa.Column("quantiles", sa.Text, nullable=True),
        sqlite_with_rowid=False,
    )


def _create_gaps() -> None:
    op.create_table(
        "gaps",
        _run_id(),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("symbol", sa.Text, primary_key=True),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("end_position", sa.BigInteger, nullable=True),
        sa.Column("end_ts", sa.BigInteger, nullable=True),
        sqlite_with_rowid=False,
    )


def _create_commands() -> None:
    op.create_table(
        "commands",
        _run_id(),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )


def _create_instruments() -> None:
    op.create_table(
        "instruments",
        _run_id(),
        sa.Column("symbol", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("quote", sa.Text, nullable=False),
        sa.Column("tick_size", sa.Text, nullable=False),
        sa.Column("qty_step", sa.Text, nullable=False),
        sa.Column("min_qty", sa.Text, nullable=False),
        sa.Column("min_notional", sa.Text, nullable=False),
        sa.Column("max_limit_qty", sa.Text, nullable=False),
        sa.Column("max_market_qty", sa.Text, nullable=False),
        sa.Column("max_leverage", sa.Text, nullable=False),
        sa.Column("price_limit_x", sa.Text, nullable=False),
        sa.Column("price_limit_y", sa.Text, nullable=False),
        sa.Column("funding_interval_min", sa.BigInteger, nullable=False),
    )


def _create_equity() -> None:
    op.create_table(
        "equity",
        _run_id(),
        sa.Column("ts", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("equity", sa.Text, nullable=False),
        sa.Column("wallet", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
