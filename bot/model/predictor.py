"""The price predictor: a token per closed candle, the close over the next bars."""

from __future__ import annotations

import math
from typing import ClassVar

from bot.core.events import Candle, Event, FundingRate, Prediction, Ticker
from bot.kvcache import KVCacheManager
from bot.model.checkpoint import Checkpoint
from bot.model.execution import Execution
from bot.model.forecast import TokenStream, require
from bot.model.tokens import CANDLE_FEATURES, CANDLE_TOKENS, CandleTokens, interval_ns
from bot.model.transformer import TransformerConfig

PREDICTOR = "predictor"
HORIZON_BARS = (1, 2, 4, 8, 16)


def predictor_config(*, interval: str = "1", window: int = 512) -> TransformerConfig:
    """The default shape for candles of ``interval``: 4 layers of 4 heads of 32, five horizons.

    Returns are in units of the volatility known at the close.
    """
    bar_ns = interval_ns(interval)
    return TransformerConfig(
        features=CANDLE_FEATURES,
        window=window,
        horizons_ns=tuple(bars * bar_ns for bars in HORIZON_BARS),
        return_scale=tuple(math.sqrt(bars) for bars in HORIZON_BARS),
        volatility_scaled=True,
    )


class RealTimePricePredictor:
    """Reads one symbol's candles of the checkpoint's interval; answers after every close.

    A candle that closed more than one bar before it was received is history: it is read, and
    answered only together with a current one.
    """

    wants: ClassVar[tuple[type[Event], ...]] = (Candle, Ticker, FundingRate)

    def __init__(
        self,
        checkpoint: Checkpoint,
        caches: KVCacheManager,
        symbol: str,
        *,
        block_size: int = 16,
        kv_cache_dtype: str = "int8",
        kind: str = "paged",
        retention: str = "",
        retain: int = 0,
        execution: Execution | None = None,
    ) -> None:
        require(checkpoint.card, tokens=CANDLE_TOKENS, features=CANDLE_FEATURES)
        self.symbol = symbol
        self._candles = CandleTokens(symbol, checkpoint.card.interval)
        self._bar_ns = interval_ns(checkpoint.card.interval)
        self._stream = TokenStream(
            checkpoint,
            caches,
            symbol,
            block_size=block_size,
            kv_cache_dtype=kv_cache_dtype,
            kind=kind,
            retention=retention,
            retain=retain,
            execution=execution,
        )
        self._ready = False
        self._read = (0, 0)  # position, ts

    @property
    def model(self) -> str:
        return self._stream.model

    @property
    def drift(self) -> float | None:
        return self._stream.drift

    @property
    def nbytes(self) -> int:
        """Bytes that its cache holds now."""
        return self._stream.nbytes

    @property
    def tokens(self) -> int:
        return self._stream.tokens

    @property
    def ready(self) -> bool:
        return self._ready

    def take(self, event: Event, position: int) -> None:
        token = self._candles.read(event)
        self._read = (position, event.ts)
        if token is not None:
            self._stream.push(token, self._candles.volatility)
            self._ready = event.ts - event.exchange_ts <= self._bar_ns

    def predict(self) -> Prediction | None:
        if not self._ready:
            return None
        self._ready = False
        position, ts = self._read
        return self._stream.predict(position=position, ts=ts, price=self._candles.close)

    def lost(self) -> None:
        self._stream.hole()
