"""Prediction quality against scipy-free brute force, and the curve against all its points."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.operate.dashboard.equity import MOST_POINTS, EquityCurve
from bot.operate.dashboard.quality import population_stability, quality, rank_correlation

S = 10**9


def rows(prices, expected, horizon_s=1, chance=None):
    return [
        {"read_ts": i * S, "price": p, "horizon_ns": horizon_s * S, "expected_return": e,
         "up_probability": 0.5 if chance is None else chance[i], "trained": True}
        for i, (p, e) in enumerate(zip(prices, expected, strict=True))
    ]  # fmt: skip


def brute_rank(values):
    return [sum(o < v for o in values) + (sum(o == v for o in values) + 1) / 2 for v in values]


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=40))
def test_rank_correlation_is_pearsons_of_mean_ranks(pairs):
    first, second = map(list, zip(*pairs, strict=True))
    found = rank_correlation(np.array(first, float), np.array(second, float))
    a, b = brute_rank(first), brute_rank(second)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found is None
        return
    mean = (len(a) + 1) / 2
    top = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    bottom = math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))
    assert found == pytest.approx(top / bottom, abs=1e-9)


def test_a_model_that_knows_the_next_price_has_ic_one_and_hits_always():
    random.seed(3)
    prices = list(itertools.accumulate((random.gauss(0, 0.1) for _ in range(200)), initial=100.0))
    expected = [math.log(b / a) for a, b in itertools.pairwise(prices)] + [0.0]
    chance = [1.0 if e > 0 else 0.0 for e in expected]
    found = quality("s", "m", rows(prices, expected, chance=chance))
    assert found.n == 200
    assert found.ic == pytest.approx(1)
    assert found.hit_rate == 1
    assert found.calibration_error == 0
    assert [(said, seen) for said, seen, _ in found.calibration] == [(0, 0), (1, 1)]


def test_an_answer_whose_end_is_not_known_is_not_judged():
    found = quality("s", "m", rows([100.0] * 50, [0.1] * 50, horizon_s=10))
    assert found.n == 40
    gone = rows([100.0] * 100, [0.1] * 100)
    found = quality(
        "s", "m", gone[:50] + [{**row, "read_ts": row["read_ts"] + 10**12} for row in gone[50:]]
    )
    assert found.n == 98  # the one before the hole, and the last


def test_too_few_answers_say_nothing():
    found = quality("s", "m", rows([100.0] * 5, [0.1] * 5))
    assert (found.ic, found.hit_rate, found.drift, found.calibration) == (None, None, None, [])
    assert quality("s", "m", []) is None


def test_drift_is_small_for_one_population_and_large_for_two():
    random.seed(1)
    same = np.array([random.random() for _ in range(4000)])
    other = np.concatenate([same[:2000] * 0.5, 0.5 + same[:2000] * 0.5])
    assert population_stability(same) < 0.1
    assert population_stability(other) > 0.25
    assert population_stability(np.full(100, 0.5)) == 0


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=200), st.integers(1, 7))
def test_the_curve_ends_with_the_newest_and_knows_peak_and_deepest_fall(values, page):
    curve = EquityCurve()
    points = [(i + 1, str(v)) for i, v in enumerate(values)]
    for start in range(0, len(points), page):
        curve.add(points[start : start + page])
    drawn = curve.drawn()
    assert drawn["points"][-1][:2] == (len(values), float(values[-1]))
    peaks = list(itertools.accumulate(values, max))
    assert drawn["peak"] == peaks[-1]
    assert drawn["deepest_drawdown"] == min(v / p - 1 for v, p in zip(values, peaks, strict=True))


def test_a_long_run_is_thinned_and_its_deepest_fall_is_still_drawn():
    random.seed(2)
    values = list(itertools.accumulate((random.gauss(0, 1) for _ in range(50_000)), initial=10_000))
    values[31_337] = 1_000.0
    curve = EquityCurve()
    curve.add((i + 1, str(v)) for i, v in enumerate(values))
    drawn = curve.drawn()
    assert len(drawn["points"]) <= MOST_POINTS + 2
    times = [point[0] for point in drawn["points"]]
    assert times == sorted(set(times))
    assert min(point[2] for point in drawn["points"]) == drawn["deepest_drawdown"]
