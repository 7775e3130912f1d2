"""Each law of the ledger: it holds for a real run, and a row that breaks it is named."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

import pytest
from sqlalchemy import Connection

from bot.ledger.connect import with_connection
from bot.ledger.invariants import BrokenLedger, check_run
from bot.ledger.schema import open_ledger
from tests.conftest import new_database
from tests.ledger.samples import life
from tests.test_restart import Died


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def db(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A run with fills and snapshots in either database; what a test changes is rolled back."""
    folder = tmp_path_factory.mktemp("laws")
    url = ""
    if request.param == "postgres":
        url = asyncio.run(new_database(request.getfixturevalue("postgres_server"), "laws"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made = Died(folder, url)
        asyncio.run(_lived(made))
        yield made.db


async def _lived(made: Died) -> None:
    await made.live(20, 40)
    await made.ledger.dispose()


LIQUIDATED = 3
"""A life in which a position is taken over and another opened and closed."""
CORRUPTIONS = {
    "DELETE FROM orders WHERE n = (SELECT MIN(n) FROM orders)": r"quotes n 0: stands beside",
    "DELETE FROM fills WHERE fill_id = 2": r"quotes n \d+: stands beside no order or fill",
    "UPDATE fills SET position_qty = '9' WHERE fill_id = 2": r"fills n \d+ \(fill 2\): leads to",
    "UPDATE fills SET realized_pnl = '9' WHERE fill_id = 2": r"\(fill 2\): realizes .*, not 9",
    "UPDATE fills SET leaves = '7' WHERE fill_id = 1": r"\(fill 1\): leaves 7 of order",
    "UPDATE fills SET order_id = 999 WHERE fill_id = 1": r"\(fill 1\): of order 999",
    "UPDATE fills SET fill_id = 77 WHERE fill_id = 1": r"\(fill 77\): fill 1 should come here",
    "UPDATE fills SET fee = '1' WHERE fill_id = 1": r"postings n \d+ leg \d: is .* should be",
    "UPDATE orders SET tag = 'x' WHERE order_id = 1": r"runs r1: its digest is",
    "UPDATE order_events SET order_id = 999 WHERE kind = 'Accepted'": r"n \d+: of order 999",
    "UPDATE runs SET facts = 3": r"runs r1: says 3 facts, the tables have",
    "UPDATE runs SET digest = 'x'": r"runs r1: its digest is x, its facts make",
    "UPDATE postings SET amount = '5' WHERE leg = 0 AND n > 0": r"postings n \d+: sum to",
    "UPDATE postings SET account = 'fees' WHERE leg = 0 AND n > 0": r"postings n \d+ leg 0: is",
    "DELETE FROM postings WHERE asset = 'linear:BTCUSDT'": r"postings n \d+.*(is|has) ",
    "UPDATE postings SET n = 0 WHERE n = (SELECT MAX(n) FROM postings)": r"postings n \d+: has",
    "UPDATE positions SET qty = '5'": r"positions n \d+: linear:BTCUSDT is 5, held was",
    "UPDATE positions SET n = 0 WHERE n = (SELECT MAX(n) FROM positions)": r"positions n 0",
    "UPDATE equity SET wallet = '5'": r"equity ts \d+: wallet 5, posted",
    "UPDATE quotes SET bid = '9', ask = '8'": r"quotes n \d+: bid 9 above ask 8",
    "UPDATE snapshots SET body = x'00' WHERE position = 20": r"snapshots position 20: damaged",
    "UPDATE snapshots SET digest = 'x' WHERE position = 20": r"snapshots position 20: its first",
    "INSERT INTO gaps VALUES ('r1', 5, 'linear:X', 10, 'gap', 6, 9)": r"gaps position 5 linear:X",
    "INSERT INTO funding_paid VALUES ('r1', 1, 1, 1, 1, 'linear:BTCUSDT', 1, '0', '1', '0', '0')":
        r"doubled",
    "INSERT INTO predictions (run_id, position, symbol, model, horizon, ts, read_position, read_ts,"
    " ready_ts, price, trained, rebuilt)"
    " VALUES ('r1', 5, 'X', 'm', 0, 1, 4, 9, 8, 1.0, TRUE, FALSE)":
        r"predictions position 5: was ready before",
    "INSERT INTO postings VALUES ('r1', -1, 5, 0, 1, NULL, 'market', 'BTC', '0')":
        r"postings n -1: is no deposit",
}  # fmt: skip


def checked_after(db: str, statement: str, run_id: str = "r1") -> int:
    """Change rows, check the run, and roll back what was changed if a law is broken."""

    def work(connection: Connection) -> int:
        if connection.dialect.name == "postgresql":
            changed = connection.exec_driver_sql(statement.replace("x'00'", r"'\x00'"))
        else:
            changed = connection.exec_driver_sql(statement)
        assert changed.rowcount > 0
        return check_run(connection, run_id)

    return with_connection(db, work)


def test_a_true_run_breaks_no_law(db):
    assert with_connection(db, lambda connection: check_run(connection, "r1")) > 50


@pytest.mark.parametrize("statement", CORRUPTIONS)
def test_a_row_that_breaks_a_law_is_named(db, statement):
    with pytest.raises(BrokenLedger, match=CORRUPTIONS[statement]):
        checked_after(db, statement)


async def test_a_run_trades_on_after_a_liquidation_of_what_it_held(url):
    ledger = await open_ledger(url)
    await life(ledger, "r1", LIQUIDATED, Random(1))
    await ledger.dispose()
    statement = "UPDATE liquidations SET position_qty = '9'"
    with pytest.raises(BrokenLedger, match=r"liquidations n \d+: of a position of 9, held was"):
        await asyncio.to_thread(checked_after, url, statement)
    checked = await asyncio.to_thread(with_connection, url, lambda c: check_run(c, "r1"))
    assert checked > 50
