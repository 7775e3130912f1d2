"""The room that remembers: quantized, paged, sliding-window KV caches under one byte budget."""

from bot.kvcache.attention import merge_sink, merge_state
from bot.kvcache.cache import CacheError, WindowCache
from bot.kvcache.layout import CacheSpec
from bot.kvcache.manager import CacheMetrics, KVCacheManager
from bot.kvcache.pool import OutOfBlocks
from bot.kvcache.quantize import round_trip

__all__ = [
    "CacheError",
    "CacheMetrics",
    "CacheSpec",
    "KVCacheManager",
    "OutOfBlocks",
    "WindowCache",
    "merge_sink",
    "merge_state",
    "round_trip",
]
