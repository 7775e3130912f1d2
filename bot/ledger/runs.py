"""The life of a run's own row: started, finished, found again after a crash."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import Delete, Insert, Update, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from bot.ledger.connect import to_its_end
from bot.ledger.database import LedgerError, clear_errors, shown
from bot.ledger.digest import FactDigest
from bot.ledger.postings import DEPOSIT, deposits_of
from bot.ledger.rows import POSTING_COLUMNS, Row, posting_rows
from bot.ledger.tables import models_used, postings, runs


async def start_run(
    engine: AsyncEngine,
    run_id: str,
    *,
    mode: str,
    instance: str,
    started_ts: int,
    config: Mapping[str, Any],
    code_version: str,
    seed: int | None = None,
    models: Mapping[str, str] | None = None,
    journal: str | None = None,
    deposits: Mapping[str, Decimal] | None = None,
) -> None:
    """Add the run's row, ``running``, and the postings of what it begins with, by asset.

    Raises LedgerError, also where the run exists.
    """
    statement = insert(runs).values(
        id=run_id,
        mode=mode,
        instance=instance,
        status="running",
        started_ts=started_ts,
        config=json.dumps(config, default=str),
        code_version=code_version,
        seed=seed,
        models=json.dumps(dict(models or {})),
        journal=journal,
        digest=FactDigest().hexdigest(),
        facts=0,
        summary="{}",
    )
    legs = posting_rows(run_id, DEPOSIT, 0, started_ts, deposits_of(deposits or {}))
    deposit = [insert(postings).values(_money_row(leg)) for leg in legs]
    try:
        await to_its_end(_execute(engine, f"run {run_id} cannot be started", statement, *deposit))
    except LedgerError as error:
        if isinstance(error.__cause__, IntegrityError):
            raise LedgerError(f"{shown(engine.url)}: there is a run {run_id!r} already") from error
        raise


async def finish_run(
    engine: AsyncEngine,
    run_id: str,
    *,
    ended_ts: int,
    status: Literal["finished", "failed"] = "finished",
    summary: Mapping[str, Any] | None = None,
) -> None:
    """Close the run's row. Raises LedgerError."""
    statement = (
        update(runs)
        .where(runs.c.id == run_id)
        .values(
            status=status, ended_ts=ended_ts, summary=json.dumps(dict(summary or {}), default=str)
        )
    )
    if not await to_its_end(_execute(engine, f"run {run_id} cannot be finished", statement)):
        raise LedgerError(f"{shown(engine.url)}: there is no run {run_id!r} to finish")


async def last_unfinished_run(
    engine: AsyncEngine, *, mode: str = "paper", instance: str | None = None
) -> dict[str, Any] | None:
    """Find the newest run that is still ``running``: its row, or None. Raises LedgerError."""
    statement = (
        select(runs)
        .where(runs.c.status == "running", runs.c.mode == mode)
        .order_by(runs.c.started_ts.desc(), runs.c.id.desc())
        .limit(1)
    )
    if instance is not None:
        statement = statement.where(runs.c.instance == instance)
    with clear_errors(engine.url, "the ledger cannot be read"):
        async with engine.connect() as connection:
            row = (await connection.execute(statement)).mappings().first()
    return None if row is None else dict(row)


def _money_row(leg: Row) -> dict[str, Any]:
    row = dict(zip(POSTING_COLUMNS, leg, strict=True))
    return row | {"amount": Decimal(row["amount"])}


async def _execute(engine: AsyncEngine, doing: str, *statements: Insert | Update | Delete) -> int:
    """How many rows they changed, all in one transaction."""
    with clear_errors(engine.url, doing):
        async with engine.begin() as connection:
            return sum([(await connection.execute(each)).rowcount for each in statements])


async def record_models(
    engine: AsyncEngine,
    run_id: str,
    position: int,
    ts: int,
    models: Sequence[tuple[str, str, str, bool]],
) -> None:
    """Which models, (role, name, hash, trained) each, predict from ``position`` on. A process that
    died before it took an input leaves rows that the next one replaces. Raises LedgerError."""
    stale = delete(models_used).where(
        models_used.c.run_id == run_id, models_used.c.position == position
    )
    rows = [
        insert(models_used).values(
            run_id=run_id, position=position, role=role, ts=ts,
            model=name, weights_sha256=sha256, trained=trained,
        )
        for role, name, sha256, trained in models
    ]  # fmt: skip
    text = f"the models of run {run_id} cannot be recorded"
    await to_its_end(_execute(engine, text, stale, *rows))
