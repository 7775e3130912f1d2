"""The kinds of cache by name, and the literature's names for them.

A kind is words joined by "+", for instance "quantized+paged+prefix":

``standard``   one preallocated contiguous ring a sequence, read in place
``paged``      blocks from a pool, given back as the window moves on; the default
``quantized``  codes instead of numbers: int8 unless ``kv_cache_dtype`` says otherwise
``selective``  paged, and a rule keeps at most ``retain`` tokens of the window
``prefix``     paged, and full blocks are shared between sequences that began alike

Every kind has a sliding window and may have sinks. All are one implementation, ``WindowCache``.
"""

from __future__ import annotations

from bot.kvcache.cache import WindowCache
from bot.kvcache.layout import CacheSpec, Layout
from bot.kvcache.manager import KVCacheManager
from bot.kvcache.quantize import QUANTIZED

KINDS = ("standard", "paged", "quantized", "selective", "prefix")


def cache_spec(
    kind: str,
    *,
    layers: int,
    kv_heads: int,
    head_dim: int,
    window: int,
    kv_cache_dtype: str = "",
    block_size: int = 16,
    sinks: int = 0,
    step_tokens: int = 64,
    retention: str = "",
    retain: int = 0,
    model: str = "",
) -> CacheSpec:
    """The spec of a named kind. ``kv_cache_dtype`` "" is int8 for ``quantized``, else float32.

    ``retention`` ("" is attention_score) and ``retain`` (0 is a quarter of the window) are for
    ``selective``; ``model`` names the weights for ``prefix``, where blocks of different models
    must never meet. Raises ValueError for words that do not go together.
    """
    words = kind.split("+")
    for word in words:
        if word not in KINDS:
            raise ValueError(f"cache kind {word!r} in {kind!r} is not one of {', '.join(KINDS)}")
    if "standard" in words and not {"paged", "selective", "prefix"}.isdisjoint(words):
        raise ValueError(f"cache kind {kind!r}: standard is contiguous, it cannot be in blocks too")
    dtype = kv_cache_dtype or ("int8" if "quantized" in words else "float32")
    if "quantized" in words and dtype not in QUANTIZED:
        known = ", ".join(sorted(QUANTIZED))
        raise ValueError(f"cache kind {kind!r} with kv_cache_dtype {dtype!r}, not one of {known}")
    selective = "selective" in words
    if not selective and (retention or retain):
        raise ValueError(f"cache kind {kind!r} has no retention; say selective")
    if "prefix" in words and not model:
        raise ValueError(f"cache kind {kind!r} needs the name of the model that shares its blocks")
    return CacheSpec(
        layers=layers,
        kv_heads=kv_heads,
        head_dim=head_dim,
        window=window,
        block_size=block_size,
        kv_cache_dtype=dtype,
        sinks=sinks,
        contiguous="standard" in words,
        step_tokens=step_tokens,
        retention=(retention or "attention_score") if selective else "",
        retain=(retain or max(window // 4, 4 * block_size)) if selective else 0,
        prefix=model if "prefix" in words else "",
    )


class _Alone(WindowCache):
    """A sequence with a budget of its own: room for ``sequences`` of its kind, forks included."""

    __slots__ = ()

    def __init__(self, spec: CacheSpec, *, sequences: int) -> None:
        layout = Layout(spec)
        budget = layout.block_bytes * spec.blocks_for(spec.step_tokens) * sequences
        caches = KVCacheManager(budget, slab_bytes=layout.block_bytes)
        super().__init__(layout, caches.pool(layout), landlord=caches, prefixes=caches.prefixes)


class KVCache(_Alone):
    """The plain cache: contiguous, preallocated, exact, sliding after ``window`` tokens."""

    __slots__ = ()

    def __init__(
        self, layers: int, kv_heads: int, head_dim: int, window: int, *,
        kv_cache_dtype: str = "float32", sinks: int = 0, step_tokens: int = 64, sequences: int = 4,
    ) -> None:  # fmt: skip
        spec = cache_spec(
            "standard", layers=layers, kv_heads=kv_heads, head_dim=head_dim, window=window,
            kv_cache_dtype=kv_cache_dtype, sinks=sinks, step_tokens=step_tokens,
        )  # fmt: skip
        super().__init__(spec, sequences=sequences)


class PagedKVCache(_Alone):
    """Blocks of ``block_size`` tokens from a pool (Kwon et al., PagedAttention, 2023)."""

    __slots__ = ()

    def __init__(
        self, layers: int, kv_heads: int, head_dim: int, window: int, *, block_size: int = 16,
        kv_cache_dtype: str = "float32", sinks: int = 0, sequences: int = 4,
    ) -> None:  # fmt: skip
        spec = cache_spec(
            "paged", layers=layers, kv_heads=kv_heads, head_dim=head_dim, window=window,
            block_size=block_size, kv_cache_dtype=kv_cache_dtype, sinks=sinks,
        )  # fmt: skip
        super().__init__(spec, sequences=sequences)


class QuantizedKVCache(_Alone):
    """Paged, in ``int8``, ``fp8_e4m3``, ``int4`` or ``k8v4``."""

    __slots__ = ()

    def __init__(
        self, layers: int, kv_heads: int, head_dim: int, window: int, *, block_size: int = 16,
        kv_cache_dtype: str = "int8", sinks: int = 0, sequences: int = 4,
    ) -> None:  # fmt: skip
        spec = cache_spec(
            "quantized", layers=layers, kv_heads=kv_heads, head_dim=head_dim, window=window,
            block_size=block_size, kv_cache_dtype=kv_cache_dtype, sinks=sinks,
        )  # fmt: skip
        super().__init__(spec, sequences=sequences)


class SelectiveKVCache(_Alone):
    """Paged, keeping at most ``retain`` tokens by ``retention`` (see ``retention.py``)."""

    __slots__ = ()

    def __init__(
        self, layers: int, kv_heads: int, head_dim: int, window: int, *, retain: int,
        retention: str = "attention_score", block_size: int = 16,
        kv_cache_dtype: str = "float32", sinks: int = 0, sequences: int = 4,
    ) -> None:  # fmt: skip
        spec = cache_spec(
            "selective", layers=layers, kv_heads=kv_heads, head_dim=head_dim, window=window,
            retain=retain, retention=retention, block_size=block_size,
            kv_cache_dtype=kv_cache_dtype, sinks=sinks,
        )  # fmt: skip
        super().__init__(spec, sequences=sequences)


class PrefixCache(_Alone):
    """Paged, sharing full blocks with the sequences that ``sibling`` opens."""

    __slots__ = ()

    def __init__(
        self, layers: int, kv_heads: int, head_dim: int, window: int, *, model: str,
        block_size: int = 16, kv_cache_dtype: str = "float32", sinks: int = 0, sequences: int = 4,
    ) -> None:  # fmt: skip
        spec = cache_spec(
            "prefix", layers=layers, kv_heads=kv_heads, head_dim=head_dim, window=window,
            model=model, block_size=block_size, kv_cache_dtype=kv_cache_dtype, sinks=sinks,
        )  # fmt: skip
        super().__init__(spec, sequences=sequences)
