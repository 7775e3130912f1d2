"""From tokens to a ``Prediction``: what the forecasters share, around one model and one cache.

Pure and synchronous: no clock and no thread, so a replay can ask again at any position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import NormalDist
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bot.core.events import Event, Horizon, Prediction
from bot.kvcache import KVCacheManager
from bot.model.checkpoint import Card, Checkpoint, CheckpointError
from bot.model.drift import InputDrift
from bot.model.execution import Execution
from bot.model.tokens import Token
from bot.model.transformer import STEP_TOKENS, CausalTransformer, TransformerConfig

_DRIFT_BLOCK = 250
"""Tokens that are held against the training's at once."""


class Forecaster(Protocol):
    """One symbol, one model. Feed it with ``take``; ask it with ``predict``."""

    wants: ClassVar[tuple[type[Event], ...]]
    symbol: str

    @property
    def model(self) -> str:
        """The name on the model's card."""

    @property
    def drift(self) -> float | None:
        """The population stability index of the inputs of late; None where it is not known."""

    @property
    def tokens(self) -> int:
        """Tokens made since the start."""

    @property
    def ready(self) -> bool:
        """Whether ``predict`` would answer."""

    @property
    def price(self) -> float:
        """What the newest token's predicted returns are relative to; 0.0 before the first."""

    def take(self, event: Event, position: int) -> None:
        """Read one event of a wanted type and this symbol; ``position`` is its journal position."""

    def predict(self) -> Prediction | None:
        """Append what waits in one step and answer for the newest token; None if nothing is new.

        ``ts`` and ``ready_ts`` are left at ``read_ts``: the caller has the clock.
        """

    def lost(self) -> None:
        """Say that events before the next one were lost."""


class TokenStream:
    """A model, its cached sequence, and the inputs from which the sequence can be rebuilt.

    The inputs kept are all that an output can depend on (``config.reach`` and the sinks), so a
    rebuild after an eviction is exact. When more than that waits, the older tokens cannot matter
    and are skipped. Only a selective cache cannot be rebuilt as it was: its predictions then say
    ``rebuilt`` until the tokens lost are out of reach. ``execution`` steps the model in torch's
    place.
    """

    __slots__ = ("_cache", "_checkpoint", "_drift", "_execution", "_first", "_history", "_pending",
                 "_since_hole", "_volatility", "symbol", "tokens")  # fmt: skip

    def __init__(
        self,
        checkpoint: Checkpoint,
        caches: KVCacheManager,
        symbol: str,
        *,
        block_size: int,
        kv_cache_dtype: str,
        kind: str = "paged",
        retention: str = "",
        retain: int = 0,
        execution: Execution | None = None,
    ) -> None:
        config = checkpoint.card.config
        spec = config.cache_spec(
            kind,
            block_size=block_size,
            kv_cache_dtype=kv_cache_dtype,
            retention=retention,
            retain=retain,
            model=checkpoint.card.weights_sha256,
        )
        self.symbol = symbol
        self._checkpoint = checkpoint
        self._execution: Execution = execution or checkpoint.model
        self._cache = caches.open(f"{checkpoint.card.name}/{symbol}", spec, step_tokens=STEP_TOKENS)
        self._history = np.zeros((config.reach, config.features), dtype=np.float32)  # a ring
        self._first = np.zeros((config.sink_tokens, config.features), dtype=np.float32)
        self._pending = 0
        self._since_hole: int | None = None
        self._volatility = 1.0
        self._drift = InputDrift(checkpoint.card.inputs) if checkpoint.card.inputs else None
        self.tokens = 0

    @property
    def model(self) -> str:
        return self._checkpoint.card.name

    @property
    def drift(self) -> float | None:
        """How far the tokens of late are from the training's; see ``InputDrift``."""
        return None if self._drift is None else self._drift.index

    @property
    def nbytes(self) -> int:
        """Bytes that the cached sequence holds now."""
        return self._cache.nbytes

    def push(self, token: Token, volatility: float = 1.0) -> None:
        """Let a token wait for the next ``predict``; ``volatility`` is the one known with it."""
        self._volatility = volatility
        self._history[self.tokens % len(self._history)] = token
        if self.tokens < len(self._first):
            self._first[self.tokens] = token
        self.tokens += 1
        self._pending += 1
        block = min(_DRIFT_BLOCK, len(self._history))
        if self._drift is not None and self.tokens % block == 0:
            self._drift.add(self._inputs(block).numpy())
        if self._since_hole is not None:
            self._since_hole += 1
            if self._since_hole >= len(self._history):
                self._since_hole = None

    def hole(self) -> None:
        """Say that tokens are missing before the next one."""
        self._since_hole = 0

    def predict(self, *, position: int, ts: int, price: float) -> Prediction:
        """Append the tokens that wait, at least one, and answer for the newest.

        Raises OutOfBlocks, and FloatingPointError when the model answers with no number.
        """
        card = self._checkpoint.card
        return Prediction(
            ts=ts,
            symbol=self.symbol,
            model=card.name,
            read_position=position,
            read_ts=ts,
            ready_ts=ts,
            price=price,
            horizons=horizons_of(self._checkpoint.model, self._advance(), self._volatility),
            trained=card.trained,
            rebuilt=self._since_hole is not None,
        )

    @contextmanager
    def forked(self) -> Iterator[Callable[[Token, float], tuple[Horizon, ...]]]:
        """A second sequence with this one's past, to try out what could come: give it tokens and
        their volatility, it answers; this one's cache stays as it is. Raises OutOfBlocks."""
        assert not self._pending, "tokens wait"
        with self._cache.fork() as fork, torch.inference_mode():

            def answer(token: Token, volatility: float) -> tuple[Horizon, ...]:
                row = torch.from_numpy(np.ascontiguousarray(token[None]))
                heads = self._execution.step(row, fork)[-1]
                return horizons_of(self._checkpoint.model, heads, volatility)

            yield answer

    def _advance(self) -> Tensor:
        """Raw heads [outputs] of the newest token."""
        assert self._pending, "nothing waits"
        with torch.inference_mode():
            if self._cache.evicted or self._pending > len(self._history):
                heads = self._rebuild()[-1]
            else:
                heads = self._execution.step(self._inputs(self._pending), self._cache)[-1]
        self._pending = 0
        if not np.isfinite(heads.numpy()).all():
            name = self._checkpoint.card.name
            raise FloatingPointError(f"model {name!r} answers {heads.tolist()} for {self.symbol}")
        return heads

    def _inputs(self, count: int) -> Tensor:
        """The last ``count`` tokens [count, F], at most those kept."""
        rows = np.arange(self.tokens - count, self.tokens) % len(self._history)
        return torch.from_numpy(self._history[rows])

    def _rebuild(self) -> Tensor:
        """Raw heads after appending what is kept to an empty sequence."""
        model, cache, sinks = self._execution, self._cache, len(self._first)
        if cache.spec.retention:
            self.hole()
        recent = self._inputs(min(self.tokens, len(self._history)))
        start = self.tokens - len(recent)
        if not sinks:
            cache.reset(start)
            return model.prefill(recent, cache)
        cache.reset()
        first = torch.from_numpy(self._first[:start])
        if start <= sinks:
            return model.prefill(torch.cat((first, recent)), cache)
        model.step(first, cache)
        cache.seek(start)
        return model.step(recent, cache)


