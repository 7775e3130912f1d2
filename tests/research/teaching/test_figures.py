"""The card says by how much a checkpoint wins or misses."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from bot.model import CANDLE_TOKENS, load, save, seeded
from bot.research.teaching.figures import later_figures, write_figures
from tests.model.builders import small_config


def row(horizon: float, metric: str = "rank_ic", symbol: str = "all", lo: float | None = -0.25):
    gap = {"value": 0.12345678, "lo": lo, "hi": None if lo is None else 0.5}
    return {
        "symbol": symbol, "horizon": horizon, "metric": metric, "value": 0.5,
        "baselines": {"imbalance": {"value": 0.4, "difference": gap}},
    }  # fmt: skip


def test_differences_are_told_with_their_intervals_where_there_are_some():
    rows = [row(0.1), row(1.0, lo=None), row(1.0, "hit_rate"), row(1.0, symbol="linear:BTCUSDT")]
    assert later_figures(rows, (100, 1_000)) == {
        "later_ic_100": 0.5,
        "later_ic_100_less_imbalance": 0.1235,
        "later_ic_100_less_imbalance_lo": -0.25,
        "later_ic_100_less_imbalance_hi": 0.5,
        "later_ic_1000": 0.5,
        "later_ic_1000_less_imbalance": 0.1235,
    }


def test_the_card_keeps_what_training_said_and_loses_older_figures(tmp_path: Path):
    made = seeded(small_config(), 1, name="m", tokens=CANDLE_TOKENS)
    card = replace(
        made.card, metrics={"test_ic_1": 0.1, "later_ic_1": 0.9},
        training={"recipe": {"horizons": [1, 5]}},
    )  # fmt: skip
    save(replace(made, card=card), tmp_path / "m.safetensors")
    write_figures(tmp_path / "m.safetensors", [row(60.0, "daily_rank_ic"), row(300.0)])
    metrics = load(tmp_path / "m.safetensors").card.metrics
    assert metrics["test_ic_1"] == 0.1
    assert metrics["later_daily_ic_1"] == metrics["later_ic_5"] == 0.5
    assert "later_ic_1" not in metrics
