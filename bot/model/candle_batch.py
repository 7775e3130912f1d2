"""Candles now, their tokens later and many at once, which costs a fraction of one by one."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bot.core.events import Candle
from bot.model.tokens import (
    CANDLE_FEATURES,
    Bars,
    CandleState,
    CandleTokens,
    Token,
    candle_tokens,
)

_NS_PER_MS = 1_000_000
"""A double holds the milliseconds of a bar's time exactly, not its nanoseconds."""
Row: TypeAlias = tuple[float, ...]
"""A candle's opening time in ms, open, high, low, close and volume, and the funding rate."""
_LATER: Token = np.full(CANDLE_FEATURES, math.nan, dtype=np.float32)


class CandleBatch(CandleTokens):
    """``read`` says that there is a token, ``made`` makes those handed over: the very same.

    ``made`` may run beside ``read`` in another thread; it wants what was handed over in order.
    """

    __slots__ = ("_before", "_rows")

    def __init__(self, symbol: str, interval: str) -> None:
        super().__init__(symbol, interval)
        self._before = self._state
        self._rows: list[Row] = []

    def handed_over(self) -> list[Row]:
        """The candles read since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def made(self, rows: list[Row]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Tokens [N, F] of candles, the volatility [N] with each."""
        columns = np.array(rows, dtype=np.float64).reshape(-1, 7).T
        bars = Bars(columns[0].astype(np.int64) * _NS_PER_MS, *columns[1:])
        tokens, volatility, self._before = candle_tokens(bars, self.interval, self._before)
        return tokens, volatility

    def _token(self, candle: Candle) -> Token:
        close = float(candle.close)
        self._rows.append(
            (
                candle.open_ts // _NS_PER_MS,
                float(candle.open),
                float(candle.high),
                float(candle.low),
                close,
                float(candle.volume),
                self._funding,
            )
        )
        self._state = CandleState(candle.open_ts, close)
        return _LATER
