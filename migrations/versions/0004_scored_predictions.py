"""Predictions held against what came."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "predictions_scored",
        sa.Column(
            "run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("symbol", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("horizon", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("horizon_ns", sa.BigInteger, nullable=False),
        sa.Column("read_position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("read_ts", sa.BigInteger, nullable=False),
        sa.Column("expected_return", sa.Double, nullable=False),
        sa.Column("up_probability", sa.Double, nullable=False),
        sa.Column("outcome", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("predictions_scored")
