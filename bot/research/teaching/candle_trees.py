"""Boosted trees that teach the price predictor: classifiers of the sign (extra ``research``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
from numpy.typing import NDArray

from bot.model.dataset import Dataset, future_returns
from bot.model.tokens import mirror_of

_TREES: dict[str, object] = {
    "objective": "binary", "learning_rate": 0.03, "num_leaves": 15, "min_data_in_leaf": 2_000,
    "feature_fraction": 0.5, "bagging_fraction": 0.7, "bagging_freq": 1, "deterministic": True,
    "force_row_wise": True, "num_threads": 1, "verbosity": -1,
}  # fmt: skip
_ROUNDS = 200
_SEEDS = (1, 2)
_HORIZONS = 3  # beyond those trees rank no better than the transformers
_LAGS = 8
_LAGGED = (0, 1, 2, 3, 4, 13, 15)  # the bar's own figures; the others carry their past already


def candle_odds(
    data: Dataset,
    horizons: tuple[int, ...],
    part: NDArray[np.bool_],
    out: Path,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Fit on the rows of ``part`` [N], write the trees' text and ``odds.npy`` of every row into
    ``out``; its path.

    A horizon's odds are the mean of two fits on the rows alone and two on rows and mirror images.
    """
    upright, mirrored = candle_inputs(data)
    returns = future_returns(data, horizons[:_HORIZONS])
    out.mkdir(parents=True, exist_ok=True)
    told = []
    for horizon in range(returns.shape[1]):
        moved = returns[:, horizon]
        rows = np.flatnonzero(part & np.isfinite(moved) & (moved != 0))
        rose = moved[rows] > 0
        odds = np.zeros(len(data))
        for number, seed in enumerate((*_SEEDS, *_SEEDS)):
            both = number >= len(_SEEDS)
            say(f"trees on signs, horizon {horizon + 1}, {number + 1} of {2 * len(_SEEDS)}")
            x, y = upright[rows], rose.astype(np.float64)
            if both:
                x, y = np.concatenate((x, mirrored[rows])), np.concatenate((y, 1 - y))
            booster = lightgbm.train(
                _TREES | {"seed": seed},
                lightgbm.Dataset(x, y, params={"verbosity": -1}),
                _ROUNDS,
            )
            name = f"candles{horizon}{'mirrored' if both else 'plain'}{seed}.lgb.txt"
            (out / name).write_text(booster.model_to_string(), encoding="utf-8")
            odds += _said(booster, upright, mirrored, both=both) / (2 * len(_SEEDS))
        told.append(np.stack((odds, odds), axis=-1))
    path = out / "odds.npy"
    np.save(path, np.stack(told, axis=1).astype(np.float32))
    return path


def candle_inputs(data: Dataset) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Tokens [N, F + 8 * 7] with those of the last eight bars, zeros before a segment's first; and
    the same of the mirror image."""
    places, signs = mirror_of(data.token_kind)
    turned = data.tokens[:, list(places)] * np.array(signs, dtype=np.float32)
    age = np.arange(len(data)) - np.repeat(data.starts[:-1], np.diff(data.starts))

    def lagged(x: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = [x]
        for lag in range(1, _LAGS + 1):
            before = np.zeros((len(x), len(_LAGGED)), dtype=np.float32)
            before[lag:] = x[:-lag, list(_LAGGED)]
            before[age < lag] = 0
            parts.append(before)
        return np.concatenate(parts, axis=1)

    return lagged(data.tokens), lagged(turned)


def _said(
    booster: lightgbm.Booster,
    upright: NDArray[np.float32],
    mirrored: NDArray[np.float32],
    *,
    both: bool,
) -> NDArray[np.float64]:
    """Log-odds [N] of a rise; of a fit that knew mirror images, half the difference to theirs."""
    odds = np.asarray(booster.predict(upright, raw_score=True, num_threads=1))
    if both:
        odds = (odds - np.asarray(booster.predict(mirrored, raw_score=True, num_threads=1))) / 2
    found: NDArray[np.float64] = odds
    return found
