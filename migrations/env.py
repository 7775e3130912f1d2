"""Runs the migrations on the connection that bot.ledger.schema hands over.

From the command line (to write a new one): ``alembic -x db=sqlite:///data/kvtrader.db ...``.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from bot.ledger.columns import metadata
from bot.ledger.connect import with_connection


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    argument = context.get_x_argument(as_dictionary=True).get("db")
    with_connection(str(argument or "sqlite:///data/kvtrader.db"), migrate)
