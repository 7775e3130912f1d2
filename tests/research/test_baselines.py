"""Baselines: the closed forms against scikit-learn, the files against what was fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bot.model import CANDLE_TOKENS, CheckpointError
from bot.model.baselines import forecasts, load_baselines, path_of, unfitted
from bot.model.samples import Sample
from bot.model.tokens import CANDLE_FEATURES
from bot.research.baselines import fit, logistic, ridge

HORIZONS = (60 * 10**9, 120 * 10**9)
LEVELS = (0.1, 0.5, 0.9)
DICE = np.random.default_rng(3)


def reverting(rows: int, seed: int = 0) -> Sample:
    """Prices that take back half of each move."""
    dice = np.random.default_rng(seed)
    noise = dice.normal(size=rows) * 1e-3
    level = np.zeros(rows)
    for row in range(1, rows):
        level[row] = 0.5 * level[row - 1] + noise[row]
    price = 100 * np.exp(level)
    tokens = dice.normal(size=(rows, CANDLE_FEATURES)).astype(np.float32)
    tokens[:, 3] = np.diff(level, prepend=0) * 1e3
    tokens[:, 4] = level * 1e3
    outcome = np.full((rows, 2), np.nan)
    for index in (0, 1):
        outcome[: -index - 1, index] = level[index + 1 :] - level[: -index - 1]
    ts = np.arange(rows, dtype=np.int64) * 60 * 10**9
    return Sample("linear:BTCUSDT", ts, tokens, price, np.ones(rows), outcome)


def design(rows: int = 400) -> np.ndarray:
    return np.column_stack((DICE.normal(size=(rows, 5)), np.ones(rows)))


def test_ridge_is_scikit_learns() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    z = design()
    y = z @ np.arange(6.0) + DICE.normal(size=400)
    expected = linear.Ridge(alpha=1e-3 * 400).fit(z[:, :-1], y)
    found = ridge(z, y)
    assert found[:-1] == pytest.approx(expected.coef_)
    assert found[-1] == pytest.approx(expected.intercept_)


def test_logistic_regression_is_scikit_learns() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    z = design()
    up = (z @ np.array([1, -1, 0.5, 0, 0, 0.3]) + DICE.logistic(size=400) > 0).astype(float)
    model = linear.LogisticRegression(C=1 / (1e-3 * 400), tol=1e-10, max_iter=1_000)
    expected = model.fit(z[:, :-1], up)
    found = logistic(z, up)
    assert found[:-1] == pytest.approx(expected.coef_[0], abs=1e-5)
    assert found[-1] == pytest.approx(expected.intercept_[0], abs=1e-5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("lightgbm")
    path = tmp_path_factory.mktemp("fitted") / "model.safetensors"
    fit([reverting(6_000)], path, tokens=CANDLE_TOKENS, horizons_ns=HORIZONS, quantiles=LEVELS)
    return path


def test_every_baseline_finds_what_is_there_on_rows_it_never_saw(checkpoint: Path) -> None:
    fitted = load_baselines(checkpoint)
    assert fitted is not None
    later = reverting(2_000, seed=1)
    said = forecasts(fitted, checkpoint.parent, later)
    assert set(said) == {"reversal", "momentum", "linear", "boosted_trees"}
    known = np.isfinite(later.outcome[:, 0])
    ics = {
        name: np.corrcoef(each.expected[known, 0], later.outcome[known, 0])[0, 1]
        for name, each in said.items()
    }
    assert ics["linear"] > 0.4  # it sees the level itself
    assert ics["boosted_trees"] > 0.4
    assert ics["reversal"] > 0.15
    assert ics["momentum"] < 0
    for each in said.values():
        assert each.chance is not None
        assert each.quantiles is not None
        assert ((each.chance > 0) & (each.chance < 1)).all()
        assert (np.diff(each.quantiles, axis=2) >= 0).all()
        covered = (later.outcome[known, 0, None] < each.quantiles[known, 0]).mean(axis=0)
        assert covered == pytest.approx(LEVELS, abs=0.06)


def test_what_is_said_of_the_past_never_depends_on_the_future(checkpoint: Path) -> None:
    fitted = load_baselines(checkpoint)
    assert fitted is not None
    whole = reverting(500)
    part = Sample(whole.symbol, *(getattr(whole, name)[:300] for name in
                                  ("ts", "tokens", "price", "unit", "outcome")))  # fmt: skip
    for name, said in forecasts(fitted, checkpoint.parent, whole).items():
        again = forecasts(fitted, checkpoint.parent, part)[name]
        assert said.expected[:300] == pytest.approx(again.expected, rel=1e-12), name
    for name, said in unfitted(CANDLE_TOKENS, whole, 2).items():
        assert np.array_equal(said.expected[:300], unfitted(CANDLE_TOKENS, part, 2)[name].expected)


def test_fitting_twice_writes_the_same_files(checkpoint: Path, tmp_path: Path) -> None:
    again = tmp_path / checkpoint.name
    fit([reverting(6_000)], again, tokens=CANDLE_TOKENS, horizons_ns=HORIZONS, quantiles=LEVELS)
    for file in sorted(checkpoint.parent.iterdir()):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_damaged_or_foreign_file_is_told_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    assert load_baselines(path) is None
    path_of(path).write_text('{"format": 1}')
    with pytest.raises(CheckpointError, match="no baselines can be read"):
        load_baselines(path)
    fitted = load_baselines(checkpoint)
    assert fitted is not None
    with pytest.raises(CheckpointError, match="no LightGBM model"):
        forecasts(fitted, tmp_path, reverting(50))


def test_rows_without_outcomes_teach_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no outcome"):
        fit([reverting(1)], tmp_path / "m.safetensors", tokens=CANDLE_TOKENS,
            horizons_ns=HORIZONS, quantiles=LEVELS)  # fmt: skip
