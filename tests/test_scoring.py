"""Predictions held against what came: events in, scores out."""

from __future__ import annotations

import math
import random
from decimal import Decimal

import msgspec
import numpy as np
import pytest

from bot.alarm import INPUTS, SCORES, Alarm, drift_reasons, score_reasons
from bot.config_trade import Watch
from bot.core.events import BookUpdate, Candle, Event, FeedDown, Horizon, Prediction
from bot.scoring import Figures, Scored, Scoring, State, rank_correlation

S = 10**9
SYMBOL = "linear:BTCUSDT"


class Market:
    """Mids that the test sets, told as book updates."""

    def __init__(self) -> None:
        self.value: float | None = None
        self.scoring = Scoring(lambda _: self.value)
        self.position = 0
        self.told: list[Scored] = []

    def give(self, event: Event) -> list[Scored]:
        told = self.scoring.step(self.position, event)
        self.position += 1
        self.told += told
        return told

    def mid(self, second: float, value: float | None) -> list[Scored]:
        self.value = value
        ts = round(second * S)
        return self.give(BookUpdate(ts, ts, SYMBOL, 50, 1, 1, False, [], []))

    def close(self, minute: int, price: object) -> list[Scored]:
        ts = minute * 60 * S
        value = Decimal(str(price))
        return self.give(Candle(ts + S // 100, ts, SYMBOL, "1", ts - 60 * S, value, value, value,
                                value, Decimal(1), Decimal(0)))  # fmt: skip

    def predict(
        self, second: float, price: float, *horizons_s: float, late: float = 0.0, up: float = 0.6
    ) -> list[Scored]:
        read = round(second * S)
        spans = tuple(Horizon(round(h * S), 0.001, up, abs(2 * up - 1)) for h in horizons_s)
        ts = round((second + late) * S)
        said = Prediction(ts, SYMBOL, "m", self.position - 1, read, ts, price, spans)
        return self.give(said)


def test_a_mid_that_stood_when_the_horizon_passed_is_the_outcome() -> None:
    market = Market()
    market.mid(10, 100.0)
    market.predict(10, 100.0, 1.0, 5.0, late=0.1)
    assert market.mid(10.9, 101.0) == []
    (first,) = market.mid(11.2, 150.0)  # 101 stood at 11.0
    assert first.outcome == pytest.approx(math.log(1.01))
    assert (first.horizon, first.read_ts, first.expected_return) == (0, 10 * S, 0.001)
    (second,) = market.mid(15.5, 90.0)
    assert second.outcome == pytest.approx(math.log(1.5))
    assert market.scoring.state.scored == 2


def test_a_book_that_was_lost_leaves_the_horizon_unjudged() -> None:
    market = Market()
    market.mid(10, 100.0)
    market.predict(10, 100.0, 1.0)
    market.give(FeedDown(round(10.5 * S), SYMBOL, "gap"))
    assert market.mid(11.2, 101.0) == []
    market.predict(11.2, 101.0, 1.0)
    market.mid(11.5, None)  # crossed
    assert market.mid(12.5, 102.0) == []
    assert market.scoring.state.lost == 2


def test_a_prediction_that_came_after_its_own_horizon_is_counted_and_not_judged() -> None:
    market = Market()
    market.mid(10, 100.0)
    market.predict(10, 100.0, 0.1, late=0.2)
    assert market.mid(11, 100.0) == []
    assert market.scoring.state.lost == 1


def test_a_bars_prediction_is_judged_by_the_close_that_many_bars_later() -> None:
    market = Market()
    market.mid(0, 100.0)
    market.close(1, 100)
    market.predict(60.02, 100.0, 60.0, 120.0)
    market.mid(121, 500.0)  # mids do not matter
    (first,) = market.close(2, 102)
    assert first.outcome == pytest.approx(math.log(1.02))
    (second,) = market.close(3, 99)
    assert (second.horizon, second.outcome) == (1, pytest.approx(math.log(0.99)))


def test_a_bar_that_never_came_leaves_its_horizon_unjudged() -> None:
    market = Market()
    market.close(1, 100)
    market.predict(60.02, 100.0, 60.0)
    assert market.close(3, 105) == []
    assert market.scoring.state.lost == 1


def test_a_late_answer_for_an_older_bar_is_judged_at_once() -> None:
    market = Market()
    market.close(1, 100)
    position = market.position - 1
    market.close(2, 110)
    said = Prediction(121 * S, SYMBOL, "m", position, 60 * S, 121 * S, 100.0,
                      (Horizon(60 * S, 0.001, 0.6, 0.2),))  # fmt: skip
    (told,) = market.give(said)
    assert told.outcome == pytest.approx(math.log(1.1))


def stream(events: int, seed: int = 1) -> list[tuple[str, float, float | None]]:
    dice = random.Random(seed)
    second, mid = 0.0, 100.0
    found: list[tuple[str, float, float | None]] = []
    for _ in range(events):
        second += dice.random()
        mid *= 1 + dice.gauss(0, 1e-4)
        found.append(("mid", second, mid if dice.random() > 0.02 else None))
        if dice.random() < 0.5:
            found.append(("predict", second, mid))
    return found


def play(market: Market, script: list[tuple[str, float, float | None]]) -> None:
    for what, second, value in script:
        if what == "mid":
            market.mid(second, value)
        else:
            market.predict(second, value or 1.0, 1.0, 10.0)


