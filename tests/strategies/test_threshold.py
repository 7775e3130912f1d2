"""The threshold strategy decides what its docstring says."""

from __future__ import annotations

import pytest

from bot.core.events import Order, Signal
from strategies.threshold import Threshold
from tests.builders import LINEAR, SPOT, Paper, prediction, rules

COST = 2 * 0.00055 + 0.1 / 100.05
"""Two taker fees and the spread of the book that tests start from."""
EDGE = 0.0002


def paper(symbol: str = LINEAR, **how: object) -> Paper:
    strategy = Threshold((symbol,), notional=1000.0, edge=EDGE)
    fine = rules(symbol, qty_step="0.001", min_qty="0.001")
    return Paper(symbol=symbol, instrument=fine, script=strategy, **how)


def expect(made: Paper, t: float, expected: float, **how: object) -> list[object]:
    facts = made.step(prediction(t, expected, symbol=made.symbol, **how))
    made.book(t + 0.5)
    return [(f.side, str(f.qty)) for f in facts if type(f) is Order]


@pytest.mark.parametrize(
    ("expected", "orders"),
    [
        (COST + EDGE * 1.01, [("Buy", "9.995")]),
        (COST + EDGE * 0.99, []),
        (-COST - EDGE * 1.01, [("Sell", "9.995")]),
        (-COST - EDGE * 0.99, []),
        (0.0, []),
    ],
)
def test_it_trades_when_the_return_beats_cost_and_edge(
    expected: float, orders: list[object]
) -> None:
    made = paper()
    assert expect(made, 1, expected) == orders
    assert len(made.made(Signal)) == len(orders)


def test_its_signal_is_its_target_and_its_reason() -> None:
    made = paper()
    expect(made, 1, 0.01)
    (signal,) = made.made(Signal)
    assert signal.target == pytest.approx(1000 / 100.05)
    assert signal.reason == f"predictor expects 0.010000, costs are {COST:.6f}"
    assert made.script.state.targets == {LINEAR: signal.target}


def test_a_position_of_the_right_sign_stays() -> None:
    made = paper()
    expect(made, 1, 0.01)
    assert expect(made, 2, 0.05) == []
    assert expect(made, 3, 0.0001) == []


@pytest.mark.parametrize("expected", [-0.0001, 0.0])
def test_a_position_is_closed_when_the_return_no_longer_points_its_way(expected: float) -> None:
    made = paper()
    expect(made, 1, 0.01)
    assert expect(made, 2, expected) == [("Sell", "9.995")]
    assert made.account.qty(LINEAR) == 0
    assert made.made(Signal)[-1].target == 0
    assert expect(made, 3, expected) == []


def test_a_short_is_closed_by_a_positive_return() -> None:
    made = paper()
    expect(made, 1, -0.01)
    assert expect(made, 2, 0.0001) == [("Buy", "9.995")]


def test_a_strong_opposite_return_turns_the_position() -> None:
    made = paper()
    expect(made, 1, 0.01)
    assert expect(made, 2, -0.01) == [("Sell", "19.99")]
    assert made.view.position(LINEAR) == -9.995


def test_it_waits_for_its_order() -> None:
    made = paper(latency_ms=100)
    assert expect(made, 1, 0.01) == [("Buy", "9.995")]
    assert expect(made, 2, -0.01) == []


def test_it_follows_its_own_model_and_only_a_trusted_book() -> None:
    made = paper()
    assert expect(made, 1, 0.01, model="other") == []
    made.gap(2)
    assert [f for f in made.step(prediction(3, 0.01)) if type(f) is Order] == []


def test_on_spot_it_buys_and_sells_but_does_not_go_short() -> None:
    made = paper(SPOT)
    assert expect(made, 1, -0.01) == []
    assert expect(made, 2, 0.01) == [("Buy", "9.995")]
    assert expect(made, 3, -0.01) == [("Sell", "9.989")]
    assert made.ends() == []
    assert 0 < made.view.position(SPOT) < 0.001
