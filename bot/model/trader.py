"""A transformer and its KV cache in one object, for notebooks and first steps.

The bot itself reads events through forecasters (``analyzer.py``, ``predictor.py``); this reads
feature vectors.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from bot.core.events import Horizon
from bot.kvcache import KVCacheManager, WindowCache, load_sequence, save_sequence
from bot.kvcache.layout import Layout
from bot.model.checkpoint import Checkpoint, seeded
from bot.model.forecast import horizons_of
from bot.model.transformer import CausalTransformer, TransformerConfig

_NS_PER_S = 1_000_000_000


def trader_config(*, features: int = 8, window: int = 1024) -> TransformerConfig:
    """4 layers of 4 heads of 32, three horizons of seconds."""
    return TransformerConfig(
        features=features,
        window=window,
        horizons_ns=(1 * _NS_PER_S, 5 * _NS_PER_S, 10 * _NS_PER_S),
        return_scale=(0.5e-4, 1e-4, 1.5e-4),
    )


class KVCacheTrader:
    """Feed it what happened, one feature vector an event; it answers with what may come.

    >>> trader = KVCacheTrader(kv_cache_dtype="int8")
    >>> horizons = trader.update(features)  # [F] or [T, F]; the newest token's answer

    Without a ``checkpoint`` the weights are UNTRAINED, drawn from ``seed``. ``kind`` and the
    options after it are those of ``bot.kvcache.cache_spec``. The cache has a budget of its own:
    room for ``sequences``, forks included.
    """

    def __init__(
        self,
        config: TransformerConfig | None = None,
        *,
        checkpoint: Checkpoint | None = None,
        seed: int = 1,
        kind: str = "paged",
        kv_cache_dtype: str = "int8",
        block_size: int = 16,
        retention: str = "",
        retain: int = 0,
        sequences: int = 4,
    ) -> None:
        if checkpoint is not None and config is not None:
            raise ValueError("a checkpoint brings its config: give one of the two")
        self.checkpoint = checkpoint or seeded(
            config or trader_config(), seed, name="trader", tokens="vectors"
        )
        spec = self.model.config.cache_spec(
            kind,
            block_size=block_size,
            kv_cache_dtype=kv_cache_dtype,
            retention=retention,
            retain=retain,
            model=self.checkpoint.card.weights_sha256,
        )
        layout = Layout(spec)
        budget = layout.block_bytes * spec.blocks_for(spec.step_tokens) * sequences
        self.caches = KVCacheManager(budget, slab_bytes=layout.block_bytes)
        self.cache: WindowCache = self.caches.anonymous(spec)

    @property
    def model(self) -> CausalTransformer:
        return self.checkpoint.model

    @property
    def position(self) -> int:
        """Tokens read so far."""
        return self.cache.position

    @property
    def nbytes(self) -> int:
        """Bytes that the cache holds now."""
        return self.cache.nbytes

    def update(self, features: ArrayLike) -> tuple[Horizon, ...]:
        """Append one token [F] or several [T, F] and answer for the newest.

        Raises ValueError for another shape, FloatingPointError for what is no number.
        """
        x = self._tokens(features)
        with torch.inference_mode():
            return horizons_of(self.model, self.model.step(x, self.cache)[-1])

    def recompute(self, features: ArrayLike) -> tuple[Horizon, ...]:
        """The answer for the last of ``features`` [T, F] from nothing, without a cache: what
        ``update`` saves."""
        x = self._tokens(features)
        with torch.inference_mode():
            return horizons_of(self.model, self.model(x)[-1])

    def fork(self) -> KVCacheTrader:
        """A second trader with the same past, to try out what could come; use it in a ``with``."""
        return self._over(self.cache.fork())

    def sibling(self) -> KVCacheTrader:
        """A second trader with the same model and memory, and no past."""
        return self._over(self.cache.sibling())

    def truncate(self, keep_last: int) -> None:
        """Forget all but the last ``keep_last`` tokens."""
        self.cache.truncate(keep_last)

    def reset(self) -> None:
        """Forget everything."""
        self.cache.reset()

    def save(self, path: Path) -> None:
        """Write what the cache holds, for a warm restart."""
        save_sequence(self.cache, path, model=self.checkpoint.card.weights_sha256)

    def load(self, path: Path) -> None:
        """Go on where ``save`` left off. Raises SavedSequenceError for another model or kind."""
        load_sequence(self.cache, path, model=self.checkpoint.card.weights_sha256)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        self.reset()

    def _over(self, cache: WindowCache) -> KVCacheTrader:
        twin = object.__new__(KVCacheTrader)
        twin.checkpoint, twin.caches, twin.cache = self.checkpoint, self.caches, cache
        return twin

    def _tokens(self, features: ArrayLike) -> Tensor:
        x = np.atleast_2d(np.asarray(features, dtype=np.float32))
        wanted = self.model.config.features
        if x.ndim != 2 or x.shape[1] != wanted or not len(x):
            raise ValueError(f"features {np.shape(features)} must be [{wanted}] or [T, {wanted}]")
        return torch.from_numpy(x)
