"""Latency draws: pure, spread as told, never negative."""

from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from bot.core.latency import Latency


def test_without_jitter_every_draw_is_the_base() -> None:
    assert {Latency(5).draw_ns(order) for order in range(100)} == {5}
    assert Latency().draw_ns(1) == 0


@given(st.integers(0, 2**70), st.integers(0, 2**70), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_draw_depends_on_seed_and_order_only(
    seed: int, order: int, base: int, jitter: int
) -> None:
    draws = {Latency(base, jitter, seed).draw_ns(order) for _ in range(3)}
    assert len(draws) == 1
    (draw,) = draws
    assert max(0, base - 4 * jitter) <= draw <= base + 4 * jitter


def test_draws_are_the_same_for_ever() -> None:
    draws = [Latency(20_000_000, 5_000_000, seed).draw_ns(1) for seed in range(3)]
    assert draws == [7_098_725, 16_912_413, 25_362_172]


def test_draws_are_spread_like_a_normal_of_the_jitter() -> None:
    latency = Latency(10**9, 10**8, 7)
    draws = [latency.draw_ns(order) for order in range(20_000)]
    assert abs(statistics.mean(draws) - 10**9) < 3 * 10**6
    assert abs(statistics.stdev(draws) - 10**8) < 3 * 10**6
    within = sum(abs(draw - 10**9) < 10**8 for draw in draws) / len(draws)
    assert 0.64 < within < 0.72


def test_neighbouring_orders_and_seeds_do_not_follow_each_other() -> None:
    draws = [Latency(10**9, 10**8, 7).draw_ns(order) for order in range(2000)]
    others = [Latency(10**9, 10**8, 8).draw_ns(order) for order in range(2000)]
    assert abs(statistics.correlation(draws[1:], draws[:-1])) < 0.1
    assert abs(statistics.correlation(draws, others)) < 0.1


def test_a_latency_is_never_negative() -> None:
    assert min(Latency(1, 10**9, 3).draw_ns(order) for order in range(1000)) == 0
