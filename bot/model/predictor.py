"""The price predictor: a token per closed candle, the close over the next bars."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import ClassVar, Literal, TypedDict

from msgspec import Struct
from msgspec.structs import replace

from bot.core.events import Candle, Event, FundingRate, Horizon, Prediction, Ticker
from bot.kvcache import KVCacheManager
from bot.model.candle_batch import CandleBatch
from bot.model.checkpoint import Checkpoint
from bot.model.chunked import ChunkedStream
from bot.model.execution import Execution
from bot.model.forecast import TokenStream, normal_width, require
from bot.model.tokens import CANDLE_FEATURES, CANDLE_TOKENS, CandleTokens, interval_ns
from bot.model.transformer import TransformerConfig

PREDICTOR = "predictor"
_MEAN_RANGE = math.sqrt(8 / math.pi)
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


class StreamedPrediction(TypedDict):
    """What ``predict_stream`` yields. ``timestamp`` is the exchange time of the close in ns,
    ``prediction`` the expected log return over the first horizon."""

    timestamp: int
    symbol: str
    prediction: float
    direction: Literal["up", "down"]
    confidence: float
    latency_ms: float
    cache_memory_mb: float


class Step(Struct, frozen=True):
    """One bar of a multi-step forecast. ``expected_return`` is the log return from now to its
    close, ``told`` what the model said of that bar alone."""

    close_ts: int
    price: float
    expected_return: float
    told: Horizon


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
        if isinstance(self.stream, ChunkedStream):
            self._candles = self.stream.later(CandleBatch(symbol, checkpoint.card.interval))
        self._checkpoint = checkpoint
        self._ready = False
        self._read = (0, 0)  # position, ts
        self._candle: Candle | None = None
        self._last: tuple[Candle, tuple[Horizon, ...]] | None = None

    @property
    def model(self) -> str:
        return self.stream.model

    @property
    def drift(self) -> float | None:
        return self.stream.drift

    @property
    def nbytes(self) -> int:
        """Bytes that its cache holds now."""
        return self.stream.nbytes

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
            assert isinstance(event, Candle)
            self._candle = event
            self.stream.push(token, self._candles.volatility)
            self._ready = event.ts - event.exchange_ts <= self._bar_ns

    def predict(self) -> Prediction | None:
        if not self._ready:
            return None
        self._ready = False
        position, ts = self._read
        said = self.stream.predict(position=position, ts=ts, price=self._candles.close)
        assert self._candle is not None
        self._last = (self._candle, said.horizons)
        return said

    def predict_stream(
        self, events: Iterable[Event], *, clock_ns: Callable[[], int] = time.perf_counter_ns
    ) -> Iterator[StreamedPrediction]:
        """Read events one by one and answer after each close; the first horizon's figures.

        ``latency_ms`` is from handing the closing event over to having the answer.
        """
        for position, event in enumerate(events):
            began = clock_ns()
            self.take(event, position)
            said = self.predict()
            if said is None:
                continue
            first = said.horizons[0]
            yield StreamedPrediction(
                timestamp=event.exchange_ts,
                symbol=self.symbol,
                prediction=first.expected_return,
                direction="up" if first.up_probability > 0.5 else "down",
                confidence=first.confidence,
                latency_ms=(clock_ns() - began) / 1e6,
                cache_memory_mb=self.nbytes / 1e6,
            )

    def forecast(self, steps: int) -> list[Step]:
        """The next ``steps`` bars, each fed back as if it had happened, on a fork of the cache.

        A bar's token needs open, high, low, close and volume, and the model tells a return. So the
        bar is made up: it opens at the last close and moves by the expected return; it spans the
        range that a Brownian motion of the told standard deviation has on average (sqrt(8 / pi)
        of it, Feller, 1951), shared above and below; its volume and funding are the last ones.
        This is the path of the means: it shows where the model leans, and its spread beyond the
        first bar is the spread around that path alone, so it is too narrow for the price itself.

        Raises ValueError before the first prediction, or for a model whose first horizon is not
        one bar.
        """
        config = self._checkpoint.card.config
        if self._last is None:
            raise ValueError("forecast needs a prediction first: read a candle and predict")
        if config.horizons_ns[0] != self._bar_ns:
            raise ValueError(f"the first horizon is {config.horizons_ns[0]} ns, not one bar")
        reader, (candle, horizons) = copy.copy(self._candles), self._last
        width = normal_width(config.quantiles)
        found: list[Step] = []
        with self.stream.forked() as answer:
            for step in range(steps):
                if step:
                    token = reader.read(candle)
                    assert token is not None
                    horizons = answer(token, reader.volatility)
                candle = next_bar(candle, horizons[0], width)
                change = math.log(float(candle.close) / self._candles.close)
                found.append(Step(candle.exchange_ts, float(candle.close), change, horizons[0]))
        return found

    def lost(self) -> None:
        self.stream.hole()


def next_bar(last: Candle, told: Horizon, width: float) -> Candle:
    """The bar after ``last`` as ``forecast`` makes it up; ``width`` is how many standard
    deviations lie between a normal's outermost quantiles."""
    opened = float(last.close)
    close = opened * math.exp(told.expected_return)
    deviation = max(told.quantiles[-1] - told.quantiles[0], 0.0) / width
    beyond = max(_MEAN_RANGE * deviation - abs(told.expected_return), 0.0) / 2
    numbers = (
        opened, max(opened, close) * math.exp(beyond), min(opened, close) * math.exp(-beyond), close
    )  # fmt: skip
    bar_ns = last.exchange_ts - last.open_ts
    return replace(
        last,
        ts=last.ts + bar_ns,
        exchange_ts=last.exchange_ts + bar_ns,
        open_ts=last.exchange_ts,
        **dict(zip(("open", "high", "low", "close"), map(_decimal, numbers), strict=True)),
    )


def _decimal(number: float) -> Decimal:
    return Decimal(repr(number))
