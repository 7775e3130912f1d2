"""Double-entry postings, quotes beside facts, positions over time, snapshots to restart from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("postings", "quotes", "positions", "snapshots")
_SCORED = "ix_predictions_run_id_symbol_model_read_ts"


def upgrade() -> None:
    _create_postings()
    _create_quotes()
    _create_positions()
    _create_snapshots()
    op.create_index(_SCORED, "predictions", ["run_id", "symbol", "model", "read_ts"])


def downgrade() -> None:
    op.drop_index(_SCORED, "predictions")
    for table in reversed(TABLES):
        op.drop_table(table)


def _run_id() -> sa.Column[str]:
    return sa.Column(
        "run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
    )


def _n() -> sa.Column[int]:
    return sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False)


def _create_postings() -> None:
    op.create_table(
        "postings",
        _run_id(),
        _n(),
        sa.Column("leg", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("symbol", sa.Text, nullable=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )


def _create_quotes() -> None:
    op.create_table(
        "quotes",
        _run_id(),
        _n(),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("bid", sa.Text, nullable=True),
        sa.Column("ask", sa.Text, nullable=True),
        sa.Column("mark", sa.Text, nullable=True),
        sqlite_with_rowid=False,
    )


def _create_positions() -> None:
    op.create_table(
        "positions",
        _run_id(),
        _n(),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("qty", sa.Text, nullable=False),
        sa.Column("cost", sa.Text, nullable=False),
        sa.Column("realized_pnl", sa.Text, nullable=False),
        sa.Column("fees", sa.Text, nullable=False),
        sa.Column("funding", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_positions_run_id_symbol", "positions", ["run_id", "symbol"])


def _create_snapshots() -> None:
    op.create_table(
        "snapshots",
        _run_id(),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("facts", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
