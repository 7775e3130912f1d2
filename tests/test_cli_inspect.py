"""The verbs that read the ledger, over a run that died: filters, forms, checks, exports."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.processes import bot, one_line, told
from tests.test_restart import Died


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run of the market maker in ./ledger.db; read only."""
    folder = tmp_path_factory.mktemp("died")
    here = Path.cwd()
    os.chdir(folder)
    try:
        died = Died(folder)

        async def live() -> None:
            await died.live(20, 40)
            await died.ledger.dispose()

        asyncio.run(live())
    finally:
        os.chdir(here)
    return folder


def ask(folder, *words):
    return bot(*words, "--db", f"sqlite:///{folder}/ledger.db", cwd=folder)


def test_filters_choose_rows_and_csv_has_the_columns_of_json(folder):
    fills = told(ask(folder, "fills", "--json"))
    buys = told(ask(folder, "fills", "--side", "buy", "--strategy", "MarketMaker", "--json"))
    assert 0 < len(buys) < len(fills)
    assert {fill["side"] for fill in buys} == {"Buy"}
    assert told(ask(folder, "fills", "--strategy", "other", "--json")) == []
    middle = fills[len(fills) // 2]["ts"]
    stamp = f"{middle // 10**9}"
    since = told(ask(folder, "fills", "--since", iso(int(stamp)), "--json"))
    until = told(ask(folder, "fills", "--until", iso(int(stamp)), "--json"))
    assert since
    assert len(since) + len(until) == len(fills)
    assert all(fill["ts"] >= int(stamp) * 10**9 for fill in since)
    rows = list(csv.DictReader(io.StringIO(ask(folder, "fills", "--csv").stdout)))
    assert [row["price"] for row in rows] == [fill["price"] for fill in fills]
    assert rows[0].keys() == fills[0].keys()
    assert "is no time" in ask(folder, "fills", "--since", "soon").stderr


def iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def test_positions_of_a_moment_are_those_of_the_fills_before(folder):
    fills = told(ask(folder, "fills", "--json"))
    at = fills[3]["ts"] // 10**9
    held = [fill["position_qty"] for fill in fills if fill["ts"] < at * 10**9][-1]
    (row,) = told(ask(folder, "positions", "--until", iso(at), "--json"))
    assert row["position"] == held


def test_a_fill_is_explained_from_the_market_to_the_position(folder):
    story = told(ask(folder, "explain", 3, "--json"))
    assert story["fill"]["fill_id"] == 3
    steps = [each["step"] for each in story["chain"]]
    assert steps == ["order", "risk", "accepted", "market", "queue", "fill"]
    what = {each["step"]: each["what"] for each in story["chain"]}
    assert "the book was 65114.2 / 65114.3" in what["order"]
    assert "ahead of it" in what["accepted"]
    assert "a trade" in what["market"]
    assert "maker" in what["fill"]
    table = ask(folder, "explain", 3)
    assert "passed every limit" in table.stdout
    assert "has no fill 999" in one_line(ask(folder, "explain", 999))


def test_the_check_says_what_holds_and_ends_with_1_where_it_does_not(folder, tmp_path):
    schema, run = told(ask(folder, "db", "check", "--json"))
    assert (schema["ok"], run["ok"], run["run"]) == (True, True, "r1")
    broken = tmp_path / "ledger.db"
    with sqlite3.connect(folder / "ledger.db") as source, sqlite3.connect(broken) as copy:
        source.backup(copy)
        copy.execute("UPDATE fills SET position_qty = '9' WHERE fill_id = 2")
    source.close()
    copy.close()
    result = ask(tmp_path, "db", "check")
    assert result.returncode == 1
    assert "(fill 2): leads to a position of" in result.stdout


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_run_is_exported_with_every_row_of_tables_and_views(folder, tmp_path, form):
    files = told(ask(folder, "db", "export", tmp_path / "out", "--format", form, "--json"))
    rows = {each["table"]: each for each in files}
    fills = told(ask(folder, "fills", "--json"))
    assert rows["fills"]["rows"] == rows["v_fills"]["rows"] == len(fills)
    path = Path(rows["fills"]["file"])
    if form == "csv":
        found = [row["price"] for row in csv.DictReader(path.read_text().splitlines())]
    else:
        found = parquet.read_table(path).column("price").to_pylist()
    assert found == [fill["price"] for fill in fills]
    assert "snapshots" not in rows


def test_parquet_without_pyarrow_says_how_to_get_it(folder, tmp_path):
    db = f"sqlite:///{folder}/ledger.db"
    result = bot("db", "export", tmp_path / "x", "--format", "parquet", "--db", db, cwd=tmp_path,
                 without=("pyarrow",))  # fmt: skip
    assert "pip install 'kvtrader[parquet]'" in one_line(result)
