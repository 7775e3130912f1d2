"""The latent value of a coin: what its order flow, its history and its index price follow.

    dx = (drift - pull * x) dt + vol * regime dW        log distance from the reference price
    d(drift) = -drift / 30 s dt + ...                   the predictable part
    d(log regime) = -log regime / 30 min dt + ...       quiet and busy hours
    d(basis) = -basis / 1 h dt + ...                    futures over spot, log

All four are Ornstein-Uhlenbeck processes, exact for any step. Drift explains about a tenth of the
variance of a 10 s return: enough to learn from, far from certain.
"""

from __future__ import annotations

import math
from functools import lru_cache
from random import Random

from bot.venue.emulator.listing import Coin

_DRIFT_S = 30.0
_REGIME_S = 1800.0
_BASIS_S = 3600.0
_PULL_S = 2.5 * 86_400.0
_DRIFT_SHARE = 0.1  # the drift's deviation in units of vol, per second
_REGIME_DEVIATION = 0.4
_NEWS_SHARE = 0.5
_BASIS_DEVIATION = 2e-4


class FairValue:
    """One coin's processes: ``step`` lets time pass, ``learn`` takes in what the market did."""

    __slots__ = ("_coin", "_drift", "_log_regime", "_rng", "_x", "basis")

    def __init__(self, coin: Coin, rng: Random) -> None:
        self._coin = coin
        self._rng = rng
        self._x = 0.0
        self._drift = 0.0
        self._log_regime = rng.gauss(0.0, _REGIME_DEVIATION)
        self.basis = rng.gauss(0.0, _BASIS_DEVIATION)

    @property
    def spot(self) -> float:
        """The fair spot price, USDT."""
        return self._coin.price * math.exp(self._x)

    @property
    def linear(self) -> float:
        """The fair futures price, USDT."""
        return self._coin.price * math.exp(self._x + self.basis)

    @property
    def signal(self) -> float:
        """The present drift squeezed into (-1, 1): what informed orders lean on."""
        return math.tanh(self._drift / (_DRIFT_SHARE * self._coin.vol))

    def learn(self, ratio: float) -> None:
        """A sweep moved the price by ``ratio``; a part of that is news and stays."""
        self._x += _NEWS_SHARE * math.log(ratio)

    def step(self, seconds: float) -> None:
        gauss, vol = self._rng.gauss, self._coin.vol
        self._log_regime = _ou(
            self._log_regime, seconds, _REGIME_S, _REGIME_DEVIATION, gauss(0.0, 1.0)
        )
        self._drift = _ou(self._drift, seconds, _DRIFT_S, _DRIFT_SHARE * vol, gauss(0.0, 1.0))
        self.basis = _ou(self.basis, seconds, _BASIS_S, _BASIS_DEVIATION, gauss(0.0, 1.0))
        noise = vol * math.exp(self._log_regime) * math.sqrt(seconds) * gauss(0.0, 1.0)
        self._x += (self._drift - self._x / _PULL_S) * seconds + noise


def _ou(value: float, seconds: float, relaxation_s: float, deviation: float, draw: float) -> float:
    decay, renewal = _weights(seconds, relaxation_s)
    return value * decay + deviation * renewal * draw


@lru_cache(maxsize=64)
def _weights(seconds: float, relaxation_s: float) -> tuple[float, float]:
    """What a step keeps of the old value, and what it takes of a new draw."""
    decay = math.exp(-seconds / relaxation_s)
    return decay, math.sqrt(1.0 - decay * decay)
