"""What the routes say is what the ledger holds, on both databases."""

from __future__ import annotations

import asyncio

from bot.ledger import queries
from tests.ledger.samples import BTC
from tests.operate.dashboard.conftest import HEADERS, OWN, read, serving


async def ask(client, served, path):
    async with client.get(f"{served.url}/api/{path}", headers=HEADERS) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_lists_are_the_ledgers(served, client, ledger):
    for name in ("fills", "orders", "gaps"):
        rows = await asyncio.to_thread(read, ledger, getattr(queries, name), run="r1")
        assert rows
        assert await ask(client, served, f"{name}?limit=1000") == rows
        own = [row for row in rows if row["symbol"] == BTC]
        assert await ask(client, served, f"{name}?symbol={BTC}&limit=1") == own[-1:]


async def test_the_state_by_the_ledger_alone_has_its_sums(served, client, ledger):
    state = await ask(client, served, "state")
    positions = await asyncio.to_thread(read, ledger, queries.positions, run="r1")
    total = (await asyncio.to_thread(read, ledger, queries.pnl, run="r1"))[-1]
    assert [
        (h["symbol"], h["position"], h["realized_pnl"], h["fees"]) for h in state["holdings"]
    ] == [(row["symbol"], row["position"], row["realized_pnl"], row["fees"]) for row in positions]
    assert {key: state["money"][key] for key in ("realized_pnl", "fees", "funding", "net_pnl")} == {
        key: total[key] for key in ("realized_pnl", "fees", "funding", "net_pnl")
    }
    assert state["money"]["equity"] == "9998"
    assert not state["is_live"]


async def test_equity_comes_with_its_drawdown(served, client):
    answer = await ask(client, served, "equity")
    assert [point[1] for point in answer["points"]] == [10_000, 9_999, 9_998]
    assert answer["deepest_drawdown"] == answer["points"][-1][2] == 9_998 / 10_000 - 1
    assert answer["peak"] == 10_000


async def test_a_question_that_makes_no_sense_is_told(served, client):
    for path in ("candles", "depth", "fills?limit=-1", "fills?limit=x", "log?after=" + "9" * 40):
        async with client.get(f"{served.url}/api/{path}", headers=HEADERS) as answer:
            assert answer.status == 400, path
            assert (await answer.json())["error"]


async def test_a_run_that_is_not_served_by_its_bot_takes_no_commands(ledger, client):
    async with asyncio.TaskGroup() as group:
        served, task = await serving(group, ledger, is_live=False)
        url = f"{served.url}/api/command"
        async with client.post(url, data=b'{"name":"stop"}', headers=HEADERS | OWN) as answer:
            assert answer.status == 409
        assert await ask(client, served, "log") == []
        task.cancel()


async def test_a_ledger_that_is_away_is_told_and_the_page_goes_on(ledger, client):
    async with asyncio.TaskGroup() as group:
        served, task = await serving(group, ledger, is_live=True)
        served.books._url = "sqlite:////nowhere/at/all.db"
        async with client.get(f"{served.url}/api/fills", headers=HEADERS) as answer:
            assert answer.status == 503
            assert "no such ledger" in (await answer.json())["error"]
        async with client.get(f"{served.url}/api/state", headers=HEADERS) as answer:
            assert answer.status == 200
        task.cancel()


async def test_many_askers_are_one_question(served, client, monkeypatch):
    asked = []
    real = queries.gaps
    monkeypatch.setattr(
        "bot.operate.dashboard.books.queries.gaps",
        _counted(real, asked),
    )
    await asyncio.gather(*(ask(client, served, "gaps") for _ in range(20)))
    assert len(asked) == 1


def _counted(real, asked):
    def gaps(connection, **words):
        asked.append(words)
        return real(connection, **words)

    return gaps
