"""Tokens that are made later are those made at once."""

from __future__ import annotations

import random
from decimal import Decimal

import numpy as np
from msgspec.structs import replace

from bot.core.events import FundingRate
from bot.model.candle_batch import CandleBatch
from bot.model.tokens import CandleTokens
from tests.model.builders import SYMBOL, candle


def test_a_batch_makes_the_very_tokens_of_the_stream_however_it_is_cut():
    dice, one, batch = random.Random(5), CandleTokens(SYMBOL, "1"), CandleBatch(SYMBOL, "1")
    expected: list[tuple[np.ndarray, float]] = []
    made: list[tuple[np.ndarray, float]] = []
    for index in range(300):
        if dice.random() < 0.05:
            continue  # a bar that is missing
        event = replace(candle(index), volume=Decimal(dice.choice((0, 3, 7))))
        if dice.random() < 0.1:
            rate = FundingRate(event.ts, event.ts, SYMBOL, Decimal(dice.randint(-5, 5)) / 10000, 0)
            assert one.read(rate) is batch.read(rate) is None
        token = one.read(event)
        assert token is not None
        expected.append((token, one.volatility))
        assert batch.read(event) is not None
        assert batch.read(event) is None  # seen already
        assert batch.close == one.close
        if dice.random() < 0.05:
            made += zip(*batch.made(batch.handed_over()), strict=True)
    made += zip(*batch.made(batch.handed_over()), strict=True)
    assert len(made) == len(expected) > 250
    for (ours, volatility), (theirs, known) in zip(made, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert volatility == known
    assert [len(part) for part in batch.made(batch.handed_over())] == [0, 0]
