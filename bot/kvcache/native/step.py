"""A step of one or many sequences, in one call that releases the global lock.

Row by row the results are those of single steps, to the bit: neither the batch, its order, the
block size, the number of threads nor the instruction set changes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from msgspec import Struct
from torch import Tensor

from bot.kvcache.cache import WindowCache
from bot.kvcache.errors import CacheError
from bot.kvcache.layout import CacheSpec
from bot.kvcache.native import available, isa
from bot.kvcache.pool import BlockPool, OutOfBlocks

if available():
    from bot.kvcache.native import _decode

MAX_ROWS = 64
"""Tokens of one step; the extension's own constant."""

_MOST_HEAD_DIM = 256
_FORMATS = {"float32": 0, "int8": 1}
_INT8_TILES = 2


class DecoderShape(Struct, frozen=True, kw_only=True):
    """The sizes that the kernels need of a model, in the order in which they take them."""

    features: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    outputs: int
    window: int


def unreadable(spec: CacheSpec) -> str:
    """Why the kernels cannot read a cache of this spec; "" if they can."""
    if spec.kv_cache_dtype not in _FORMATS:
        return f"kv_cache_dtype {spec.kv_cache_dtype} (they read {', '.join(_FORMATS)})"
    if spec.contiguous or spec.sinks or spec.retention:
        return "a contiguous cache, sink tokens or retention (they read windows in blocks)"
    if spec.head_dim % 2 or spec.head_dim > _MOST_HEAD_DIM:
        return f"heads of {spec.head_dim} (they read even ones up to {_MOST_HEAD_DIM})"
    return ""


class StepKernel:
    """Packed weights ready to step, with a team of threads of their own. For one thread's use.

    ``addresses`` are those that ``_decode.create`` takes, ``weights`` keeps them alive. Raises
    NativeUnavailable, and ValueError for a shape beyond the kernels (head_dim above 256 or odd,
    more than 16 query heads to a key head).
    """

    __slots__ = ("_decoder", "_shape", "_storages", "_weights", "isa", "threads")

    def __init__(
        self, shape: DecoderShape, addresses: tuple[int, ...], weights: Tensor, *, threads: int
    ) -> None:
        self.isa = isa()
        self.threads = threads
        self._shape = shape
        self._weights = weights
        sizes = (shape.features, shape.width, shape.layers, shape.heads, shape.kv_heads,
                 shape.head_dim, shape.hidden, shape.outputs, shape.window)  # fmt: skip
        self._decoder = _decode.create(self.isa, threads, sizes, addresses)
        self._storages: dict[tuple[int, int], tuple[BlockPool, CacheSpec, object]] = {}

    def step(self, x: Tensor, caches: Sequence[WindowCache], tokens: int = 1) -> Tensor:
        """Raw heads [R, outputs] for ``x`` [R, features], float32 and contiguous, R <= MAX_ROWS.

        Each of the caches takes the next ``tokens`` rows as its next tokens. Raises ValueError for
        a number that is none, CacheError and OutOfBlocks; then no sequence has moved.
        """
        bad = _decode.first_not_finite(x.data_ptr(), x.numel())
        if bad >= 0:
            row, feature = divmod(bad, self._shape.features)
            raise ValueError(
                f"feature {feature} of row {row} is {x[row, feature].item()}: inputs must be finite"
            )
        for cache in caches:
            if cache.evicted:
                raise CacheError("an evicted sequence: reset it and append its past again")
        out = torch.empty(x.shape[0], self._shape.outputs)  # a tuple costs 2 us more
        spans: list[_decode.Span] = []
        try:
            for cache in caches:
                known = self._storages.get((id(cache.pool), id(cache.spec)))
                storage = known or self._add_storage(cache)
                if cache.evicted:
                    _check_held(caches)
                table, position, start = cache.begin_step(tokens)
                spans.append((storage[2], table, position, start, tokens))
            if len(spans) > 1:
                _check_held(caches)
            _decode.step(self._decoder, x.data_ptr(), out.data_ptr(), spans)
        except BaseException:
            for cache in caches[: len(spans)]:
                cache.abandon_step()
            raise
        for cache in caches:
            cache.finish_step()
        return out

    def read(self, data: Tensor) -> None:
        """Read ``data``'s bytes with this team and drop them: what no step can be faster than."""
        _decode.read(self._decoder, data.data_ptr(), data.nbytes)

    def _add_storage(self, cache: WindowCache) -> tuple[BlockPool, CacheSpec, object]:
        pool, spec = cache.pool, cache.spec
        self._check_spec(spec)
        blocks = pool.storage
        _decode.advise_huge_pages(blocks.data_ptr(), blocks.shape[0] * blocks.stride(0))
        made = _decode.storage(
            blocks.data_ptr(), blocks.shape[0], blocks.stride(0), pool.per_slab, pool.block_bytes,
            _INT8_TILES if cache.layout.tiled else _FORMATS[spec.kv_cache_dtype],
            spec.layers, spec.kv_heads, spec.head_dim, spec.block_size, cache.layout.offsets,
        )  # fmt: skip
        # the pool and the spec are kept, so that their ids stay theirs
        kept = self._storages[id(pool), id(spec)] = (pool, spec, made)
        return kept

    def _check_spec(self, spec: CacheSpec) -> None:
        why = unreadable(spec)
        if why:
            raise ValueError(f"the native decoder cannot read {why}: set models.decode to torch")
        for name in ("layers", "kv_heads", "head_dim", "window"):
            cached, modelled = getattr(spec, name), getattr(self._shape, name)
            if cached != modelled:
                raise ValueError(f"the cache's {name} is {cached}, the model's {modelled}")


def _check_held(caches: Sequence[WindowCache]) -> None:
    """Making room for one sequence of a batch may have taken it from another."""
    evicted = sum(cache.evicted for cache in caches)
    if evicted:
        raise OutOfBlocks(
            f"the budget does not hold a batch of {len(caches)} sequences at once, {evicted} of "
            "them had to leave: raise the budget or step fewer together"
        )
