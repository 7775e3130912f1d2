"""The snapshots of a run, newest first, as they lie in the database."""

from __future__ import annotations

import hashlib

from msgspec import Struct
from sqlalchemy import Connection, select

from bot.ledger.tables import snapshots


class StoredSnapshot(Struct, frozen=True):
    """``digest`` is that of the ``facts`` facts before it."""

    position: int
    ts: int
    facts: int
    digest: str
    sha256: str
    body: bytes

    @property
    def is_whole(self) -> bool:
        return hashlib.sha256(self.body).hexdigest() == self.sha256


def stored_snapshots(connection: Connection, run_id: str) -> list[StoredSnapshot]:
    """All that are kept of a run."""
    statement = (
        select(*(snapshots.c[name] for name in StoredSnapshot.__struct_fields__))
        .where(snapshots.c.run_id == run_id)
        .order_by(snapshots.c.position.desc())
    )
    return [StoredSnapshot(*row) for row in connection.execute(statement)]
