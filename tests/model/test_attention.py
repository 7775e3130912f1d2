"""The training path's attention, held against the plain mask."""

from __future__ import annotations

import pytest
import torch

from bot.kvcache import KVCacheManager
from bot.model import seeded
from bot.model.attention import banded_attention, masked_attention
from tests.model.builders import small_config


@pytest.mark.parametrize(("window", "tokens"), [(4, 5), (4, 12), (7, 30), (16, 17)])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_chunks_see_what_the_band_sees_and_send_the_same_gradients(
    window: int, tokens: int, kv_heads: int
) -> None:
    torch.manual_seed(1)
    q = torch.randn(2, tokens, 4, 8, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(2, tokens, kv_heads, 8, dtype=torch.float64) for _ in range(2))
    k.requires_grad_()
    v.requires_grad_()
    sink = torch.randn(4, dtype=torch.float64, requires_grad=True)
    age = torch.arange(tokens).unsqueeze(1) - torch.arange(tokens)
    hidden = (age < 0) | (age >= window)
    expected = masked_attention(q, k, v, sink, hidden)
    found = banded_attention(q, k, v, sink, window)
    assert torch.allclose(found, expected, atol=1e-12)
    wanted = torch.autograd.grad(expected.square().sum(), (q, k, v, sink))
    got = torch.autograd.grad(found.square().sum(), (q, k, v, sink))
    for one, other in zip(got, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_a_long_forward_is_the_streaming_step_by_step() -> None:
    model = seeded(small_config(window=12), 5, name="m", tokens="vectors").model
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(2))
    cache_spec = model.config.cache_spec(kv_cache_dtype="float32")
    cache = KVCacheManager(1 << 20, slab_bytes=1 << 14).anonymous(cache_spec)
    with torch.inference_mode():
        steps = torch.cat([model.step(x[i : i + 1], cache) for i in range(50)])
        assert torch.allclose(model(x), steps, atol=1e-5)
        assert torch.allclose(model(x, first_position=1_000_000_000), steps, atol=1e-5)
