"""By which recipes the shipped checkpoints are made: teachers, trees beside them, a student."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from bot.model.dataset import Dataset
from bot.model.losses import LossWeights
from bot.model.recipe import Recipe
from bot.research.teaching.book_trees import book_odds
from bot.research.teaching.candle_trees import candle_odds

Odds = Callable[[Dataset, tuple[int, ...], NDArray[np.bool_], Path, Callable[[str], None]], Path]
"""Fits trees on the rows of a mask, for horizons, and writes what they say of every row."""


class Plan(Struct, frozen=True):
    """Teachers learn outcomes; the student learns the mean of what they say, of which the trees'
    ``odds`` are ``share``. Trees learn the rows before that end of the student's split."""

    teachers: tuple[Recipe, ...]
    student: Recipe
    odds: Odds
    share: float
    trees_until: Literal["train_end", "valid_end"]


def _predictor_teachers() -> tuple[Recipe, ...]:
    """Twelve that differ in seed and window, three of them in loss, batch or dropout."""
    first = Recipe(
        horizon_weights=(1.0, 0.5, 0.25, 0.15, 0.1), train_end="2025-09-15",
        valid_end="2025-09-24", embargo_s=86_400.0, steps=96, batch=72, learning_rate=7e-4,
        warmup=30, average=0.98, evaluate_every=96, patience=99, mirror=0.5,
        loss=LossWeights(quantiles=0.3, mean=0.5, direction=1.0, correlation=0.0, outlier=1.5),
    )  # fmt: skip
    windows = (64, 64, 128, 128, 256, 256, 512, 512, 512, 64, 128, 64)
    crops = {64: 705, 128: 769, 256: 897, 512: 1152}
    changes: dict[int, dict[str, object]] = {
        9: {"loss": LossWeights(0.1, 1.0, 1.0, 0.0, outlier=1.5)},
        10: {"loss": LossWeights(0.3, 0.3, 1.5, 0.0, outlier=1.5)},
        11: {"steps": 80, "batch": 108, "evaluate_every": 80},
        12: {"dropout": 0.2},
    }
    return tuple(
        replace(
            first, window=window, crop=crops[window], burn_in=window - 1, seed=seed,
            **changes.get(seed, {}),
        )
        for seed, window in enumerate(windows, 1)
    )  # fmt: skip


_PREDICTOR_TEACHERS = _predictor_teachers()
PREDICTOR_PLAN = Plan(
    _PREDICTOR_TEACHERS,
    replace(
        _PREDICTOR_TEACHERS[4], steps=900, batch=80, learning_rate=1e-3, warmup=60,
        weight_decay=0.02, dropout=0.0, average=0.99, seed=1, evaluate_every=100,
        monitor="imitation",
    ),
    candle_odds,
    0.5,
    "train_end",
)  # fmt: skip

_ANALYZER_TEACHER = Recipe(
    name="analyzer", horizons=(100, 1_000, 5_000, 10_000), horizon_weights=(1.0, 1.0, 0.5, 0.2),
    width=64, layers=2, heads=2, kv_heads=2, hidden=256, window=64, crop=320, batch=24, steps=160,
    warmup=30, learning_rate=5e-4, average=0.97, evaluate_every=40, patience=99, dropout=0.2,
    mirror=0.5, seed=3, train_end="2024-07-19T00:01:45", valid_end="2024-07-19T00:02:30",
    loss=LossWeights(quantiles=0.2, mean=0.2, direction=1.0, correlation=0.0, outlier=5.0),
)  # fmt: skip
ANALYZER_PLAN = Plan(
    (_ANALYZER_TEACHER,),
    replace(
        _ANALYZER_TEACHER, steps=900, batch=16, warmup=60, learning_rate=2e-3, dropout=0.0,
        average=0.99, evaluate_every=150, weight_decay=0.02, seed=1, monitor="imitation",
    ),
    book_odds,
    1.0,
    "valid_end",
)  # fmt: skip
PLANS = {"predictor": PREDICTOR_PLAN, "analyzer": ANALYZER_PLAN}
