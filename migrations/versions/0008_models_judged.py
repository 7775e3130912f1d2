"""Which models a run used, how good they were, and which took another's place."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _key(name: str, kind: type[sa.Text | sa.BigInteger] = sa.Text) -> sa.Column[object]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "models_used",
        sa.Column(
            "run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
        ),
        _key("position", sa.BigInteger),
        _key("role"),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("weights_sha256", sa.Text, nullable=False),
        sa.Column("trained", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "evaluations",
        _key("instance"),
        _key("ts", sa.BigInteger),
        _key("source"),
        _key("model"),
        _key("symbol"),
        _key("horizon_ns", sa.BigInteger),
        _key("metric"),
        sa.Column("weights_sha256", sa.Text, nullable=True),
        sa.Column("from_ts", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Double, nullable=True) for name in ("value", "lo", "hi")),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("baselines", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "model_switches",
        _key("instance"),
        _key("ts", sa.BigInteger),
        _key("role"),
        sa.Column("switched", sa.Boolean, nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("champion", "challenger", "challenger_id", "metric")
        ),
        sa.Column("from_ts", sa.BigInteger, nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        *(
            sa.Column(name, sa.Double, nullable=False)
            for name in ("champion_value", "challenger_value", "difference")
        ),
        sa.Column("lo", sa.Double, nullable=True),
        sa.Column("hi", sa.Double, nullable=True),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    for name in ("model_switches", "evaluations", "models_used"):
        op.drop_table(name)
