"""Forecasts that a transformer has to beat, from the same tokens: rules, linear, boosted trees.

Fitted by ``bot.research.baselines`` on the rows that the model learned from, kept beside its
checkpoint as JSON and LightGBM text (no pickle), and computed here from those files alone.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bot.model.checkpoint import CheckpointError
from bot.model.intervals import Floats
from bot.model.samples import Sample
from bot.model.tokens import BOOK_LEVELS, BOOK_TOKENS, CANDLE_TOKENS

FORMAT = 1
LAGS = {CANDLE_TOKENS: (0, 1, 2, 3, 4, 5, 6, 7), BOOK_TOKENS: (0, 1, 2, 4, 8)}
"""The tokens that a fitted baseline sees beside the newest, counted backwards."""
_MOMENTUM_BARS = 12
_CLOSE = 3  # of a candle token
_BOOK_UNIT = 1e-5
"""A tenth of a basis point: what moves of books are counted in."""
_MICROPRICE, _IMBALANCE = 4 * BOOK_LEVELS + 2, 4 * BOOK_LEVELS + 3
_CHUNK = 65_536


class Equations(Struct, frozen=True, forbid_unknown_fields=True):
    """A linear forecast of standardized inputs, by horizon; the intercept stands last.

    ``expected`` is the return in units of ``unit``, ``up`` the
    log-odds of a rise, ``spread`` quantiles of what is left of the return, in the same units.
    """

    centre: list[float]  # [K]
    scale: list[float]  # [K]
    expected: list[list[float]]  # [horizons, K + 1]
    up: list[list[float]]  # [horizons, K + 1]
    spread: list[list[float]]  # [horizons, quantiles]


class Trees(Struct, frozen=True, forbid_unknown_fields=True):
    """Files of LightGBM's text format beside this one, by horizon."""

    expected: list[str]
    up: list[str]
    spread: list[list[float]]


class Baselines(Struct, frozen=True, forbid_unknown_fields=True):
    """All of a checkpoint's baselines. ``until_ns`` is the last time that fitting knew of."""

    format: int
    tokens: str
    lags: list[int]
    horizons_ns: list[int]
    quantiles: list[float]
    until_ns: int
    linear: dict[str, Equations]
    """The rules, of one input each, and ``linear`` of all."""
    trees: Trees | None = None


class Forecast(Struct, frozen=True):
    """What somebody expects, row by row. A rule that nobody fitted has an order only."""

    expected: Floats  # [N, horizons]
    chance: Floats | None = None  # [N, horizons]
    quantiles: Floats | None = None  # [N, horizons, quantiles]


def rules(tokens: str, sample: Sample) -> dict[str, Floats]:
    """The simple rules' inputs [N], larger where a rise is expected."""
    x = sample.tokens
    if tokens == CANDLE_TOKENS:
        moves = np.diff(np.log(sample.price), prepend=math.log(sample.price[0]))
        moves /= sample.volatility
        total = np.cumsum(moves)
        momentum = total - np.concatenate((np.zeros(_MOMENTUM_BARS), total))[: len(total)]
        return {"reversal": -moves, "momentum": momentum}
    return {
        "imbalance": x[:, _IMBALANCE].astype(np.float64),
        "microprice": np.sinh(x[:, _MICROPRICE].astype(np.float64)),
    }


def inputs(sample: Sample, lags: list[int] | tuple[int, ...]) -> NDArray[np.float32]:
    """The tokens that fitted baselines see [N, lags * F]; zeros before the first."""
    x = sample.tokens
    return np.concatenate([_delayed(x, lag) for lag in lags], axis=1)


def _delayed(x: NDArray[np.float32], lag: int) -> NDArray[np.float32]:
    return np.concatenate((np.zeros_like(x[:lag]), x))[: len(x)]


