"""What quantizing the cache does to the answers of a trained model."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from bot.kvcache import KVCacheManager
from bot.model.transformer import CausalTransformer, TransformerConfig, initialize

CONFIG = TransformerConfig(
    features=4, width=32, layers=2, heads=4, kv_heads=2, head_dim=16, hidden=64, window=48,
    horizons_ns=(1, 3), return_scale=(1.0, 1.0),
)  # fmt: skip
TOKENS = 4_000


def market(tokens: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [T, 4] and returns [T]: noise around a slow drift that changes sign at random."""
    generator = torch.Generator().manual_seed(seed)
    flips = torch.rand(tokens, generator=generator) < 0.02
    drift = torch.where(flips.cumsum(0) % 2 == 0, 0.8, -0.8)
    returns = drift + torch.randn(tokens, generator=generator)
    noise = torch.randn(tokens, 3, generator=generator)
    return torch.cat((returns[:, None], noise), dim=-1), returns


def targets(returns: torch.Tensor) -> torch.Tensor:
    """Whether the next return and the sum of the next three are up [T - 3, 2]."""
    ahead = returns.unfold(0, 3, 1)[1:]  # [T - 3, 3]
    return torch.stack((ahead[:, 0] > 0, ahead.sum(-1) > 0), dim=-1).float()


@pytest.fixture(scope="module")
def trained() -> CausalTransformer:
    model = CausalTransformer(CONFIG)
    initialize(model, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    x, returns = market(16 * 96 * 8, seed=1)
    y = targets(returns)
    for index in range(80):
        starts = [(index * 16 + row) * 61 % (len(y) - 96) for row in range(16)]
        batch = torch.stack([x[start : start + 96] for start in starts])
        wanted = torch.stack([y[start : start + 96] for start in starts])
        logits = model.outputs(model(batch)).up_logit
        loss = functional.binary_cross_entropy_with_logits(logits, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.requires_grad_(requires_grad=False).eval()


def logits(model: CausalTransformer, x: torch.Tensor, kv_cache_dtype: str) -> torch.Tensor:
    cache = KVCacheManager(1 << 20).anonymous(CONFIG.cache_spec(kv_cache_dtype=kv_cache_dtype))
    return model.outputs(model.step(x, cache).double()).up_logit


def compared(exact: torch.Tensor, other: torch.Tensor) -> tuple[float, float]:
    """Mean KL divergence of the directions, and how often they agree."""
    p, q = exact.sigmoid(), other.sigmoid()
    kl = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    agree = ((exact > 0) == (other > 0)).double()
    return kl.mean().item(), agree.mean().item()


def test_the_model_has_learned_something(trained: CausalTransformer) -> None:
    x, returns = market(TOKENS, seed=2)
    right = (logits(trained, x, "float32")[:-3] > 0) == (targets(returns) > 0)
    assert right.double().mean(0).tolist() > [0.7, 0.75]


def test_an_int8_cache_leaves_a_trained_models_answers_alone(trained: CausalTransformer) -> None:
    x, _ = market(TOKENS, seed=2)
    kl, agreement = compared(logits(trained, x, "float32"), logits(trained, x, "int8"))
    assert 0 < kl < 1e-3
    assert agreement >= 0.999


@pytest.mark.parametrize(
    ("kv_cache_dtype", "most_kl", "least_agreement"),
    [("fp8_e4m3", 1e-3, 0.995), ("k8v4", 2e-3, 0.99), ("int4", 1e-2, 0.98)],
)
def test_coarser_caches_cost_little(
    trained: CausalTransformer, kv_cache_dtype: str, most_kl: float, least_agreement: float
) -> None:
    x, _ = market(TOKENS, seed=2)
    kl, agreement = compared(logits(trained, x, "float32"), logits(trained, x, kv_cache_dtype))
    assert kl < most_kl
    assert agreement >= least_agreement
