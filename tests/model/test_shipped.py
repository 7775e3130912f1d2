"""The predictor that ships: its cache says what its training said, over real candles."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch

from bot.model.baselines import load_baselines
from bot.model.checkpoint import at_interval, load
from bot.model.crops import predicted
from bot.model.dataset import Series, candle_segments, join
from bot.model.registry import ROLES, Registry
from bot.model.samples import samples_of
from bot.model.streamed import Running, predict
from bot.model.tokens import Bars
from tests.venue.real_data import real

ALLOWED = 0.005
"""Of a probability: what docs/kv-cache.md tells of the int8 cache."""


def streamed_against_trained(rows: int) -> float:
    """The largest difference of a probability between the int8 cache and the banded forward."""
    with gzip.open(real("bybit_candles/linear_ETHUSDT_15m.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1, max_rows=rows)
    ts, opened, high, low, close, volume = table.T[:6]
    unknown = np.full(len(ts), np.nan)
    bars = Bars(
        ts.astype(np.int64) * 1_000_000, opened, high, low, close, volume, unknown
    )  # funding is not in this file
    segments = candle_segments(Series("linear:ETHUSDT", "15"), bars)
    data = join(segments, kind="candles", venue="bybit", sources={})
    model = at_interval(load(Registry().find("predictor").path), "15")
    every = np.ones(len(data), dtype=bool)
    found, raw = predicted(model.model, torch.from_numpy(data.tokens), data, every, batch=2)
    trained = torch.sigmoid(model.model.outputs(raw).up_logit).numpy()
    assert len(found) == rows
    (sample,) = samples_of(data, (1,))
    chance = predict(model, sample, Running(kv_cache_dtype="int8")).chance
    assert chance is not None
    return float(np.abs(chance - trained).max())


def test_its_int8_cache_says_what_its_training_said() -> None:
    assert streamed_against_trained(600) < ALLOWED


@pytest.mark.nightly
def test_its_int8_cache_says_so_over_twenty_thousand_candles() -> None:
    assert streamed_against_trained(20_000) < ALLOWED


@pytest.mark.parametrize("role", sorted(ROLES.values()))
def test_what_ships_is_trained_and_has_its_baselines_and_its_inputs(role: str) -> None:
    entry = Registry().find(role)
    assert entry.shipped
    assert entry.card.trained
    assert entry.card.inputs is not None
    assert any("_less_" in name for name in entry.card.metrics)  # by how much it wins or misses
    baselines = load_baselines(entry.path)
    assert baselines is not None
    assert baselines.trees is not None
    assert baselines.until_ns < entry.card.training["split"]["train_end"]
    for name in (*baselines.trees.expected, *baselines.trees.up):
        assert (entry.path.parent / name).is_file()
