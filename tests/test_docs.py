"""The documentation is real: its commands run, its strategy trades, its links lead somewhere."""

from __future__ import annotations

import contextlib
import inspect
import re
import shlex
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bot import build
from bot.cli import app
from bot.config import parse
from bot.core.events import BookUpdate, Candle, Fill, Instrument, Tick
from bot.core.instrument import UNIT
from bot.core.strategy import View
from tests.processes import ROOT, bot

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
GUIDES = ("quickstart", "replay-and-inspect", "operations", "troubleshooting")
SYMBOL = "linear:BTCUSDT"
WITHOUT_MODELS = {
    "BOT__MODELS__PREDICTOR__ENABLED": "false",
    "BOT__MODELS__ANALYZER__ENABLED": "false",
}
"""torch takes two seconds to load, in each of these commands."""
READERS = ("runs", "orders", "fills", "positions", "pnl", "gaps", "config")


def commands(page: Path) -> list[list[str]]:
    """The words of every `bot` command in a page's sh blocks that needs no network."""
    found = []
    for before, block in re.findall(r"([^\n]*)\n```sh\n(.*?)```", page.read_text(), re.DOTALL):
        if before.endswith("<!-- needs the network -->"):
            continue
        lines = [line for line in block.splitlines() if line.startswith("bot ")]
        found += [shlex.split(line, comments=True)[1:] for line in lines]
    return found


def call(words: list[str], folder: Path) -> None:
    """What only reads runs in this process: starting Python takes longer than the answer."""
    if words[0] in READERS:
        with contextlib.chdir(folder):
            result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (words, result.output)
        return
    done = bot(*words, cwd=folder, **WITHOUT_MODELS)
    assert done.returncode == 0, (words, done.stderr)


def test_the_guides_commands_run_one_after_the_other(tmp_path):
    done: list[list[str]] = []
    for guide in GUIDES:
        for words in commands(DOCS / f"{guide}.md"):
            if words in done:
                continue
            done.append(words)
            paths = [str(path) for each in words for path in tmp_path.glob("data/runs/*")
                     if each == "data/runs/*"]  # fmt: skip
            called = [paths[0] if each == "data/runs/*" else each for each in words]
            call(called, tmp_path)
    verbs = {words[0] for words in done}
    assert verbs >= {"init", "config", "doctor", "paper", "runs", "fills", "replay", "pnl"}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.stem)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


# --- the strategy ---------------------------------------------------------------------------------


def candle(number: int, close: float) -> Candle:
    ts = number * 60 * 10**9
    price = Decimal(str(close))
    return Candle(
        ts, ts, SYMBOL, "1", ts - 60 * 10**9, price, price, price, price, Decimal(1), price
    )


def book(ts: int, mid: float) -> BookUpdate:
    bid, ask = round((mid - 0.05) * UNIT), round((mid + 0.05) * UNIT)
    return BookUpdate(ts, ts, SYMBOL, 0, ts, ts, True, [(bid, 9 * UNIT)], [(ask, 9 * UNIT)])


def test_the_strategy_of_the_page_loads_and_trades(tmp_path, monkeypatch):
    code = re.search(
        r"```python\n# momentum\.py\n(.*?)```", (DOCS / "strategies.md").read_text(), re.DOTALL
    )
    assert code is not None
    (tmp_path / "momentum.py").write_text(code[1])
    monkeypatch.syspath_prepend(tmp_path)
    fast = {"order_latency_ms": 0, "response_latency_ms": 0, "latency_jitter_ms": 0}
    uses = [{"use": "momentum.Momentum", "name": "rises", "params": {"length": 3}}]
    settings = parse({"symbols": [SYMBOL], "exchange": fast, "strategies": uses}, "test")
    engine = build.engine(settings)
    rules = Instrument(0, 0, SYMBOL, "BTC", "USDT", Decimal("0.1"), Decimal("0.001"),
                       Decimal("0.001"), Decimal(5))  # fmt: skip
    for event in (*build.fees(settings, 0), rules):
        engine.step(event)
    fills = []
    for number, close in enumerate((100.0, 101.0, 102.0, 103.0, 102.5, 102.0), 1):
        ts = number * 60 * 10**9
        for event in (
            book(ts - 2, close),
            candle(number, close),
            book(ts + 1, close),
            Tick(ts + 2),
        ):
            fills += [fact for fact in engine.step(event) if isinstance(fact, Fill)]
    assert [fill.side for fill in fills] == ["Buy", "Sell"]
    assert engine.account.qty(SYMBOL) == 0


def test_the_page_lists_what_a_view_has():
    told = set(re.findall(r"`view\.(\w+)\(", (DOCS / "strategies.md").read_text()))
    public = {name for name, _ in inspect.getmembers(View, inspect.isfunction) if name[0] != "_"}
    assert told == public
