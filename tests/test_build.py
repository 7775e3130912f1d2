"""Settings to the objects that decide, and a user's own strategy among them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bot import build
from bot.build import StrategyError
from bot.config import Settings

MINE = """
class Mine:
    def __init__(self, symbols, size=1.0):
        self.state = {state}
        self.symbols = symbols
        self.size = size
        {more}

    def on_event(self, event, view):
        return None
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working directory, with what is imported from it forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", ".")])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def using(use: str, **more: object) -> Settings:
    return Settings(strategies=({"use": use, **more},))


def test_a_users_own_file_in_the_working_directory_is_found(here):
    (here / "mine_a.py").write_text(MINE.format(state=None, more=""))
    ((name, symbols, strategy),) = build.strategies(
        using("mine_a.Mine", params={"size": 2.5}, symbols=["linear:ETHUSDT"])
    )
    assert (name, symbols, strategy.size) == ("Mine", ("linear:ETHUSDT",), 2.5)


def test_a_strategy_without_symbols_gets_all_of_them(here):
    (here / "mine_b.py").write_text(MINE.format(state="{}", more=""))
    ((_, symbols, strategy),) = build.strategies(using("mine_b.Mine", name="x"))
    assert symbols == strategy.symbols == ("linear:BTCUSDT", "linear:ETHUSDT")


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("import nothing_of_that_name", "no module 'nothing_of_that_name'"),
        ("def broken(:", r"SyntaxError: invalid syntax .*mine_c\.py, line 1"),
        ("x = 1 / 0", r"ZeroDivisionError: division by zero .*mine_c\.py, line 1"),
        ("from bot.core import nothing", "cannot import name 'nothing'"),
        ("Mine = 3", "Mine is not a class with `on_event`"),
        ("class Mine: pass", "Mine is not a class with `on_event`"),
        (MINE.format(state="object()", more=""), "`state` cannot be saved"),
        (MINE.format(state="{1: 2}", more=""), "`state` is not the same after saving"),
        (MINE.format(state="None", more="del self.state"), "has no `state`"),
        (MINE.format(state="None", more="raise ValueError('no\\nsize')"), "ValueError: no size"),
    ],
)
def test_a_strategy_that_cannot_be_loaded_is_one_line_that_names_it(here, file, says):
    (here / "mine_c.py").write_text(file)
    with pytest.raises(StrategyError, match=says) as caught:
        build.strategies(using("mine_c.Mine"))
    assert "mine_c.Mine" in str(caught.value)
    assert "\n" not in str(caught.value)
    sys.modules.pop("mine_c", None)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"egde": 1}, "'egde'; params: model, horizon, notional, edge"),
        ({"symbols": []}, "'symbols'; params: model"),
    ],
)
def test_a_parameter_that_the_strategy_does_not_take_is_named_with_those_it_takes(params, says):
    with pytest.raises(StrategyError, match=says):
        build.strategies(using("strategies.threshold.Threshold", params=params))


def test_two_strategies_of_one_name_and_symbols_that_nobody_reads_are_refused():
    twice = {"use": "strategies.threshold.Threshold"}
    with pytest.raises(StrategyError, match="two strategies are called 'Threshold'"):
        build.strategies(Settings(strategies=(twice, twice)))
    with pytest.raises(StrategyError, match="spot:XUSDT not among `symbols` of the config"):
        build.strategies(using("strategies.threshold.Threshold", symbols=["spot:XUSDT"]))
