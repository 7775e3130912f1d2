"""Boosted trees that say what the imbalance of a book's best level leaves out (extra ``research``).

The imbalance alone ranks the moves of the next second so well that trees which learn the moves
from nothing rank them worse. So these start at the log-odds that the imbalance gives, and learn
what is left. What they find over a tenth of a second holds for a second too, where their own fit
finds noise: so one set of trees, fitted on the first horizon, speaks for both.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bot.model.dataset import Dataset, future_returns
from bot.model.intervals import Floats
from bot.research.baselines import logistic
from bot.research.teaching.book_inputs import BookInputs, book_inputs

Flags = NDArray[np.bool_]

_TREES: dict[str, object] = {
    "objective": "binary", "learning_rate": 0.03, "num_leaves": 10, "min_data_in_leaf": 500,
    "feature_fraction": 0.4, "bagging_fraction": 0.6, "bagging_freq": 1, "lambda_l2": 50.0,
    "max_bin": 63, "deterministic": True, "force_row_wise": True, "num_threads": 1,
    "verbosity": -1,
}  # fmt: skip
_ROUNDS = 80
_SEEDS = (1, 2, 3, 4)
LATER_SHARE = 0.4
"""How much of the correction counts at horizons after the first; chosen on training rows."""
_POWERS = (1, 2, 3)


class BookTrees(Struct, frozen=True):
    """LightGBM's texts, whose mean is the correction, and the curves of the log-odds of a rise over
    the lean of the book, a row a horizon."""

    texts: tuple[str, ...]
    curves: tuple[Floats, ...]

    def odds(self, inputs: BookInputs) -> NDArray[np.float32]:
        """[N, H, 2] for ``Teachers.odds``: the chance of a rise less that of a fall, and the
        log-odds of a rise where there is a move."""
        boosters = [lightgbm.Booster(model_str=text) for text in self.texts]
        up, down = (_mean(boosters, x) for x in (inputs.upright, inputs.mirrored))
        found = []
        for horizon, curve in enumerate(self.curves):
            if horizon:
                leaning = inputs.lean + LATER_SHARE * (up - down)
                rise, fall = curve_at(curve, leaning), curve_at(curve, -leaning)
            else:
                rise = curve_at(curve, inputs.lean) + up
                fall = curve_at(curve, -inputs.lean) + down
            found.append(np.stack((_chance(rise) - _chance(fall), rise - fall), axis=-1))
        return np.stack(found, axis=1).astype(np.float32)


def fit_book_trees(
    data: Dataset,
    inputs: BookInputs,
    horizons: tuple[int, ...],
    part: Flags,
    say: Callable[[str], None] = lambda _: None,
) -> BookTrees:
    """Fit on the rows of ``part`` [N] and their mirror images; ``horizons`` are in ms."""
    returns = future_returns(data, horizons)
    curves, texts = [], []
    for horizon in range(len(horizons)):
        kept = part & np.isfinite(returns[:, horizon])
        moved = returns[kept, horizon]
        rose = np.concatenate((moved > 0, moved < 0)).astype(np.float64)
        lean = np.concatenate((inputs.lean[kept], -inputs.lean[kept]))
        curve = _curve(lean, rose)
        curves.append(curve)
        if horizon:
            continue
        x = np.concatenate((inputs.upright[kept], inputs.mirrored[kept]))
        rows = lightgbm.Dataset(
            x, rose, init_score=curve_at(curve, lean), params={"verbosity": -1, "max_bin": 63}
        )
        for seed in _SEEDS:
            say(f"trees on what the imbalance leaves out, {seed} of {len(_SEEDS)}")
            booster = lightgbm.train(_TREES | {"seed": seed}, rows, _ROUNDS)
            texts.append(booster.model_to_string())
    return BookTrees(tuple(texts), tuple(curves))


def book_odds(
    data: Dataset,
    horizons: tuple[int, ...],
    part: Flags,
    out: Path,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Fit on ``part``, write the texts and every row's ``odds.npy`` into ``out``; its path."""
    inputs = book_inputs(data)
    trees = fit_book_trees(data, inputs, horizons, part, say)
    out.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(trees.texts):
        (out / f"book{number}.lgb.txt").write_text(text, encoding="utf-8")
    path = out / "odds.npy"
    np.save(path, trees.odds(inputs))
    return path


def _curve(lean: Floats, rose: Floats) -> Floats:
    """Coefficients of a logistic regression on powers of the lean's asinh; the intercept last."""
    return logistic(_powers(lean), rose)


def curve_at(curve: Floats, lean: Floats) -> Floats:
    """Log-odds [N] of a rise."""
    odds: Floats = _powers(lean) @ curve
    return odds


def _powers(lean: Floats) -> Floats:
    tame = np.arcsinh(lean)
    return np.column_stack([*(tame**power for power in _POWERS), np.ones(len(lean))])


def _mean(boosters: list[lightgbm.Booster], x: NDArray[np.float32]) -> Floats:
    told = [np.asarray(each.predict(x, raw_score=True, num_threads=1)) for each in boosters]
    mean: Floats = np.mean(told, axis=0)
    return mean


def _chance(odds: Floats) -> Floats:
    chance: Floats = 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
    return chance
