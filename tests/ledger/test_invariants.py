"""Each law of the ledger: it holds for a real run, and a row that breaks it is named."""

from __future__ import annotations

import sqlite3

import pytest

from bot.ledger.connect import with_connection
from bot.ledger.invariants import BrokenLedger, check_run
from tests.test_restart import Died


@pytest.fixture
async def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Died(tmp_path)
    await made.live(20, 40)
    await made.ledger.dispose()
    return made


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
    " ready_ts, price, trained, rebuilt) VALUES ('r1', 5, 'X', 'm', 0, 1, 4, 9, 8, 1.0, 1, 0)":
        r"predictions position 5: was ready before",
    "INSERT INTO postings VALUES ('r1', -1, 5, 0, 1, NULL, 'market', 'BTC', '0')":
        r"postings n -1: is no deposit",
}  # fmt: skip


def checked(run) -> int:
    return with_connection(run.db, lambda connection: check_run(connection, "r1"))


def test_a_true_run_breaks_no_law(run):
    assert checked(run) > 50


@pytest.mark.parametrize("statement", CORRUPTIONS)
def test_a_row_that_breaks_a_law_is_named(run, statement):
    with sqlite3.connect(run.path) as database:
        assert database.execute(statement).rowcount > 0
    database.close()
    with pytest.raises(BrokenLedger, match=CORRUPTIONS[statement]):
        checked(run)
