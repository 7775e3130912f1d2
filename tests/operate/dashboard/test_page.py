"""The page in a real browser: nothing in its console, and its numbers are the ledger's."""

from __future__ import annotations

import asyncio
import re
import signal

from bot.ledger import queries, reading
from tests.conftest import TRADING
from tests.operate.dashboard.chromium import page
from tests.processes import Bot

ON = {"BOT__DASHBOARD__ENABLED": "true"}
CELLS = """[...document.querySelectorAll('#{table} tbody tr')].map(
  row => [...row.cells].map(cell => cell.dataset.exact ?? cell.textContent))"""
HEIGHTS = "[...document.querySelectorAll('.third')].map(each => each.offsetHeight)"
TWO_FRAMES = """new Promise(
  done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))"""
EXACT = "document.getElementById('{id}').dataset.exact"


def address(bot: Bot) -> str:
    found: list[str] = []

    def told() -> bool:
        found.extend(re.findall(r"^dashboard: (\S+)$", bot.errors, re.MULTILINE))
        return bool(found)

    bot.wait_for(told, "the dashboard's address")
    return found[0]


async def in_thread(work, *args):
    return await asyncio.to_thread(work, *args)


async def test_a_live_runs_page_shows_the_ledgers_numbers_takes_commands_and_has_no_errors(
    tmp_path,
):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(TRADING)
    with Bot(folder, **ON) as bot:
        url = await in_thread(address, bot)
        await in_thread(bot.wait_for, lambda: len(bot.rows("fills")) >= 3, "fills")
        async with page(tmp_path / "browser") as view:
            await view.size(1440, 1200)
            await view.open(url)
            await view.until("document.querySelectorAll('#fills tbody tr').length >= 3")
            assert "token" not in await view.run("location.href")
            await pause(view)
            await in_thread(bot.wait_for, lambda: paused(bot), "the pause in the ledger")
            await click(view, "cancel_all")
            await click(view, "flatten")
            await settled(view, bot)
            await numbers_are_the_ledgers(view, bot)
            for theme in ("dark", "light"):
                await view.run("document.getElementById('theme').click()")
                assert await view.run("document.documentElement.dataset.theme") == theme
            await keeps_its_shape_over_a_phones(view)
            assert view.problems == []
            await click(view, "stop")
            summary = await in_thread(bot.summary)
    assert summary["clean"]
    assert summary["ended_by"] == "user: stopped on the dashboard"
    token = url.partition("token=")[2].encode()
    holders = [path for path in folder.rglob("*") if path.is_file() and token in path.read_bytes()]
    assert [str(path) for path in holders] == [bot._errors.name]  # where it was announced
    log = [line for line in bot.errors.splitlines() if not line.startswith("dashboard: ")]
    assert token.decode() not in "".join(log)


def paused(bot: Bot) -> bool:
    db = f"sqlite:///{bot.folder}/data/kvtrader.db"
    return reading.read(db, queries.counts)["commands"] >= 3  # the warm-up's two before it


async def pause(view) -> None:
    await view.until("document.getElementById('status').textContent === 'trading'")
    await view.run("document.querySelector('[data-command=pause]').click()")
    await view.run("document.querySelector('#confirm [value=no]').click()")  # thought better of
    await click(view, "pause")
    await view.until("document.getElementById('status').textContent === 'reducing'")


async def click(view, name: str) -> None:
    await view.run(f"document.querySelector('[data-command={name}]').click()")
    await view.until("document.getElementById('confirm').open")
    await view.run("document.getElementById('confirm-yes').click()")


async def settled(view, bot: Bot) -> None:
    """Paused, flat, without orders: nothing is left to reduce, only the market moves."""
    db = f"sqlite:///{bot.folder}/data/kvtrader.db"

    def is_flat() -> bool:
        return all(row["position"] == "0" for row in reading.read(db, queries.positions))

    await in_thread(bot.wait_for, is_flat, "a flat account")
    await view.until("document.querySelector('#orders td').textContent === 'no open orders'")
    await asyncio.sleep(3)


async def numbers_are_the_ledgers(view, bot: Bot) -> None:
    fills = await in_thread(bot.rows, "fills")
    db = f"sqlite:///{bot.folder}/data/kvtrader.db"
    positions = await in_thread(lambda: reading.read(db, queries.positions))
    total = (await in_thread(lambda: reading.read(db, queries.pnl)))[-1]
    await view.until(f"document.getElementById('fills-count').dataset.exact === '{len(fills)}'")
    await view.until(
        f"document.querySelector('#fills td').textContent === '{fills[-1]['fill_id']}'"
    )
    rows = await view.run(CELLS.format(table="fills"))
    assert [(int(row[0]), row[2], row[4], row[5], row[6], row[7]) for row in rows] == [
        (f["fill_id"], f["side"], f["qty"], f["price"], f["fee"], f["realized_pnl"])
        for f in reversed(fills[-100:])
    ]
    held = await view.run(CELLS.format(table="positions"))
    assert [(row[1], row[2], row[5], row[6]) for row in held] == [
        (p["position"], p["average_entry"] or "\N{EN DASH}", p["realized_pnl"], p["fees"])
        for p in positions
    ]
    assert await view.run(EXACT.format(id="net_pnl")) == total["net_pnl"]


async def keeps_its_shape_over_a_phones(view) -> None:
    """A page that was narrow and is wide again is as high as before: no plot holds it open."""
    before = await view.run(HEIGHTS)
    for _ in range(2):
        await view.size(390, 844)
        await view.until("innerWidth === 390")
        assert await view.run("document.documentElement.scrollWidth") == 390
        await view.run(TWO_FRAMES)
        await view.size(1440, 1200)
        await view.until("innerWidth === 1440")
        await view.run(TWO_FRAMES)
    assert await view.run(HEIGHTS) == before


async def test_an_ended_runs_page_is_drawn_from_the_ledger_alone(tmp_path, recorded):
    """`bot dashboard` in a process of its own."""
    with Dashboard(recorded.folder, **ON) as bot:
        url = await in_thread(address, bot)
        async with page(tmp_path / "browser") as view:
            await view.open(url)
            await view.until("document.querySelectorAll('#fills tbody tr').length >= 30")
            await view.until("document.querySelectorAll('#gaps tbody tr').length >= 7")
            assert await view.run("document.getElementById('status').textContent") == "finished"
            assert await view.run("document.getElementById('commands').hidden")
            shown = await view.run(EXACT.format(id="net_pnl"))
            db = f"sqlite:///{recorded.folder}/data/kvtrader.db"
            assert shown == reading.read(db, queries.pnl)[-1]["net_pnl"]
            assert view.problems == []
        bot._process.send_signal(signal.SIGINT)
        bot._process.communicate(timeout=20)
        assert bot._process.returncode == 0


class Dashboard(Bot):
    """A ``bot dashboard`` of the latest run in a folder."""

    VERB = ("dashboard",)
