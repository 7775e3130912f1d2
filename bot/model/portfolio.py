"""Many assets at once: a shared market context as a prefix, a fork per asset, weights for all.

The tokens of one symbol, the market's, are streamed once. When a bar has closed everywhere, each
asset forks that sequence, appends its own last tokens behind it, and the newest tokens of all go
through the model in one batch. A context of 256 tokens is so computed once instead of once an
asset. The model must have been trained on such sequences to profit from the context; another
works, and its scores say what it is worth.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from bot.core.events import Candle, Event, FundingRate, Horizon, Prediction, Ticker
from bot.kvcache import KVCacheManager, WindowCache
from bot.model.allocation import Allocation, Correlations, allocate
from bot.model.checkpoint import Checkpoint
from bot.model.execution import Execution
from bot.model.forecast import horizons_of, normal_width, require
from bot.model.tokens import CANDLE_FEATURES, CANDLE_TOKENS, CandleTokens, Token
from bot.model.transformer import STEP_TOKENS

PORTFOLIO = "portfolio"
_RULES = Allocation()


class Layout(Struct, frozen=True):
    """How the sequences are laid out: whose tokens are shared, and how many own ones follow."""

    market: str
    own_tokens: int = 32
    horizon: int = 0
    """The horizon, an index, for which the weights are."""


class _Asset:
    """One symbol's reader and its last tokens."""

    def __init__(self, symbol: str, interval: str, own_tokens: int) -> None:
        self.reader = CandleTokens(symbol, interval)
        self.tokens: deque[Token] = deque(maxlen=own_tokens)
        self.close_ts = 0
        self.change = math.nan

    def read(self, event: Event) -> Token | None:
        before = self.reader.close
        token = self.reader.read(event)
        if token is not None:
            self.tokens.append(token)
            self.close_ts = event.exchange_ts
            self.change = math.log(self.reader.close / before) if before else math.nan
        return token


class MultiAssetPortfolioInference:
    """Reads the candles of ``symbols`` and the market's; answers when a bar has closed for all.

    A bar that is missing for one of them is not answered; the next one that is there for all is.
    """

    wants: ClassVar[tuple[type[Event], ...]] = (Candle, Ticker, FundingRate)

    def __init__(
        self,
        checkpoint: Checkpoint,
        caches: KVCacheManager,
        symbols: Sequence[str],
        layout: Layout,
        *,
        rules: Allocation = _RULES,
        block_size: int = 16,
        kv_cache_dtype: str = "int8",
        execution: Execution | None = None,
    ) -> None:
        """Raises ValueError for no symbols, one twice, or own tokens that leave no context."""
        card, config = checkpoint.card, checkpoint.card.config
        require(card, tokens=CANDLE_TOKENS, features=CANDLE_FEATURES)
        if not symbols or len(set(symbols)) != len(symbols):
            raise ValueError(f"a portfolio needs symbols, each once, got {list(symbols)}")
        if not 0 < layout.own_tokens < config.window:
            raise ValueError(
                f"own_tokens {layout.own_tokens} must leave room in the window of {config.window}"
            )
        self.symbols = tuple(symbols)
        self._checkpoint = checkpoint
        self._layout = layout
        self._rules = rules
        self._execution: Execution = execution or checkpoint.model
        spec = config.cache_spec(
            "paged", block_size=block_size, kv_cache_dtype=kv_cache_dtype, model=card.weights_sha256
        )
        name = f"{card.name}/{layout.market}"
        self._shared = caches.open(name, spec, step_tokens=STEP_TOKENS)
        self._context: deque[Token] = deque(maxlen=config.reach)
        self._waiting = 0
        self._market = _Asset(layout.market, card.interval, 1)
        self._assets = {one: _Asset(one, card.interval, layout.own_tokens) for one in self.symbols}
        self._correlations = Correlations(len(self.symbols))
        self._answered_ts = 0
        self._read = (0, 0)  # position, ts

    # --- reading ----------------------------------------------------------------------------

    @property
    def market(self) -> str:
        return self._layout.market

    @property
    def name(self) -> str:
        """The model's, as on its card."""
        return self._checkpoint.card.name

    def close_of(self, symbol: str) -> float:
        """The symbol's last close, 0.0 before the first."""
        return self._assets[symbol].reader.close

    def take(self, event: Event, position: int) -> int:
        """Read one event of a wanted type; returns how many tokens it made."""
        symbol = getattr(event, "symbol", "")
        self._read = (position, event.ts)
        made = 0
        if symbol == self._layout.market:
            token = self._market.read(event)
            if token is not None:
                self._context.append(token)
                self._waiting += 1
                made += 1
        asset = self._assets.get(symbol)
        if asset is not None and asset.read(event) is not None:
            made += 1
        return made

    @property
    def ready(self) -> bool:
        """Whether the market's newest bar has closed for every asset and is not answered."""
        now = self._market.close_ts
        return now > self._answered_ts and all(
            asset.close_ts == now for asset in self._assets.values()
        )

    # --- answering --------------------------------------------------------------------------

    def predict(self) -> list[Prediction]:
        """A prediction with a weight for each asset; none while a bar is missing or answered.

        Raises OutOfBlocks, and FloatingPointError when the model answers with no number.
        """
        if not self.ready:
            return []
        self._answered_ts = self._market.close_ts
        with torch.inference_mode():
            self._advance()
            own = [torch.from_numpy(np.stack(self._assets[one].tokens)) for one in self.symbols]
            heads = answers(self._execution, self._shared, own)
        if not torch.isfinite(heads).all():
            raise FloatingPointError(f"model {self.name!r} answers with no number")
        told = [self._horizons(one, row) for one, row in zip(self.symbols, heads, strict=True)]
        weights = self._weights(told)
        position, ts = self._read
        return [
            Prediction(
                ts=ts,
                symbol=symbol,
                model=self.name,
                read_position=position,
                read_ts=ts,
                ready_ts=ts,
                price=self._assets[symbol].reader.close,
                horizons=horizons,
                weight=float(weight),
                trained=self._checkpoint.card.trained,
            )
            for symbol, horizons, weight in zip(self.symbols, told, weights, strict=True)
        ]

    def _advance(self) -> None:
        """Append the market's tokens that wait; rebuild an evicted context from what is kept."""
        shared, kept = self._shared, self._context
        if shared.evicted or self._waiting > len(kept):
            shared.reset(max(shared.position + self._waiting - len(kept), 0))
            self._waiting = len(kept)
        if self._waiting:
            waiting = np.stack(list(kept)[-self._waiting :])
            self._execution.step(torch.from_numpy(waiting), shared)
            self._waiting = 0

    def _horizons(self, symbol: str, heads: Tensor) -> tuple[Horizon, ...]:
        return horizons_of(self._checkpoint.model, heads, self._assets[symbol].reader.volatility)

    def _weights(self, told: Sequence[tuple[Horizon, ...]]) -> np.ndarray:
        chosen = [horizons[self._layout.horizon] for horizons in told]
        mean = np.array([horizon.expected_return for horizon in chosen])
        deviation = np.array([self._deviation(horizon) for horizon in chosen])
        bars = chosen[0].horizon_ns / self._checkpoint.card.config.horizons_ns[0]
        changes = np.array([self._assets[one].change for one in self.symbols])
        self._correlations.add(changes, deviation / math.sqrt(max(bars, 1.0)))
        matrix = self._correlations.matrix
        return allocate(mean, deviation, matrix, chosen[0].horizon_ns, self._rules)

    def _deviation(self, horizon: Horizon) -> float:
        """The standard deviation that the outermost quantiles stand for, if they are a normal's."""
        width = normal_width(self._checkpoint.card.config.quantiles)
        return max((horizon.quantiles[-1] - horizon.quantiles[0]) / width, 1e-9)


