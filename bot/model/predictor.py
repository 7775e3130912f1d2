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
_HORIZON_BARS = (1, 5, 15)
_MINUTE_VOLATILITY = 5e-4


def predictor_config(*, interval: str = "1", window: int = 512) -> TransformerConfig:
    """The default shape for candles of ``interval``: 4 layers of 4 heads of 32, three horizons."""
    bar_ns = interval_ns(interval)
    bar_volatility = _MINUTE_VOLATILITY * math.sqrt(bar_ns / interval_ns("1"))
    return TransformerConfig(
        features=CANDLE_FEATURES,
        window=window,
        horizons_ns=tuple(bars * bar_ns for bars in _HORIZON_BARS),
        return_scale=tuple(bar_volatility * math.sqrt(bars) for bars in _HORIZON_BARS),
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
        stream: type[TokenStream] = TokenStream,
    ) -> None:
        require(checkpoint.card, tokens=CANDLE_TOKENS, features=CANDLE_FEATURES)
        self.symbol = symbol
        self._candles = CandleTokens(symbol, checkpoint.card.interval)
        self._bar_ns = interval_ns(checkpoint.card.interval)
        self.stream = stream(
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
    def tokens(self) -> int:
        return self.stream.tokens

    @property
    def ready(self) -> bool:
        return self._ready

    @property
    def price(self) -> float:
        return self._candles.close

    def take(self, event: Event, position: int) -> None:
        token = self._candles.read(event)
        self._read = (position, event.ts)
        if token is not None:
            self.stream.push(token)
            self._ready = event.ts - event.exchange_ts <= self._bar_ns

    def predict(self) -> Prediction | None:
        if not self._ready:
            return None
        self._ready = False
        position, ts = self._read
        return self.stream.predict(position=position, ts=ts, price=self.price)

    def lost(self) -> None:
        self.stream.hole()
