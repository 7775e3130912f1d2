"""Columns of conditional orders and exits, and the tables of shadow accounts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ORDER_COLUMNS = (
    "trigger_price",
    "trigger_by",
    "trigger_direction",
    "stop_type",
    "take_profit",
    "take_profit_by",
    "stop_loss",
    "stop_loss_by",
)
TABLES = ("shadow_fills", "shadow_outcomes", "shadow_equity")


def upgrade() -> None:
    for name in ORDER_COLUMNS:
        op.add_column("orders", sa.Column(name, sa.Text, nullable=True))
    op.add_column("order_events", sa.Column("trigger_price", sa.Text, nullable=True))
    _create_fills()
    _create_outcomes()
    _create_equity()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)
    op.drop_column("order_events", "trigger_price")
    for name in reversed(ORDER_COLUMNS):
        op.drop_column("orders", name)


def _number(name: str, *, key: bool = False, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=key, nullable=nullable, autoincrement=False)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _keys() -> tuple[sa.Column[str], ...]:
    run_id = sa.ForeignKey("runs.id", ondelete="CASCADE")
    return (
        sa.Column("run_id", sa.Text, run_id, primary_key=True),
        sa.Column("policy", sa.Text, primary_key=True),
    )


def _create_fills() -> None:
    op.create_table(
        "shadow_fills",
        *_keys(),
        _number("n", key=True),
        _number("position"),
        _number("ts"),
        _number("exchange_ts"),
        _number("fill_id"),
        _number("order_id"),
        _text("strategy"),
        _text("symbol"),
        _text("side"),
        _text("price"),
        _text("qty"),
        sa.Column("maker", sa.Boolean, nullable=False),
        _text("fee"),
        _text("fee_coin"),
        _text("cause"),
        _number("cause_seq"),
        _text("ahead_at_arrival", nullable=True),
        _text("leaves"),
        _text("realized_pnl"),
        _text("position_qty"),
        sqlite_with_rowid=False,
    )


def _create_outcomes() -> None:
    op.create_table(
        "shadow_outcomes",
        *_keys(),
        _number("n", key=True),
        _number("position"),
        _text("kind"),
        _number("ts"),
        _number("exchange_ts", nullable=True),
        _number("order_id", nullable=True),
        _text("symbol"),
        _text("request", nullable=True),
        _text("reason", nullable=True),
        _text("price", nullable=True),
        _text("qty", nullable=True),
        _text("leaves", nullable=True),
        _text("ahead", nullable=True),
        _text("amount", nullable=True),
        sqlite_with_rowid=False,
    )


def _create_equity() -> None:
    op.create_table(
        "shadow_equity",
        *_keys(),
        _number("ts", key=True),
        _number("position"),
        _text("equity"),
        _text("wallet"),
        sqlite_with_rowid=False,
    )
