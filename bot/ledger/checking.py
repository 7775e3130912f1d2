"""``bot db check``: the schema, then every law of ``invariants`` over every run."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from bot.ledger import queries, schema
from bot.ledger.connect import with_connection
from bot.ledger.database import parse_url, require_current, require_file
from bot.ledger.invariants import BrokenLedger, check_run


def check(text_url: str, run: str | None = None) -> list[dict[str, Any]]:
    """A row for the schema and one per run: {run, ok, facts, detail}. Raises LedgerError."""
    require_file(parse_url(text_url))

    def work(connection: Connection) -> list[dict[str, Any]]:
        require_current(connection)
        found = [_schema(connection)]
        ids = [each["id"] for each in queries.runs(connection)]
        chosen = ids if run is None else [queries.run_of(connection, run)]
        return [*found, *(_run(connection, each) for each in chosen)]

    return with_connection(text_url, work)


def _schema(connection: Connection) -> dict[str, Any]:
    different = schema.differences(connection)
    detail = "; ".join(different) or "the tables are those of this version"
    return {"run": "schema", "ok": not different, "facts": None, "detail": detail}


def _run(connection: Connection, run_id: str) -> dict[str, Any]:
    try:
        facts = check_run(connection, run_id)
    except BrokenLedger as error:
        return {"run": run_id, "ok": False, "facts": None, "detail": str(error)}
    detail = f"{facts} facts, every invariant holds"
    return {"run": run_id, "ok": True, "facts": facts, "detail": detail}
