"""Files to datasets to models: through the verbs' own functions."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bot import train as training
from bot.cli import app
from bot.kvcache import KVCacheManager
from bot.model import CANDLE_TOKENS, seeded
from bot.model.dataset import future_returns, load_dataset
from bot.model.recipe import RECIPES
from bot.model.scores import rank_correlation
from bot.venue.archive_feed import ArchiveError
from tests.venue.real_data import real

MINUTE_MS = 60_000
START_MS = 1_750_000_020_000 // MINUTE_MS * MINUTE_MS


def table(path: Path, count: int = 50, damage: dict[int, str] | None = None) -> Path:
    """A candle table of one-minute bars; a row in ``damage`` is replaced by its text."""
    dice = np.random.default_rng(1)
    close = 100 * np.exp(dice.normal(0, 1e-3, count).cumsum())
    rows = ["ts_ms,open,high,low,close,volume"]
    for index in range(count):
        opened, closed = close[max(index - 1, 0)], close[index]
        high, low = max(opened, closed) + 0.01, min(opened, closed) - 0.01
        row = f"{START_MS + index * MINUTE_MS},{opened:.4f},{high:.4f},{low:.4f},{closed:.4f},5"
        rows.append((damage or {}).get(index, row))
    path.write_bytes(gzip.compress(("\n".join(row for row in rows if row) + "\n").encode()))
    return path


@pytest.mark.parametrize(
    ("damage", "said", "segments"),
    [
        ({20: ""}, "line 22: a bar at .* was due", 2),
        ({20: f"{START_MS + 20 * MINUTE_MS},nan,1,1,1,5"}, "line 22: .*nan.* finite", 2),
        ({20: f"{START_MS + 3 * MINUTE_MS},99,101,98,100,5"}, "line 22: time .* after", 2),
        ({20: f"{START_MS + 19 * MINUTE_MS},99,101,98,100,5"}, "line 22: a bar at .*overlap", 2),
    ],
    ids=["gap", "nan", "unsorted", "duplicate"],
)
def test_damage_is_told_by_row_and_refused_or_repaired(
    tmp_path: Path, damage: dict[int, str], said: str, segments: int
) -> None:
    path = table(tmp_path / "linear_AAAUSDT_1m.csv.gz", damage=damage)
    with pytest.raises(ArchiveError, match=said):
        training.candles([path], training.Wanted())
    data = training.candles([path], training.Wanted(repair=True))
    assert len(data.series_of) == segments
    assert len(data) == 49


def test_a_symbol_that_no_file_has_is_told(tmp_path: Path) -> None:
    path = table(tmp_path / "linear_AAAUSDT_1m.csv.gz")
    wanted = training.Wanted(symbols=("linear:AAAUSDT", "linear:BBBUSDT"))
    with pytest.raises(training.TrainingDataError, match="linear:BBBUSDT: no row in the files"):
        training.candles([path], wanted)


def test_the_verbs_keep_a_dataset_and_train_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = table(tmp_path / "linear_AAAUSDT_1m.csv.gz", count=900)
    kept = CliRunner().invoke(app, ["train", "candles", str(path), "--save", "rows.npz", "--json"])
    assert kept.exit_code == 0, kept.output
    assert load_dataset(tmp_path / "rows.npz").venue == "bybit"
    (tmp_path / "tiny.json").write_text(
        '{"width": 16, "heads": 2, "kv_heads": 2, "layers": 1, "hidden": 16, "head_dim": 8, '
        '"window": 8, "crop": 20, "batch": 2}'
    )
    words = ["train", "prepared", "rows.npz", "--recipe", "tiny.json", "--steps", "1"]
    made = CliRunner().invoke(app, [*words, "--out", "data/models/mine", "--json"])
    assert made.exit_code == 0, made.output
    listed = CliRunner().invoke(app, ["models", "list", "--json"])
    assert "mine/predictor" in listed.output
    chosen = CliRunner().invoke(app, ["models", "activate", "mine/predictor", "--json"])
    assert '"active":true' in chosen.output


def test_a_binance_recording_is_a_book_whose_imbalance_says_where_the_mid_goes() -> None:
    days = [real(f"binance_l2/usdm_btcusdt_{day}.gz") for day in (20240718, 20240719)]
    data = training.books(days, training.Wanted())
    assert data.venue == "binance"
    assert len(data.series_of) == 1
    assert len(data) > 8_000
    moved = future_returns(data, (1_000,))[:, 0]
    known = np.isfinite(moved)
    imbalance = data.tokens[known, 83].astype(np.float64)
    assert rank_correlation(imbalance, moved[known]) > 0.3


@pytest.mark.parametrize(
    "tokens", [1_000, pytest.param(20_000, marks=pytest.mark.nightly)], ids=["short", "20000"]
)
def test_streaming_real_tokens_through_the_int8_window_is_the_training_forward(tokens: int) -> None:
    path = real("bybit_candles/linear_BTCUSDT_15m.csv.gz")
    data = training.candles([path], training.Wanted())
    x = torch.from_numpy(data.tokens[:tokens])
    config = RECIPES["small"].model(
        features=x.shape[1], horizons_ns=(1, 2), return_scale=(1.0, 1.0), volatility_scaled=True
    )
    model = seeded(config, 1, name="m", tokens=CANDLE_TOKENS).model
    cache = KVCacheManager(1 << 24).anonymous(config.cache_spec())
    with torch.inference_mode():
        expected, found = model(x), model.step(x, cache)
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < 0.01
