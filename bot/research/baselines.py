"""Fits the baselines of a checkpoint on the rows that it learned from (extra ``research``).

Ridge and logistic regression in closed form and by Newton's steps, in numpy; boosted trees by
LightGBM. The same rows, outcomes and splits as the transformer's: hand in its training samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from bot.model.baselines import (
    FORMAT,
    LAGS,
    Baselines,
    Equations,
    Trees,
    has_lightgbm,
    inputs,
    path_of,
    rules,
    unit,
)
from bot.model.intervals import Floats
from bot.model.samples import Sample

_MOST_ROWS = 200_000
_RIDGE = 1e-3
"""The penalty, as a share of the rows: of standardized inputs, so one number fits all."""
_NEWTON_STEPS = 8
_OUTLIER = 4.0  # units; an outcome beyond counts as that much, or a few would decide
_SQUARED_OUTLIER = 1.5  # where errors are squared; Huber's loss, the trees', guards itself
_LEAST_SLOPE = 1e-6
_HELD_BACK = 0.15  # of the rows, the last ones: where boosting stops
_TREES: dict[str, object] = {
    "num_leaves": 15, "learning_rate": 0.05, "min_data_in_leaf": 200, "feature_fraction": 0.7,
    "bagging_fraction": 0.7, "bagging_freq": 1, "lambda_l2": 1.0, "seed": 1,
    "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbosity": -1,
}  # fmt: skip
_ROUNDS = 300
_PATIENCE = 30


class Target(Struct, frozen=True):
    """What one horizon is fitted to: moves in units [n], and whether they rose; direction
    is learned where there was a move."""

    rows: NDArray[np.int64]
    moves: Floats
    up: Floats


def fit(
    samples: Sequence[Sample],
    checkpoint: Path,
    *,
    tokens: str,
    horizons_ns: Sequence[int],
    quantiles: Sequence[float],
    trees: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Baselines:
    """Fit everything on the training ``samples`` and write it beside ``checkpoint``.

    Rows without an outcome teach nothing; of more than 200,000 rows every n-th is taken. Without
    lightgbm, or with ``trees`` off, there are no trees. Raises ValueError without rows.
    """
    lags = LAGS[tokens]
    taken = [_thinned(sample, samples) for sample in samples]
    outcome = np.concatenate([s.outcome[r] for s, r in zip(samples, taken, strict=True)])
    units = np.concatenate([unit(tokens, s)[r] for s, r in zip(samples, taken, strict=True)])
    targets = [_target(outcome[:, index], units) for index in range(len(horizons_ns))]
    if not all(len(target.rows) for target in targets):
        raise ValueError("the training rows have no outcome at some horizon: give more data")
    linear = {}
    for name in rules(tokens, samples[0]):
        signal = [rules(tokens, s)[name][r] for s, r in zip(samples, taken, strict=True)]
        say(f"rule {name}")
        linear[name] = _directed(_equations(np.concatenate(signal)[:, None], targets, quantiles))
    x = np.concatenate([inputs(s, lags)[r] for s, r in zip(samples, taken, strict=True)])
    say("linear and logistic regression")
    linear["linear"] = _equations(x, targets, quantiles)
    boosted = None
    if trees and has_lightgbm():
        when = np.concatenate([s.ts[r] for s, r in zip(samples, taken, strict=True)])
        boosted = _boost(x, targets, when, checkpoint, quantiles, say)
    until = max(int(s.ts[-1]) for s in samples)
    found = Baselines(
        FORMAT, tokens, list(lags), list(horizons_ns), list(quantiles), until, linear, boosted
    )
    text = msgspec.json.encode(found)
    path_of(checkpoint).write_bytes(text + b"\n")
    return found


def _thinned(sample: Sample, samples: Sequence[Sample]) -> NDArray[np.int64]:
    total = sum(len(each.ts) for each in samples)
    return np.arange(0, len(sample.ts), max(-(-total // _MOST_ROWS), 1))


def _target(outcome: Floats, units: Floats) -> Target:
    rows = np.flatnonzero(np.isfinite(outcome))
    moves = np.clip(outcome[rows] / units[rows], -_OUTLIER, _OUTLIER)
    return Target(rows, moves, (outcome[rows] > 0).astype(np.float64))


def _equations(x: NDArray[Any], targets: Sequence[Target], quantiles: Sequence[float]) -> Equations:
    centre: Any = x.mean(axis=0, dtype=np.float64)
    scale: Any = np.maximum(x.std(axis=0, dtype=np.float64), 1e-6)
    expected, up, spread = [], [], []
    for target in targets:
        z: Any = (x[target.rows] - centre) / scale
        z = np.column_stack((z, np.ones(len(z))))
        guarded = np.clip(target.moves, -_SQUARED_OUTLIER, _SQUARED_OUTLIER)
        coefficients: Any = ridge(z, guarded)
        left = target.moves - z @ coefficients
        expected.append(_rounded(coefficients))
        moved = target.moves != 0
        up.append(_rounded(logistic(z[moved], target.up[moved])))
        spread.append(_rounded(np.quantile(left, quantiles)))
    return Equations(_rounded(centre), _rounded(scale), expected, up, spread)


def _directed(rule: Equations) -> Equations:
    """A rule says more for a stronger signal, whatever the training rows said of it, and nothing
    for none: its order must not come from an intercept times a volatility."""
    (centre,), (scale,) = rule.centre, rule.scale
    slopes = [max(slope, _LEAST_SLOPE) for slope, _ in rule.expected]
    expected = [_rounded((slope, slope * centre / scale)) for slope in slopes]
    up = [[max(slope, _LEAST_SLOPE), intercept] for slope, intercept in rule.up]
    return replace(rule, expected=expected, up=up)


def _rounded(numbers: Any) -> list[float]:
    return [float(f"{number:.8g}") for number in numbers]


def ridge(z: Floats, y: Floats) -> Floats:
    """Coefficients of y on z [n, K], whose last column of ones is not penalized."""
    solved: Any = np.linalg.solve(z.T @ z + _penalty(z), z.T @ y)
    coefficients: Floats = solved
    return coefficients


def logistic(z: Floats, up: Floats) -> Floats:
    """Coefficients of the log-odds, by Newton's method with ridge's penalty."""
    beta: Any = np.zeros(z.shape[1])
    penalty: Any = _penalty(z)
    for _ in range(_NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(z @ beta, -30, 30)))
        weight = np.maximum(chance * (1 - chance), 1e-6)
        gradient = z.T @ (up - chance) - penalty @ beta
        beta = beta + np.linalg.solve(z.T @ (z * weight[:, None]) + penalty, gradient)
    found: Floats = beta
    return found


def _penalty(z: Floats) -> Floats:
    each = np.full(z.shape[1], _RIDGE * len(z))
    each[-1] = 0.0
    penalty: Floats = np.diag(each)
    return penalty


def _boost(
    x: NDArray[np.float32],
    targets: Sequence[Target],
    when: NDArray[np.int64],
    checkpoint: Path,
    quantiles: Sequence[float],
    say: Callable[[str], None],
) -> Trees:
    names: dict[str, list[str]] = {"expected": [], "up": []}
    spread = []
    for index, target in enumerate(targets):
        border = np.quantile(when[target.rows], 1 - _HELD_BACK)
        early = when[target.rows] <= border
        every = np.ones(len(early), dtype=bool)
        for name, y, kept, objective in (
            ("expected", target.moves, every, "huber"),
            ("up", target.up, target.moves != 0, "binary"),
        ):
            say(f"boosted trees, horizon {index + 1} of {len(targets)}, {name}")
            text, told = _boosted(x[target.rows[kept]], y[kept], early[kept], objective)
            file = checkpoint.with_suffix(f".{name}{index}.lgb.txt")
            file.write_text(text, encoding="utf-8")
            names[name].append(file.name)
            if name == "expected":
                spread.append(_rounded(np.quantile(y - told, quantiles)))
    return Trees(names["expected"], names["up"], spread)


def _boosted(
    x: NDArray[np.float32], y: Floats, early: NDArray[np.bool_], objective: str
) -> tuple[str, Floats]:
    """The model's text, stopped where the rows held back stop gaining, and its forecasts."""
    import lightgbm  # noqa: PLC0415 - an optional extra

    parameters = _TREES | {"objective": objective}
    train = lightgbm.Dataset(x[early], y[early], params={"verbosity": -1})
    held = lightgbm.Dataset(x[~early], y[~early], reference=train)
    booster = lightgbm.train(
        parameters, train, _ROUNDS, valid_sets=[held],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
    )  # fmt: skip
    told = np.asarray(booster.predict(x, raw_score=True, num_threads=1))
    return booster.model_to_string(num_iteration=booster.best_iteration), told
