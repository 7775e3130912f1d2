"""From expected returns and their uncertainty to portfolio weights: mean-variance, with limits."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]

YEAR_NS = 365 * 86_400 * 10**9
_MEMORY = 0.02
"""The weight of the newest bar in the correlations."""
_PRIOR = 0.5
"""The correlation of two coins of which nothing is known yet."""
_OUTLIER = 4.0


class Allocation(Struct, frozen=True):
    """What a portfolio may hold. ``volatility`` is a year's, of the whole; ``cap`` the most of the
    equity in one asset, ``gross`` in all together, long and short added."""

    long_only: bool = False
    volatility: float = 0.2
    cap: float = 0.3
    gross: float = 1.0


def allocate(
    mean: Floats, deviation: Floats, correlation: Floats, horizon_ns: int, rules: Allocation
) -> Floats:
    """Weights [A] as shares of the equity, negative for a short.

    Each is in proportion to mean / deviation^2, the growth-optimal bet on one asset alone (Kelly,
    1956); together they are scaled to the target volatility over the horizon, then capped. What
    is returned never has more than the target, the cap or the gross limit.
    """
    wanted = mean / np.square(deviation)
    if rules.long_only:
        wanted = np.maximum(wanted, 0.0)
    total = np.abs(wanted).sum()
    if not total > 0:
        return np.zeros(len(mean))
    covariance = correlation * np.outer(deviation, deviation)
    target = rules.volatility * math.sqrt(horizon_ns / YEAR_NS)
    weights = np.clip(_scaled(wanted / total, covariance, target), -rules.cap, rules.cap)
    weights *= min(1.0, rules.gross / np.abs(weights).sum())
    held = math.sqrt(max(float(weights @ covariance @ weights), 0.0))
    result: Floats = weights * min(1.0, target / held) if held > 0 else weights
    return result


def _scaled(weights: Floats, covariance: Floats, target: float) -> Floats:
    risk = math.sqrt(max(float(weights @ covariance @ weights), 1e-300))
    result: Floats = weights * (target / risk)
    return result


class Correlations:
    """Exponential correlations of returns that are told bar by bar, all assets at once."""

    __slots__ = ("_products",)

    def __init__(self, assets: int) -> None:
        self._products = np.full((assets, assets), _PRIOR) + (1 - _PRIOR) * np.eye(assets)

    def add(self, returns: Floats, deviation: Floats) -> None:
        """Take in one bar's returns [A]; NaN for an asset that has none."""
        z = np.clip(np.nan_to_num(returns / deviation), -_OUTLIER, _OUTLIER)
        known = np.isfinite(returns)
        both = np.outer(known, known)
        moved = self._products + _MEMORY * (np.outer(z, z) - self._products)
        self._products = np.where(both, moved, self._products)

    @property
    def matrix(self) -> Floats:
        """[A, A], ones on the diagonal."""
        scale = np.sqrt(np.maximum(np.diag(self._products), 1e-12))
        found: Floats = np.clip(self._products / np.outer(scale, scale), -1, 1)
        np.fill_diagonal(found, 1.0)
        return found
