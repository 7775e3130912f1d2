"""The population stability index, by hand and on tokens that change."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec.structs import replace

from bot.model import BOOK_TOKENS, RealTimePricePredictor
from bot.model.checkpoint import load, save
from bot.model.drift import InputDrift, input_shares, stability_indices
from tests.model.builders import budget, candle, candle_checkpoint

DICE = np.random.default_rng(1)
TRAINED = DICE.normal(size=(5_000, 3)).astype(np.float32)
TRAINED[:, 2] = DICE.integers(0, 2, size=5_000)  # a flag


def test_the_index_is_siddiqis() -> None:
    counts = np.array([[50, 50, *[0] * 8]])
    expected = np.array([[0.25, 0.75, *[0.0] * 8]])
    by_hand = (0.5 - 0.25) * math.log(2) + (0.5 - 0.75) * math.log(0.5 / 0.75)
    assert stability_indices(counts, expected)[0] == pytest.approx(by_hand)


def test_the_same_market_has_a_small_index_and_another_a_large_one() -> None:
    same, other = (InputDrift(input_shares(TRAINED), window=1_000) for _ in range(2))
    for _ in range(8):
        tokens = DICE.normal(size=(250, 3)).astype(np.float32)
        tokens[:, 2] = DICE.integers(0, 2, size=250)
        same.add(tokens)
        other.add(tokens * 3 + 1)
    assert same.index is not None
    assert other.index is not None
    assert same.index < 0.05
    assert other.index > 0.5


def test_a_quarter_of_a_window_comes_first_and_what_is_old_is_forgotten() -> None:
    drift = InputDrift(input_shares(TRAINED), window=1_000)
    drift.add(TRAINED[:50] + 5)
    assert drift.index is None
    for start in range(0, 2_000, 50):
        drift.add(TRAINED[start : start + 50])
    assert drift.index is not None
    assert drift.index < 0.1


def test_a_forecaster_tells_the_drift_of_its_own_tokens_and_the_card_keeps_the_shares(
    tmp_path,
) -> None:
    checkpoint = candle_checkpoint()
    rng = np.random.default_rng(2)
    features = checkpoint.card.config.features
    inputs = input_shares(rng.normal(size=(1_000, features)).astype(np.float32))
    known = replace(checkpoint, card=replace(checkpoint.card, inputs=inputs))
    save(known, tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").card == known.card
    forecaster = RealTimePricePredictor(known, budget(), "linear:BTCUSDT")
    assert RealTimePricePredictor(checkpoint, budget(), "linear:BTCUSDT").drift is None
    for index in range(600):
        forecaster.take(candle(index), index)
    assert forecaster.drift is not None
    assert forecaster.drift > 0.5
    assert known.card.tokens != BOOK_TOKENS
