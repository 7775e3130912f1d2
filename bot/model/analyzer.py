"""The order-book analyzer: a token per book update, the mid price over the next seconds."""

from __future__ import annotations

from typing import ClassVar

from bot.core.events import BookUpdate, Event, FeedDown, Prediction, Trade
from bot.kvcache import KVCacheManager
from bot.model.checkpoint import Checkpoint
from bot.model.execution import Execution
from bot.model.forecast import TokenStream, require
from bot.model.tokens import BOOK_FEATURES, BOOK_TOKENS, BookTokens
from bot.model.transformer import TransformerConfig

ANALYZER = "analyzer"
HORIZONS_NS = (100_000_000, 1_000_000_000, 5_000_000_000, 10_000_000_000)


def analyzer_config(*, window: int = 256) -> TransformerConfig:
    """The default shape: 4 layers of 4 heads of 32, horizons of 0.1 to 10 seconds."""
    return TransformerConfig(
        features=BOOK_FEATURES,
        window=window,
        horizons_ns=HORIZONS_NS,
        return_scale=(0.2e-4, 0.5e-4, 1e-4, 1.5e-4),
    )


class StreamingOrderBookAnalyzer:
    """Reads one symbol's books and trades; answers after every book update of a feed that is up."""

    wants: ClassVar[tuple[type[Event], ...]] = (BookUpdate, Trade, FeedDown)

    def __init__(
        self,
        checkpoint: Checkpoint,
        caches: KVCacheManager,
        symbol: str,
        *,
        depth: int,
        block_size: int = 16,
        kv_cache_dtype: str = "int8",
        kind: str = "paged",
        retention: str = "",
        retain: int = 0,
        execution: Execution | None = None,
        stream: type[TokenStream] = TokenStream,
    ) -> None:
        require(checkpoint.card, tokens=BOOK_TOKENS, features=BOOK_FEATURES)
        self.symbol = symbol
        self._book = BookTokens(symbol, depth)
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
        return self._book.mid

    def take(self, event: Event, position: int) -> None:
        token = self._book.read(event)
        self._read = (position, event.ts)
        if token is not None:
            self.stream.push(token)
            self._ready = True
        elif isinstance(event, FeedDown):
            self._ready = False

    def predict(self) -> Prediction | None:
        if not self._ready:
            return None
        self._ready = False
        position, ts = self._read
        return self.stream.predict(position=position, ts=ts, price=self.price)

    def lost(self) -> None:
        self._book.gap()
        self.stream.hole()