def require(card: Card, *, tokens: str, features: int) -> None:
    """Raise CheckpointError unless the model reads these tokens."""
    if card.tokens != tokens or card.config.features != features:
        raise CheckpointError(
            f"model {card.name!r} reads {card.tokens} tokens of {card.config.features} features, "
            f"{tokens} of {features} are needed: choose a checkpoint trained for them"
        )


def normal_width(levels: tuple[float, ...]) -> float:
    """How many standard deviations lie between a normal's quantiles of the outermost levels."""
    normal = NormalDist()
    return normal.inv_cdf(levels[-1]) - normal.inv_cdf(levels[0])


def deviation(first: Prediction, second: Prediction, config: TransformerConfig) -> float:
    """How far two computations of one prediction lie apart, to hold against ``Card.tolerance``.

    The largest difference of any expected return or quantile, in units of the standard deviation
    that the first prediction's outermost quantiles stand for if it is normal, or of any
    ``up_probability``.
    """
    width = normal_width(config.quantiles)
    worst = 0.0
    for a, b in zip(first.horizons, second.horizons, strict=True):
        scale = (a.quantiles[-1] - a.quantiles[0]) / width
        returns = zip(
            (a.expected_return, *a.quantiles), (b.expected_return, *b.quantiles), strict=True
        )
        worst = max(
            worst,
            abs(a.up_probability - b.up_probability),
            *(abs(one - other) / scale for one, other in returns),
        )
    return worst


def horizons_of(
    model: CausalTransformer, heads: Tensor, volatility: float = 1.0
) -> tuple[Horizon, ...]:
    """Raw heads [outputs] in log returns and probabilities; see ``all_horizons_of``."""
    return all_horizons_of(model, heads.unsqueeze(0), [volatility])[0]


def all_horizons_of(
    model: CausalTransformer, heads: Tensor, volatility: Sequence[float]
) -> list[tuple[Horizon, ...]]:
    """Raw heads [T, outputs] in log returns and probabilities, for each of T tokens.

    ``volatility`` [T] is the one known with each token, for a model whose returns are scaled by it.
    ``confidence`` is how far ``up_probability`` is from even odds, doubled.
    """
    config = model.config
    raw = heads.detach().numpy().astype(np.float64).reshape(len(heads), len(config.horizons_ns), -1)
    scales: NDArray[np.float64] = np.array(config.return_scale)
    if config.volatility_scaled:
        scales = scales * np.array(volatility)[:, None]
    # numpy, since torch's small operations cost three times as much; the layout is that of
    # ``CausalTransformer.outputs``
    rising = raw[..., 2:].copy()
    rising[..., 1:] = np.logaddexp(0.0, rising[..., 1:])
    means = (raw[..., 0] * scales).tolist()
    chances = ((1 + np.tanh(raw[..., 1] / 2)) / 2).tolist()  # the logistic function
    quantiles = (rising.cumsum(-1) * scales[..., None]).tolist()
    return [
        tuple(
            Horizon(
                horizon_ns=horizon_ns,
                expected_return=mean,
                up_probability=chance,
                confidence=abs(2 * chance - 1),
                quantiles=tuple(values),
            )
            for horizon_ns, mean, chance, values in zip(config.horizons_ns, *token, strict=True)
        )
        for token in zip(means, chances, quantiles, strict=True)
    ]
