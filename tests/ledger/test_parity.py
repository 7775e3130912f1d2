"""A whole run, written piece by piece, gives the same rows in SQLite and in Postgres."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from bot.ledger.checking import check
from bot.ledger.columns import metadata
from bot.ledger.export import export
from bot.ledger.schema import open_ledger
from tests.ledger.samples import life
from tests.shards import shards

POSTGRES = pytest.mark.parametrize("url", ["postgres"], indirect=True)


async def rows_of(ledger: AsyncEngine) -> dict[str, list[dict[str, Any]]]:
    async with ledger.connect() as connection:
        return {
            table.name: [
                dict(row)
                for row in (
                    await connection.execute(select(table).order_by(*table.primary_key.columns))
                ).mappings()
            ]
            for table in metadata.sorted_tables
        }


async def hold_against_each_other(folder: Path, url: str, seeds: range) -> set[str]:
    """The tables that had rows."""
    ledgers = [await open_ledger(each) for each in (f"sqlite:///{folder}/ledger.db", url)]
    try:
        for seed in seeds:
            for number, ledger in enumerate(ledgers):
                await life(ledger, f"r{seed:05}", seed, Random(seed + number))
        ours, theirs = [await rows_of(ledger) for ledger in ledgers]
    finally:
        await asyncio.gather(*(ledger.dispose() for ledger in ledgers))
    for name, found in ours.items():
        assert found == theirs[name], name
    return {name for name, found in ours.items() if found}


@POSTGRES
async def test_both_databases_have_the_same_rows_of_a_whole_run(tmp_path, url):
    used = await hold_against_each_other(tmp_path, url, range(4))
    assert used >= {
        "runs", "signals", "orders", "order_events", "fills", "funding_paid", "liquidations",
        "postings", "quotes", "positions", "predictions", "gaps", "commands", "instruments",
        "shadow_fills", "shadow_outcomes",
    }  # fmt: skip
    counts = []
    for number, each in enumerate((f"sqlite:///{tmp_path}/ledger.db", url)):
        checked = await asyncio.to_thread(check, each)
        assert [row["ok"] for row in checked] == [True] * 5, checked
        files = await asyncio.to_thread(export, each, tmp_path / str(number), "csv", "r00003")
        counts.append({row["table"]: row["rows"] for row in files})
    assert counts[0] == counts[1]
    assert counts[0]["v_fills"] == counts[0]["fills"] > 0


@POSTGRES
@pytest.mark.nightly
@pytest.mark.timeout(1800)
@shards(4000, parts=40)
async def test_both_databases_have_the_same_rows_of_four_thousand_runs(tmp_path, url, seeds):
    await hold_against_each_other(tmp_path, url, seeds)
