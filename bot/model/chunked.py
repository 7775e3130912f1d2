"""A recorded stream's predictions in pieces: many tokens in one step of the same cache.

A step of many tokens gives each what it would have been given alone (see ``WindowCache``), so
these are the streaming predictions at a fraction of their time. Nothing here knows when a
prediction is ready; ``research/predicted.py`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from bot.core.events import Horizon
from bot.kvcache import OutOfBlocks
from bot.model.candle_batch import CandleBatch
from bot.model.forecast import TokenStream, all_horizons_of
from bot.model.tokens import Token

Waiting: TypeAlias = list[Any]
"""Tokens, each with the volatility known with it, or the candles that they are made of."""


class ChunkedStream(TokenStream):
    """A ``TokenStream`` that answers for all tokens that wait, not for the newest alone."""

    __slots__ = ("_batch", "_rows")

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type] # as TokenStream's
        self._rows: list[tuple[Token, float]] = []
        self._batch: CandleBatch | None = None

    def later(self, batch: CandleBatch) -> CandleBatch:
        """From now on the tokens pushed are only counted: ``batch`` makes them when collected."""
        self._batch = batch
        return batch

    @property
    def waiting(self) -> int:
        """Tokens that wait."""
        return len(self._rows)

    def push(self, token: Token, volatility: float = 1.0) -> None:
        self._rows.append((token, volatility))
        self.tokens += 1

    def collect(self) -> Waiting:
        """Hand over what waits: an entry a token."""
        rows, self._rows = self._rows, []
        return rows if self._batch is None else self._batch.handed_over()

    def advance(self, waiting: Waiting) -> list[tuple[Horizon, ...]]:
        """Append what was collected to the sequence; the horizons of each token, in order.

        May run beside ``push`` in another thread. Raises OutOfBlocks where the cache's budget does
        not hold every sequence at once, and FloatingPointError when the model answers with no
        number.
        """
        if not waiting:
            return []
        if self._cache.evicted:
            raise OutOfBlocks("the budget does not hold every sequence of the run at once")
        tokens, volatility = self._made(waiting)
        rows = torch.from_numpy(tokens)
        # a selective cache chooses what it keeps between steps, so it takes tokens as a stream does
        size = 1 if self._cache.spec.retention else len(rows)
        with torch.inference_mode():
            parts = [self._execution.step(part, self._cache) for part in torch.split(rows, size)]
            heads = torch.cat(parts)
        if not torch.isfinite(heads).all():
            name = self._checkpoint.card.name
            raise FloatingPointError(f"model {name!r} answers with no number for {self.symbol}")
        return all_horizons_of(self._checkpoint.model, heads, volatility)

    def _made(self, waiting: Waiting) -> tuple[NDArray[np.float32], Sequence[float]]:
        """The tokens [N, F], and the volatility known with each."""
        if self._batch is not None:
            tokens, volatility = self._batch.made(waiting)
            return tokens, volatility.tolist()
        return np.stack([token for token, _ in waiting]), [each for _, each in waiting]
