"""Many assets over one context: the same numbers as alone, and weights within their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bot.kvcache import KVCacheManager
from bot.model import CANDLE_TOKENS, Checkpoint, seeded
from bot.model.allocation import YEAR_NS, Allocation, Correlations, allocate
from bot.model.portfolio import Layout, MultiAssetPortfolioInference, answers, members
from bot.model.tokens import CANDLE_FEATURES
from tests.model.builders import MINUTE, budget, candle, small_config
from tests.model.streaming import build, cache_for, caches, inputs

MARKET, ETH, SOL = "linear:BTCUSDT", "linear:ETHUSDT", "linear:SOLUSDT"
SYMBOLS = (MARKET, ETH, SOL)
DAY = 86_400 * 10**9


def checkpoint() -> Checkpoint:
    config = small_config(CANDLE_FEATURES, 24, horizons_ns=(MINUTE, 5 * MINUTE),
                          return_scale=(1.0, 2.2), volatility_scaled=True)  # fmt: skip
    return seeded(config, 3, name="portfolio", tokens=CANDLE_TOKENS, interval="1")


def portfolio(
    manager: KVCacheManager | None = None, **more: object
) -> MultiAssetPortfolioInference:
    return MultiAssetPortfolioInference(
        checkpoint(),
        manager or budget(),
        SYMBOLS,
        Layout(MARKET, own_tokens=6),
        **more,  # type: ignore[arg-type]
    )


def close(made: MultiAssetPortfolioInference, index: int, *symbols: str) -> None:
    for symbol in symbols:
        event = candle(index, symbol=symbol, seed=SYMBOLS.index(symbol))
        made.take(event, 10 * index + SYMBOLS.index(symbol))


@pytest.mark.parametrize("kv_cache_dtype", ["float32", "int8"])
def test_sharing_the_context_gives_the_numbers_of_reading_it_for_each_asset(
    kv_cache_dtype: str,
) -> None:
    model = build(torch.float32)
    context, own = inputs(8, torch.float32), [inputs(3, torch.float32, seed) for seed in (5, 6, 7)]
    manager = caches()
    shared = cache_for(model, "paged", kv_cache_dtype, manager=manager)
    with torch.inference_mode():
        model.step(context, shared)
        before = manager.metrics().used_blocks
        together = answers(model, shared, own)
        for row, tokens in zip(together, own, strict=True):
            alone = cache_for(model, "paged", kv_cache_dtype, manager=manager)
            expected = model.step(torch.cat((context, tokens)), alone)[-1]
            assert torch.allclose(row, expected, atol=1e-5)
            alone.reset()
        assert manager.metrics().used_blocks == before  # the forks gave everything back
        assert shared.position == 8
        again = answers(model, shared, own)
    assert torch.equal(together, again)


def test_there_is_an_answer_for_all_when_the_bar_has_closed_for_all() -> None:
    made = portfolio()
    for index in range(10):
        close(made, index, MARKET, ETH)
        assert made.predict() == []
        close(made, index, SOL)
        told = made.predict()
        assert [one.symbol for one in told] == list(SYMBOLS)
        assert all(one.weight is not None and len(one.horizons) == 2 for one in told)
        assert {one.read_position for one in told} == {10 * index + 2}
        assert made.predict() == []


def test_a_missing_bar_is_not_answered_and_the_next_is() -> None:
    made = portfolio()
    close(made, 0, *SYMBOLS)
    assert made.predict()
    close(made, 1, MARKET, SOL)
    assert made.predict() == []
    close(made, 2, *SYMBOLS)
    assert len(made.predict()) == 3


def test_an_evicted_context_is_built_again_with_the_same_answers() -> None:
    manager = budget()
    made, other = portfolio(manager), portfolio()
    for index in range(60):
        for each in (made, other):
            close(each, index, *SYMBOLS)
        first, second = made.predict(), other.predict()
        for one, two in zip(first, second, strict=True):
            for a, b in zip(one.horizons, two.horizons, strict=True):
                assert a.expected_return == pytest.approx(b.expected_return, abs=1e-6)
        if index % 17 == 5:
            made._shared.surrender()


def test_its_members_answer_each_for_one_asset_like_forecasters() -> None:
    whole, expected = portfolio(), portfolio()
    each = members(whole)
    assert [one.symbol for one in each] == list(SYMBOLS)
    for index in range(4):
        for member in each:
            member.take(candle(index, symbol=member.symbol, seed=SYMBOLS.index(member.symbol)),
                        10 * index + SYMBOLS.index(member.symbol))  # fmt: skip
        close(expected, index, *SYMBOLS)
        assert [one.predict() for one in each] == expected.predict()
        assert [one.predict() for one in each] == [None] * 3


def test_what_cannot_be_a_portfolio_is_refused() -> None:
    with pytest.raises(ValueError, match="each once"):
        MultiAssetPortfolioInference(checkpoint(), budget(), (ETH, ETH), Layout(MARKET))
    with pytest.raises(ValueError, match="must leave room"):
        MultiAssetPortfolioInference(checkpoint(), budget(), (ETH,), Layout(MARKET, own_tokens=24))
    with pytest.raises(ValueError, match="must be one of"):
        members(MultiAssetPortfolioInference(checkpoint(), budget(), (ETH,), Layout(MARKET, 6)))


# --- weights --------------------------------------------------------------------------------------

NUMBERS = st.lists(st.tuples(st.floats(-0.02, 0.02), st.floats(1e-4, 0.05)), min_size=1, max_size=8)


@given(
    NUMBERS, st.floats(-0.1, 1.0), st.booleans(), st.floats(0.01, 2.0), st.floats(0.01, 1.0),
    st.floats(0.1, 3.0),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_weights_never_pass_a_limit(
    numbers: list[tuple[float, float]],
    rho: float,
    long_only: bool,
    volatility: float,
    cap: float,
    gross: float,
) -> None:
    mean, deviation = (np.array(column) for column in zip(*numbers, strict=True))
    correlation = np.full((len(mean), len(mean)), rho) + (1 - rho) * np.eye(len(mean))
    rules = Allocation(long_only, volatility, cap, gross)
    weights = allocate(mean, deviation, correlation, DAY, rules)
    covariance = correlation * np.outer(deviation, deviation)
    target = volatility * math.sqrt(DAY / YEAR_NS)
    assert np.isfinite(weights).all()
    assert np.abs(weights).max() <= cap * (1 + 1e-9)
    assert np.abs(weights).sum() <= gross * (1 + 1e-9)
    assert weights @ covariance @ weights <= target**2 * (1 + 1e-9) + 1e-18
    assert not long_only or (weights >= 0).all()
    assert ((weights == 0) | (np.sign(weights) == np.sign(mean))).all()


def test_one_asset_alone_is_held_to_the_target_volatility() -> None:
    rules = Allocation(volatility=0.2, cap=10, gross=10)
    (weight,) = allocate(np.array([0.001]), np.array([0.02]), np.eye(1), DAY, rules)
    assert weight * 0.02 * math.sqrt(365) == pytest.approx(0.2)


def test_less_is_held_of_what_moves_together() -> None:
    mean, deviation = np.full(4, 0.001), np.full(4, 0.02)
    alone = allocate(mean, deviation, np.eye(4), DAY, Allocation(cap=9, gross=9))
    alike = allocate(mean, deviation, np.full((4, 4), 1.0), DAY, Allocation(cap=9, gross=9))
    assert alone.sum() == pytest.approx(2 * alike.sum())


def test_correlations_become_those_of_the_returns() -> None:
    dice = np.random.default_rng(1)
    found = Correlations(3)
    assert found.matrix[0, 1] == pytest.approx(0.5)
    for _ in range(3_000):
        common = dice.normal()
        returns = np.array([common, common + 0.1 * dice.normal(), dice.normal()]) * 0.01
        found.add(returns, np.full(3, 0.01))
    assert found.matrix[0, 1] > 0.9
    assert abs(found.matrix[0, 2]) < 0.35
    before = found.matrix.copy()
    found.add(np.array([np.nan, 0.01, np.nan]), np.full(3, 0.01))
    assert found.matrix[0, 2] == pytest.approx(before[0, 2])
    assert replace(Allocation(), cap=0.1).cap == 0.1
