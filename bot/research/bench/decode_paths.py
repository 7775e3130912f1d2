"""The ways to answer for one more token that ``bot bench decode`` compares, ours among them.

Every path of a cell answers for the same model, past and token, so that their errors mean
something; what differs is only how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

import torch
from msgspec import Struct, structs
from torch import Tensor

from bot.kvcache import KVCacheManager, WindowCache
from bot.kvcache.layout import Layout
from bot.model.native import NativeDecoder, WeightDtype
from bot.model.transformer import CausalTransformer, TransformerConfig, initialize

FEATURES = 32
_BLOCK_SIZE = 64
_SLAB_BYTES = 1 << 22
_B = TransformerConfig(
    features=FEATURES, width=128, layers=4, heads=4, kv_heads=4, head_dim=32, hidden=512,
    horizons_ns=(1, 2, 3), return_scale=(1.0, 1.0, 1.0),
)  # fmt: skip
_A = structs.replace(_B, width=512, layers=6, heads=8, kv_heads=8, head_dim=64, hidden=2048)
_MODELS = {"A": _A, "B": _B}


class Cell(Struct, frozen=True):
    """What is decoded: ``batch`` sequences of ``context`` tokens, on ``threads`` threads."""

    model: str
    context: int
    batch: int
    threads: int


class Path(Struct, frozen=True):
    """One way. ``step`` answers for the next token of each sequence: raw heads [B, outputs].

    ``nbytes`` is what a step has to read: weights, keys, values and scales. ``prepare`` is not
    timed. ``rounds`` bounds how often a slow path is measured.
    """

    name: str
    weight_dtype: str
    kv_cache_dtype: str
    nbytes: int
    step: Callable[[], Tensor]
    prepare: Callable[[], None] = lambda: None
    rounds: int = 1 << 30
    rel_error: float | None = None


def build_model(cell: Cell) -> CausalTransformer:
    """Random weights; the window is the whole context, so a step reads exactly that."""
    model = CausalTransformer(structs.replace(_MODELS[cell.model], window=cell.context))
    initialize(model, 7)
    model.head_bias.data.zero_()  # an error is measured against the answer, not a constant
    return model.requires_grad_(requires_grad=False).eval()


class Past(Struct, frozen=True):
    """The tokens before, [B, context, F], and the ones that come, [B, 1, F] each."""

    before: Tensor
    coming: list[Tensor]

    def next(self) -> Iterator[Tensor]:
        """The coming tokens [B, F], again and again."""
        return cycle([x[:, 0].contiguous() for x in self.coming])


def build_past(cell: Cell) -> Past:
    generator = torch.Generator().manual_seed(11)
    before = torch.randn(cell.batch, cell.context, FEATURES, generator=generator)
    coming = [torch.randn(cell.batch, 1, FEATURES, generator=generator) for _ in range(8)]
    return Past(before, coming)


def no_cache(model: CausalTransformer, past: Past, rounds: int) -> Path:
    """The whole context again for every token."""
    x = torch.cat((past.before[:, 1:], past.coming[0]), dim=1)

    def step() -> Tensor:
        heads: Tensor = model(x)
        return heads[:, -1]

    return Path("no_cache", "float32", "none", _float_bytes(model), step, rounds=rounds)


def torch_path(
    cell: Cell,
    model: CausalTransformer,
    past: Past,
    kv_cache_dtype: str,
    filler: NativeDecoder | None,
) -> Path:
    """Our caches through torch. ``filler`` computes the past, where it is there, because it is
    faster; what it stores is the same."""
    caches = _filled(cell, model, past, kv_cache_dtype, filler)
    following = past.next()

    def step() -> Tensor:
        x = next(following)
        return model.decode(x, caches) if cell.batch > 1 else model.step(x, caches[0])

    nbytes = _float_bytes(model) + cache_bytes(cell, caches[0])
    return Path("torch", "float32", kv_cache_dtype, nbytes, step)


def native_path(
    cell: Cell,
    decoder: NativeDecoder,
    model: CausalTransformer,
    past: Past,
    weight_dtype: WeightDtype,
    kv_cache_dtype: str,
) -> Path:
    caches = _filled(cell, model, past, kv_cache_dtype, decoder)
    following = past.next()

    def step() -> Tensor:
        return decoder.decode(next(following), caches)

    nbytes = decoder.weight_bytes + cache_bytes(cell, caches[0])
    return Path("native", weight_dtype, kv_cache_dtype, nbytes, step)


def cache_bytes(cell: Cell, cache: WindowCache) -> int:
    """Keys, values and scales of the whole batch that one step reads."""
    return round(cell.batch * cell.context * cache.layout.token_bytes)


def _float_bytes(model: CausalTransformer) -> int:
    return sum(weight.nbytes for weight in model.parameters())


def _filled(
    cell: Cell,
    model: CausalTransformer,
    past: Past,
    kv_cache_dtype: str,
    filler: NativeDecoder | None,
) -> list[WindowCache]:
    spec = model.config.cache_spec(block_size=_BLOCK_SIZE, kv_cache_dtype=kv_cache_dtype)
    layout = Layout(spec)
    per_slab = max(_SLAB_BYTES // layout.block_bytes, 1)
    slab_bytes = max(_SLAB_BYTES, -(-layout.block_bytes // 64) * 64)
    slabs = -(-cell.batch * spec.blocks_for(64) // per_slab)
    manager = KVCacheManager(slabs * slab_bytes, slab_bytes=slab_bytes)
    caches = [manager.anonymous(spec) for _ in range(cell.batch)]
    for cache, x in zip(caches, past.before, strict=True):
        if filler is not None:
            filler.step(x, cache)
        else:
            model.step(x, cache)
    return caches