def test_a_state_saved_anywhere_goes_on_as_if_it_had_never_stopped() -> None:
    script = stream(400)
    whole = Market()
    play(whole, script)
    assert len(whole.told) > 100
    for cut in (1, 150, 399):
        first = Market()
        play(first, script[:cut])
        second = Market()
        saved = msgspec.json.encode(first.scoring.state)
        second.scoring.state = msgspec.json.decode(saved, type=State)
        second.position, second.value = first.position, first.value
        play(second, script[cut:])
        assert [*first.told, *second.told] == whole.told


def test_every_horizon_is_judged_once_or_counted_as_lost() -> None:
    market = Market()
    play(market, stream(600, seed=3))
    asked = sum(2 for what, *_ in stream(600, seed=3) if what == "predict")
    waiting = sum(
        len(entries)
        for by_key in market.scoring.state.on_mids.values()
        for entries in by_key.values()
    )
    assert len(market.told) + market.scoring.state.lost + waiting == asked


# --- figures and the alarm ------------------------------------------------------------------------


def test_rank_correlation_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    dice = np.random.default_rng(2)
    x = dice.normal(size=200).round(1)
    y = x + dice.normal(size=200)
    expected = stats.spearmanr(x, y).statistic
    assert rank_correlation(x.tolist(), y.tolist()) == pytest.approx(expected)
    assert rank_correlation([1.0, 1.0], [1.0, 2.0]) is None


def test_figures_are_those_of_the_last_outcomes() -> None:
    market = Market()
    for minute in range(1, 1_300):
        market.close(minute, 100 + (minute >= 250) * (minute % 2))
        market.predict(minute * 60 + 0.02, 100.0 + (minute >= 250) * (minute % 2), 60.0, up=0.75)
    (figures,) = market.scoring.figures()
    assert figures.n == 1_000
    assert figures.horizon_s == 60
    assert figures.rank_ic is None  # it always says the same
    assert figures.hit_rate == pytest.approx(0.5)
    assert figures.calibration_error == pytest.approx(0.25)
    expected = -(math.log(0.75) + math.log(0.25)) / 2
    assert figures.log_loss == pytest.approx(expected)


POOR = Figures("m", 1.0, 500, -0.2, 0.4, 0.7, 0.3)


@pytest.mark.parametrize(
    ("watch", "said"),
    [
        (Watch(), None),
        (Watch(least_rank_ic=-0.1), "rank IC -0.2000 is below -0.1"),
        (Watch(least_rank_ic=-0.3), None),
        (Watch(most_calibration_error=0.2), "calibration error 0.3000 is above 0.2"),
        (Watch(least_rank_ic=-0.1, least_scored=501), None),
    ],
)
def test_a_figure_past_its_limit_is_a_reason(watch: Watch, said: str | None) -> None:
    reason = next(score_reasons(watch, [POOR]), None)
    assert (reason is None) == (said is None)
    assert said is None or said in (reason or "")


def test_inputs_that_drifted_are_a_reason() -> None:
    watch = Watch(most_drift=0.25)
    assert next(drift_reasons(watch, {"m": 0.2}), None) is None
    assert "0.400 is above 0.25" in next(drift_reasons(watch, {"m": 0.4}))
    assert next(drift_reasons(Watch(), {"m": 9.0}), None) is None


def test_the_alarm_speaks_once_for_each_source() -> None:
    market = Market()
    spoken: list[tuple[str, str]] = []
    watch = Watch(most_calibration_error=0.2, most_drift=0.25, least_scored=50, command="pause")
    alarm = Alarm(watch, market.scoring, lambda: {"m": 0.3},
                  lambda name, source, reason: spoken.append((name, source)))  # fmt: skip
    for minute in range(1, 400):
        market.close(minute, 100 + minute % 2)
        market.predict(minute * 60 + 0.02, 100.0 + minute % 2, 60.0, up=0.95)
        alarm(0, FeedDown(minute * 60 * S, "", ""), [])
    assert sorted(spoken) == [("pause", INPUTS), ("pause", SCORES)]


def test_the_alarm_looks_at_one_series_a_second_in_turn() -> None:
    scoring, spoken = Scoring(lambda _: None), []
    for horizon, up in enumerate((0.5, 0.5, 0.99)):
        scoring.state.recent[f"m {horizon}"] = [
            Scored(0, SYMBOL, "m", horizon, S, 0, 0, 0.001, up, 0.01 * (-1) ** n) for n in range(50)
        ]
    watch = Watch(most_calibration_error=0.2, least_scored=50)
    alarm = Alarm(watch, scoring, dict, lambda *said: spoken.append(said))
    looks = []
    for tick in range(40):  # ten a second
        alarm(0, FeedDown(tick * S // 10, "", ""), [])
        looks.append(len(spoken))
    (first,) = [tick for tick in range(40) if looks[tick] and not looks[tick - 1]]
    assert first in (0, 10, 20)  # one of three looks meets the bad series
    assert [source for _, source, _ in spoken] == [SCORES]


def test_an_alarm_without_limits_works_out_no_figures() -> None:
    class Unread(Scoring):
        def figures_of(self, key: str) -> Figures:
            raise AssertionError(key)

    market = Market()
    market.scoring = Unread(lambda _: market.value)
    market.close(1, 100)
    market.predict(60.02, 100.0, 60.0)
    market.close(2, 101)
    assert market.scoring.series()
    Alarm(Watch(), market.scoring, dict, lambda *_: None)(0, FeedDown(S, "", ""), [])
