"""Fills that a run could not send while it went on, from its ledger to the broker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bot.config import Settings
from bot.ledger import queries, reading
from bot.ledger.journal import is_written
from bot.ledger.schema import open_ledger
from bot.operate.mqtt import ANSWER_S, BrokerError, send_fills
from bot.operate.outbox import FillCursor
from bot.operations import broker_of, cursor_path, prefix_of
from bot.publish import Fills


def send(settings: Settings, run: str | None) -> dict[str, Any]:
    """{run, fills}: how many were sent. Raises BrokerError, LedgerError and ConfigError."""
    run_id = reading.read(settings.ledger.db, queries.run_of, run)
    path = cursor_path(settings, run_id)
    if not path.parent.is_dir():
        raise BrokerError(
            f"{path.parent}: the run's journal is gone, and with it which fills were sent; "
            f"`bot fills --run {run_id}` lists them"
        )
    if is_written(path.parent):
        raise BrokerError(f"run {run_id} goes on in another process, which sends its fills")
    return {"run": run_id, "fills": asyncio.run(_send(settings, run_id, path))}


async def _send(settings: Settings, run_id: str, path: Path) -> int:
    ledger = await open_ledger(settings.ledger.db)
    try:
        return await send_fills(
            broker_of(settings),
            prefix_of(settings),
            FillCursor(path),
            Fills(ledger, run_id),
            ANSWER_S,
        )
    finally:
        await ledger.dispose()