def unit(tokens: str, sample: Sample) -> Floats:
    """What moves are counted in [N]: candles' in the volatility known with the token; books' in one
    number, since the imbalance ranks worse when it is multiplied by a volatility."""
    if tokens == CANDLE_TOKENS:
        return sample.volatility
    return np.full(len(sample.ts), _BOOK_UNIT)


def path_of(checkpoint: Path) -> Path:
    """Where a checkpoint's baselines lie."""
    return checkpoint.with_suffix(".baselines.json")


def load_baselines(checkpoint: Path) -> Baselines | None:
    """A checkpoint's baselines, None where it has none. Raises CheckpointError."""
    path = path_of(checkpoint)
    if not path.exists():
        return None
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Baselines)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: no baselines can be read from it: {error}") from error
    if found.format != FORMAT:
        raise CheckpointError(f"{path}: format {found.format}, this version reads {FORMAT}")
    return found


def has_lightgbm() -> bool:
    return importlib.util.find_spec("lightgbm") is not None


def unfitted(tokens: str, sample: Sample, horizons: int) -> dict[str, Forecast]:
    """The rules alone: an order without returns or probabilities."""
    return {
        name: Forecast(np.repeat(signal[:, None], horizons, axis=1))
        for name, signal in rules(tokens, sample).items()
    }


def forecasts(baselines: Baselines, folder: Path, sample: Sample) -> dict[str, Forecast]:
    """Every baseline's forecast; the trees' only where lightgbm is installed.

    Raises CheckpointError for coefficients that do not fit the tokens.
    """
    volatility = unit(baselines.tokens, sample)
    made = {}
    signals = rules(baselines.tokens, sample)
    for name, equations in baselines.linear.items():
        rows = signals[name][:, None] if name in signals else inputs(sample, baselines.lags)
        if rows.shape[1] != len(equations.centre):
            raise CheckpointError(
                f"baseline {name!r} was fitted on {len(equations.centre)} inputs, the tokens give "
                f"{rows.shape[1]}: fit the baselines again for this checkpoint"
            )
        made[name] = _linear(equations, rows, volatility)
    if baselines.trees is not None and has_lightgbm():
        made["boosted_trees"] = _trees(baselines, folder, sample, volatility)
    return made


def _linear(equations: Equations, x: NDArray[Any], volatility: Floats) -> Forecast:
    centre, scale = np.array(equations.centre), np.array(equations.scale)
    expected, up = np.array(equations.expected), np.array(equations.up)
    moves, odds = [], []
    for start in range(0, len(x), _CHUNK):
        z = (x[start : start + _CHUNK] - centre) / scale
        moves.append(z @ expected[:, :-1].T + expected[:, -1])
        odds.append(z @ up[:, :-1].T + up[:, -1])
    return _scaled(np.concatenate(moves), np.concatenate(odds), equations.spread, volatility)


def _trees(baselines: Baselines, folder: Path, sample: Sample, volatility: Floats) -> Forecast:
    import lightgbm  # noqa: PLC0415 - an optional extra

    trees = baselines.trees
    assert trees is not None
    x = inputs(sample, baselines.lags)

    def told(names: list[str]) -> Floats:
        found = []
        for name in names:
            path = folder / name
            try:
                booster = lightgbm.Booster(model_str=path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, lightgbm.basic.LightGBMError) as error:
                raise CheckpointError(f"{path}: no LightGBM model: {error}") from error
            found.append(np.asarray(booster.predict(x, raw_score=True, num_threads=1)))
        return np.stack(found, axis=1)

    return _scaled(told(trees.expected), told(trees.up), trees.spread, volatility)


def _scaled(moves: Floats, odds: Floats, spread: list[list[float]], volatility: Floats) -> Forecast:
    """Returns, probabilities and quantiles from multiples of the volatility and log-odds."""
    unit = volatility[:, None]
    quantiles = (moves[:, :, None] + np.array(spread)[None]) * unit[:, :, None]
    chance = 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
    return Forecast(moves * unit, chance, quantiles)