def answers(model: Execution, shared: WindowCache, own: Sequence[Tensor]) -> Tensor:
    """Raw heads [A, outputs] of the last of each asset's tokens ``own`` [T, F], read behind the
    shared sequence, which stays as it is. Raises OutOfBlocks."""
    forks = [shared.fork() for _ in own]
    try:
        for tokens, fork in zip(own, forks, strict=True):
            if len(tokens) > 1:
                model.step(tokens[:-1], fork)
        newest = torch.cat([tokens[-1:] for tokens in own])
        return model.decode(newest, forks)
    finally:
        for fork in forks:
            fork.reset()


class PortfolioMember:
    """One asset of a portfolio as a forecaster, so that the inference thread reads and asks each
    symbol; the first one asked after a bar has closed for all computes the answers of all."""

    wants: ClassVar[tuple[type[Event], ...]] = MultiAssetPortfolioInference.wants

    def __init__(
        self, whole: MultiAssetPortfolioInference, symbol: str, told: dict[str, Prediction]
    ) -> None:
        self.symbol = symbol
        self.model = whole.name
        self.drift = None
        self._whole = whole
        self._told = told
        self._tokens = 0

    @property
    def tokens(self) -> int:
        return self._tokens

    @property
    def price(self) -> float:
        return self._whole.close_of(self.symbol)

    @property
    def ready(self) -> bool:
        return self._whole.ready or self.symbol in self._told

    def take(self, event: Event, position: int) -> None:
        self._tokens += self._whole.take(event, position)

    def predict(self) -> Prediction | None:
        if self._whole.ready:
            self._told.clear()
            self._told.update((one.symbol, one) for one in self._whole.predict())
        return self._told.pop(self.symbol, None)

    def lost(self) -> None:
        """A candle that was lost is a bar that is missing: there is no answer for it."""


def members(whole: MultiAssetPortfolioInference) -> list[PortfolioMember]:
    """A forecaster an asset. Raises ValueError where the market, whose member reads the context, is
    no asset."""
    if whole.market not in whole.symbols:
        raise ValueError(f"the market {whole.market} must be one of the portfolio's symbols")
    waiting: dict[str, Prediction] = {}
    return [PortfolioMember(whole, symbol, waiting) for symbol in whole.symbols]
