"""A stream of predictions, and forecasts on a fork that leave the stream as it was."""

from __future__ import annotations

import itertools
import math

import pytest

from bot.core.events import Event, Horizon
from bot.model import CANDLE_TOKENS, RealTimePricePredictor, seeded
from bot.model.predictor import next_bar
from bot.model.tokens import CANDLE_FEATURES
from tests.model.builders import MINUTE, SYMBOL, budget, candle, predictor, small_config

CANDLES: list[Event] = [candle(index) for index in range(40)]


def of_bars(manager: object = None) -> RealTimePricePredictor:
    config = small_config(CANDLE_FEATURES, 12, horizons_ns=(MINUTE, 5 * MINUTE),
                          return_scale=(1.0, 2.2), volatility_scaled=True)  # fmt: skip
    checkpoint = seeded(config, 3, name="predictor", tokens=CANDLE_TOKENS, interval="1")
    return RealTimePricePredictor(checkpoint, manager or budget(), SYMBOL)  # type: ignore[arg-type]


def test_a_stream_yields_what_take_and_predict_say() -> None:
    clock = itertools.count(0, 250_000)
    streamed = list(predictor().predict_stream(CANDLES, clock_ns=lambda: next(clock)))
    other = predictor()
    assert len(streamed) == len(CANDLES)
    for position, (event, told) in enumerate(zip(CANDLES, streamed, strict=True)):
        other.take(event, position)
        said = other.predict()
        assert said is not None
        first = said.horizons[0]
        assert told["timestamp"] == event.exchange_ts
        assert told["symbol"] == SYMBOL
        assert told["prediction"] == first.expected_return
        assert told["direction"] == ("up" if first.up_probability > 0.5 else "down")
        assert told["confidence"] == first.confidence
        assert told["latency_ms"] == 0.25
        assert told["cache_memory_mb"] == other.nbytes / 1e6 > 0


def test_history_is_read_and_not_answered() -> None:
    old = [candle(index, late_ns=3 * MINUTE) for index in range(20)]
    assert not list(predictor().predict_stream(old))


def test_a_forecast_feeds_each_bar_back_and_leaves_the_stream_alone() -> None:
    manager = budget()
    one, other = of_bars(manager), of_bars()
    for position, event in enumerate(CANDLES[:30]):
        for each in (one, other):
            each.take(event, position)
            each.predict()
    blocks = manager.metrics().used_blocks
    steps = one.forecast(5)
    assert manager.metrics().used_blocks == blocks
    last = CANDLES[29]
    assert [step.close_ts for step in steps] == [
        last.exchange_ts + (index + 1) * MINUTE for index in range(5)
    ]
    total = 0.0
    for step in steps:
        total += step.told.expected_return
        assert step.expected_return == pytest.approx(total, abs=1e-9)
    for event in CANDLES[30:]:
        for each in (one, other):
            each.take(event, 0)
        assert one.predict() == other.predict()


def test_a_forecast_is_what_the_made_up_bars_would_be_answered() -> None:
    one, other = of_bars(), of_bars()
    for each in (one, other):
        for position, event in enumerate(CANDLES[:20]):
            each.take(event, position)
            said = each.predict()
    assert said is not None
    first, second = one.forecast(2)
    assert first.told == said.horizons[0]
    other.take(next_bar(CANDLES[19], said.horizons[0], 2 * 1.6448536), 20)  # type: ignore[arg-type]
    then = other.predict()
    assert then is not None
    assert second.told.expected_return == pytest.approx(then.horizons[0].expected_return, abs=1e-9)


def test_a_made_up_bar_opens_at_the_last_close_and_spans_a_brownian_motions_mean_range() -> None:
    last = candle(0)
    told = Horizon(MINUTE, 0.001, 0.6, 0.2, (-0.02, 0.0, 0.02))
    made = next_bar(last, told, 4.0)
    assert (made.open, made.open_ts) == (last.close, last.exchange_ts)
    assert math.log(made.close / made.open) == pytest.approx(0.001)
    spread = math.log(made.high / made.low)
    assert spread == pytest.approx(math.sqrt(8 / math.pi) * 0.01)
    assert made.low <= min(made.open, made.close) <= max(made.open, made.close) <= made.high
    still = next_bar(last, Horizon(MINUTE, 0.001, 0.6, 0.2, (0.0, 0.0)), 4.0)
    assert still.high == still.close


def test_a_forecast_needs_a_prediction_and_a_horizon_of_one_bar() -> None:
    with pytest.raises(ValueError, match="needs a prediction first"):
        of_bars().forecast(3)
    other = predictor()
    other.take(CANDLES[0], 0)
    other.predict()
    with pytest.raises(ValueError, match="not one bar"):
        other.forecast(3)
