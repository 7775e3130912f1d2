"""Models and caches for the native step's tests."""

from __future__ import annotations

import pytest
import torch

from bot.kvcache import KVCacheManager, WindowCache, native
from bot.model.native import NativeDecoder, WeightDtype
from bot.model.transformer import CausalTransformer, TransformerConfig, initialize

FEATURES = 6
needs_native = pytest.mark.skipif(
    not native.available(), reason="the extension is not built: setup.py build_ext --inplace"
)

SHAPES: dict[str, dict[str, int]] = {
    "B": {"width": 128, "layers": 4, "heads": 4, "kv_heads": 4, "head_dim": 32, "hidden": 512},
    "grouped": {"width": 64, "layers": 2, "heads": 8, "kv_heads": 2, "head_dim": 64, "hidden": 96},
    "odd": {"width": 20, "layers": 3, "heads": 3, "kv_heads": 3, "head_dim": 10, "hidden": 37},
    "wide": {"width": 32, "layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 128, "hidden": 48},
    "single": {"width": 32, "layers": 2, "heads": 4, "kv_heads": 1, "head_dim": 48, "hidden": 64},
}


def model(shape: str = "B", window: int = 40, seed: int = 5) -> CausalTransformer:
    config = TransformerConfig(
        features=FEATURES,
        window=window,
        horizons_ns=(1, 5, 10),
        return_scale=(1.0, 1.0, 1.0),
        **SHAPES[shape],
    )
    made = CausalTransformer(config)
    initialize(made, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        made.head_bias.zero_()  # so that errors are not measured against a constant
        for name, weight in made.named_parameters():
            if weight.dim() == 1 and "bias" not in name:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.5)
    return made.requires_grad_(requires_grad=False)


def inputs(tokens: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(tokens, FEATURES, generator=torch.Generator().manual_seed(seed))


def budget(megabytes: int = 32) -> KVCacheManager:
    return KVCacheManager(megabytes << 20)


def cache_for(
    of: CausalTransformer,
    kv_cache_dtype: str = "int8",
    *,
    position: int = 0,
    block_size: int = 16,
    caches: KVCacheManager | None = None,
    name: str = "test",
) -> WindowCache:
    spec = of.config.cache_spec(block_size=block_size, kv_cache_dtype=kv_cache_dtype)
    cache = (caches or budget()).open(name, spec, step_tokens=64)
    cache.reset(position)
    return cache


def decoder(
    of: CausalTransformer, weight_dtype: WeightDtype = "int8", threads: int = 1
) -> NativeDecoder:
    return NativeDecoder(of, weight_dtype, threads)


def one_by_one(by: NativeDecoder, x: torch.Tensor, cache: WindowCache) -> torch.Tensor:
    return torch.cat([by.decode(row[None], [cache]) for row in x])


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    return ((got - expected).norm() / expected.norm()).item()
