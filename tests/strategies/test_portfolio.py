"""The portfolio strategy holds what the weights say."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bot.core.events import Order, Signal
from strategies.portfolio import Portfolio
from tests.builders import LINEAR, SPOT, Paper, prediction, rules


def paper(symbol: str = LINEAR, **params: object) -> Paper:
    strategy = Portfolio((symbol,), **params)  # type: ignore[arg-type]
    fine = rules(symbol, qty_step="0.001", min_qty="0.001")
    return Paper(symbol=symbol, instrument=fine, script=strategy, usdt=10_000)


def weigh(
    made: Paper, t: float, weight: float | None, **changes: object
) -> list[tuple[str, float]]:
    said = replace(prediction(t, 0.001, model="portfolio", symbol=made.symbol), weight=weight)
    facts = made.step(replace(said, **changes))
    made.book(t + 0.5)
    return [(fact.side, float(fact.qty)) for fact in facts if type(fact) is Order]


def test_a_weight_is_a_share_of_the_equity() -> None:
    made = paper()
    assert weigh(made, 1, 0.3) == [("Buy", pytest.approx(0.3 * 10_000 / 100.05, abs=0.001))]
    (signal,) = made.made(Signal)
    assert signal.reason == "portfolio gives it 0.3000 of 10000.00"


def test_a_difference_within_the_band_is_left_alone() -> None:
    made = paper(band=0.05)
    assert weigh(made, 1, 0.3)
    assert weigh(made, 2, 0.33) == []
    ((side, qty),) = weigh(made, 3, 0.2)
    assert side == "Sell"
    assert qty == pytest.approx(0.1 * 10_000 / 100.05, rel=0.02)


def test_a_negative_weight_is_a_short_and_on_spot_nothing() -> None:
    ((side, _),) = weigh(paper(), 1, -0.2)
    assert side == "Sell"
    assert weigh(paper(SPOT), 1, -0.2) == []


def test_a_weight_of_nothing_closes_even_a_small_position() -> None:
    made = paper(band=0.05)
    weigh(made, 1, 0.06)
    assert weigh(made, 2, 0.02) == []
    ((side, qty),) = weigh(made, 3, 0.0)
    assert (side, qty) == ("Sell", pytest.approx(0.06 * 10_000 / 100.05, abs=0.001))


def test_untrained_weights_and_other_models_are_not_traded() -> None:
    assert weigh(paper(), 1, 0.3, trained=False) == []
    assert weigh(paper(), 1, 0.3, model="predictor") == []
    assert weigh(paper(), 1, None) == []
    assert weigh(paper(trust_untrained=True), 1, 0.3, trained=False)


def test_leverage_multiplies() -> None:
    ((_, qty),) = weigh(paper(leverage=2.0), 1, 0.1)
    assert qty == pytest.approx(0.2 * 10_000 / 100.05, abs=0.001)
