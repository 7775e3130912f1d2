import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import given
from sqlalchemy import create_engine, insert, inspect, select, text

from bot.ledger import queries
from bot.ledger.columns import Money, metadata
from bot.ledger.connect import with_connection
from bot.ledger.database import REVISIONS, LedgerError, parse_url, shown
from bot.ledger.reading import read
from bot.ledger.schema import check, current, differences, migrations_folder, open_ledger, upgrade
from bot.ledger.tables import equity
from tests.ledger.strategies import of


def test_the_migrations_make_exactly_the_tables(url):
    assert upgrade(url) == REVISIONS[-1]
    assert check(url) == []
    assert with_connection(url, lambda c: set(inspect(c).get_table_names())) == {
        *metadata.tables,
        "alembic_version",
    }


def test_the_migrations_go_down_to_nothing_and_up_again(url):
    upgrade(url)
    upgrade(url, "base")
    assert with_connection(url, lambda c: inspect(c).get_table_names()) == ["alembic_version"]
    upgrade(url)
    assert check(url) == []


def test_a_difference_from_the_tables_is_told(url):
    upgrade(url)
    with_connection(url, lambda c: c.execute(text("ALTER TABLE gaps ADD COLUMN mood TEXT")))
    assert "mood" in check(url)[0]


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    with_connection(url, lambda c: c.execute(text("CREATE TABLE gaps (x TEXT)")))
    with pytest.raises(LedgerError, match="gaps"):
        upgrade(url)
    assert with_connection(url, lambda c: inspect(c).get_table_names()) == ["gaps"]


def test_the_known_revisions_are_those_of_the_migrations():
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    walked = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(script.revision for script in walked)[::-1] == REVISIONS


async def test_an_empty_database_is_made_when_opened_for_writing(url):
    engine = await open_ledger(url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()
    engine = await open_ledger(url)
    await engine.dispose()


def set_revision(url, revision):
    upgrade(url)
    change = text("UPDATE alembic_version SET version_num = :r").bindparams(r=revision)
    with_connection(url, lambda c: c.execute(change))


def opening(url):
    return with_connection_error(lambda: read(url, queries.runs))


def with_connection_error(act):
    with pytest.raises(LedgerError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_newer_database_is_refused_with_the_way_out(url, request):
    set_revision(url, "abcd")
    message = opening(url)
    assert f"has schema 'abcd', newer than this program knows ({REVISIONS[-1]})" in message
    assert "upgrade kvtrader or use another --db" in message
    assert shown(parse_url(url)) in message
    assert with_connection_error(lambda: upgrade(url)) == message
    assert with_connection_error(lambda: check(url)) == message


async def test_a_newer_database_is_not_opened_for_writing_either(tmp_path):
    path = tmp_path / "x.db"
    url = f"sqlite:///{path}"
    await (await open_ledger(url)).dispose()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'abcd'"))
    engine.dispose()
    with pytest.raises(LedgerError, match="newer than this program knows"):
        await open_ledger(url)


def test_an_old_database_asks_for_the_upgrade(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/x.db"
    upgrade(url)
    monkeypatch.setattr("bot.ledger.database.REVISIONS", (*REVISIONS, "later"))
    assert "run `bot db upgrade`" in opening(url)


async def test_a_database_with_other_tables_of_our_names_is_not_touched(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (x TEXT)"))
    engine.dispose()
    with pytest.raises(LedgerError, match=r"tables of other origin.*\(orders\)"):
        await open_ledger(url)


def test_what_cannot_be_read_is_said_in_one_line(tmp_path):
    (tmp_path / "text.db").write_text("not a database, and long enough to look at " * 50)
    empty = f"sqlite:///{tmp_path}/empty.db"
    with_connection(empty, lambda c: c.execute(text("SELECT 1")))
    assert "no such ledger" in opening(f"sqlite:///{tmp_path}/absent.db")
    assert not (tmp_path / "absent.db").exists()
    assert "no such ledger" in with_connection_error(
        lambda: current(f"sqlite:///{tmp_path}/absent.db")
    )
    assert "not a database" in opening(f"sqlite:///{tmp_path}/text.db")
    assert "holds no ledger yet" in opening(empty)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://bob:sekret@host/db",
        "bob:sekret@host",
        "postgresql://bob:sekret@127.0.0.1:port/db",
        "postgresql://bob:sekret@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?password=sekret",
    ],
)
def test_errors_never_show_a_password(url):
    assert "sekret" not in opening(url)


def test_a_missing_postgres_database_is_named(postgres_server):
    url = postgres_server.replace("/postgres?", "/absent?")
    assert 'database "absent" does not exist' in opening(url)


@given(of(Decimal))
def test_money_is_stored_as_exact_plain_text(number):
    stored = Money().process_bind_param(number, None)
    assert Decimal(stored) == number
    assert "E" not in stored
    assert Money().process_result_value(stored, None) == number


@pytest.mark.parametrize("value", [0.1, "1", True, float("nan")])
def test_money_refuses_what_is_not_exact(value):
    with pytest.raises(TypeError, match="money must be a Decimal"):
        Money().process_bind_param(value, None)


def test_money_keeps_every_digit_in_both_databases(url):
    upgrade(url)
    exact = Decimal("12345678901234567890.123456789123456789")

    def work(connection):
        connection.execute(
            text(
                "INSERT INTO runs VALUES ('r', 'paper', 'i', 'running', 1, NULL, '{}', 'v', NULL,"
                " '{}', NULL, '', 0, '{}')"
            )
        )
        row = {"run_id": "r", "ts": 1, "position": 0, "equity": exact, "wallet": Decimal("1E+2")}
        connection.execute(insert(equity), row)
        found = connection.execute(select(equity.c.equity, equity.c.wallet)).one()
        raw = connection.execute(text("SELECT equity, wallet FROM equity")).one()
        return tuple(found), tuple(raw)

    found, raw = with_connection(url, work)
    assert found == (exact, Decimal(100))
    assert raw == ("12345678901234567890.123456789123456789", "100")


def test_reading_a_file_needs_no_migrations_no_driver_and_no_torch():
    code = (
        "import sys, bot.ledger.queries, bot.ledger.reading\n"
        "print([name for name in ('alembic', 'sqlalchemy.ext.asyncio', 'asyncpg', 'torch')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
