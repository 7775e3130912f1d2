"""The room that remembers: quantized, paged, sliding-window KV caches under one byte budget."""

from bot.kvcache.attention import merge_sink, merge_state
from bot.kvcache.cache import WindowCache
from bot.kvcache.errors import CacheError, NotFinite
from bot.kvcache.kinds import (
    KINDS,
    KVCache,
    PagedKVCache,
    PrefixCache,
    QuantizedKVCache,
    SelectiveKVCache,
    cache_spec,
)
from bot.kvcache.layout import RETENTIONS, CacheSpec
from bot.kvcache.manager import CacheMetrics, KVCacheManager
from bot.kvcache.pool import OutOfBlocks
from bot.kvcache.quantize import KV_CACHE_DTYPES, round_trip
from bot.kvcache.saved import SavedSequenceError, load_sequence, save_sequence

__all__ = [
    "KINDS",
    "KV_CACHE_DTYPES",
    "RETENTIONS",
    "CacheError",
    "CacheMetrics",
    "CacheSpec",
    "KVCache",
    "KVCacheManager",
    "NotFinite",
    "OutOfBlocks",
    "PagedKVCache",
    "PrefixCache",
    "QuantizedKVCache",
    "SavedSequenceError",
    "SelectiveKVCache",
    "WindowCache",
    "cache_spec",
    "load_sequence",
    "merge_sink",
    "merge_state",
    "round_trip",
    "save_sequence",
]
