"""Streaming against the full forward with the banded mask."""

from functools import partial

import pytest
import torch

from bot.kvcache import WindowCache, round_trip
from bot.model.transformer import STEP_TOKENS, CausalTransformer, TransformerConfig, initialize
from tests.model.builders import budget, small_config

WINDOW = 12
TOKENS = 3 * WINDOW + 5


def build(dtype: torch.dtype, **changes: object) -> CausalTransformer:
    model = CausalTransformer(small_config(window=WINDOW, **changes))
    initialize(model, 5)
    with torch.no_grad():
        for block in model.blocks:
            block.sink.copy_(torch.tensor([-1.0, 0.5, 2.0, 4.0]))
    return model.to(dtype).requires_grad_(requires_grad=False)


def inputs(tokens: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(tokens, 6, generator=torch.Generator().manual_seed(2), dtype=dtype)


def cache_for(model: CausalTransformer, kv_cache_dtype: str, position: int) -> WindowCache:
    spec = model.config.cache_spec(block_size=5, kv_cache_dtype=kv_cache_dtype)
    cache = budget().open("test", spec)
    cache.reset(position)
    return cache


def stream(
    model: CausalTransformer, x: torch.Tensor, kv_cache_dtype: str, position: int, chunk: int
) -> torch.Tensor:
    cache = cache_for(model, kv_cache_dtype, position)
    return torch.cat([model.step(part, cache) for part in x.split(chunk)])


@pytest.mark.parametrize("position", [0, 10**9])
@pytest.mark.parametrize("chunk", [1, 7, TOKENS])
@pytest.mark.parametrize(
    ("dtype", "kv_cache_dtype", "bound"),
    [(torch.float64, "float64", 1e-10), (torch.float32, "float32", 1e-5)],
)
def test_streaming_is_the_banded_forward(
    position: int, chunk: int, dtype: torch.dtype, kv_cache_dtype: str, bound: float
) -> None:
    model, x = build(dtype), inputs(TOKENS, dtype)
    expected = model(x, first_position=0)
    assert (stream(model, x, kv_cache_dtype, position, chunk) - expected).abs().max() < bound


@pytest.mark.parametrize("chunk", [1, 7, TOKENS])
def test_an_int8_cache_is_the_forward_with_quantized_keys_and_values(chunk: int) -> None:
    model, x = build(torch.float64), inputs(TOKENS, torch.float64)
    expected = model(x, through=partial(round_trip, kv_cache_dtype="int8"))
    got = stream(model, x, "int8", 0, chunk)
    assert (got - expected).abs().max() < 1e-10
    exact = model(x)
    error = (got - exact).norm() / exact.norm()
    assert 1e-6 < error < 0.01


def test_the_forward_is_causal_and_sees_no_further_than_its_reach() -> None:
    model = build(torch.float64)
    reach = model.config.reach
    x = inputs(reach + 3, torch.float64)
    before = model(x)
    changed = x.clone()
    changed[-2:] += 1
    assert torch.equal(model(changed)[:-2], before[:-2])
    changed = x.clone()
    changed[:3] += 1
    after = model(changed)
    assert torch.equal(after[-1], before[-1])
    changed[3] += 1  # the oldest input within reach
    assert not torch.equal(model(changed)[-1], before[-1])


def test_the_last_reach_inputs_rebuild_a_sequence_exactly() -> None:
    model = build(torch.float64)
    x = inputs(2 * model.config.reach, torch.float64)
    lived = stream(model, x, "int8", 0, 1)[-1]
    position = x.shape[0] - model.config.reach
    rebuilt = stream(model, x[position:], "int8", position, TOKENS)[-1]
    assert (lived - rebuilt).abs().max() < 1e-10
    one_window = stream(model, x[-WINDOW:], "int8", x.shape[0] - WINDOW, TOKENS)[-1]
    assert (lived - one_window).abs().max() > 1e-6


def test_a_batch_is_its_rows() -> None:
    model = build(torch.float64)
    x = torch.stack((inputs(20, torch.float64), inputs(20, torch.float64).flip(0)))
    rows = torch.stack([model(row) for row in x])
    assert torch.allclose(model(x), rows, atol=1e-12)


def test_long_steps_are_cut_without_changing_the_result() -> None:
    model = build(torch.float64)
    x = inputs(2 * STEP_TOKENS + 9, torch.float64)
    whole = stream(model, x, "float64", 0, x.shape[0])
    assert (whole - model(x)).abs().max() < 1e-10


def test_the_sinks_take_part() -> None:
    model, x = build(torch.float64), inputs(20, torch.float64)
    before = model(x)
    with torch.no_grad():
        for block in model.blocks:
            block.sink.fill_(-1e9)
    assert (model(x) - before).abs().max() > 1e-3


def test_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, second = build(torch.float32), build(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_fresh_heads_are_a_standard_normal_and_quantiles_never_cross() -> None:
    model = build(torch.float64)
    neutral = model.outputs(model.head_bias)
    assert torch.allclose(
        neutral.quantiles, torch.tensor([-1.6449, -0.6745, 0.0, 0.6745, 1.6449]).double(), atol=1e-4
    )
    wild = model.outputs(torch.randn(50, model.head_bias.shape[0]).double() * 30)
    assert (wild.quantiles.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_heads": 3}, "heads 4 is not a multiple of kv_heads 3"),
        ({"return_scale": (1.0,)}, "1 return scales for 2 horizons"),
        ({"quantiles": (0.5, 0.4)}, "rise strictly"),
        ({"quantiles": (0.0, 0.4)}, "rise strictly"),
    ],
)
def test_a_shape_that_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_config(**changes)


def test_training_reaches_every_weight() -> None:
    model = CausalTransformer(small_config(window=WINDOW))
    initialize(model, 5)
    outputs = model.outputs(model(torch.randn(2, 20, 6)))
    (outputs.mean.square().sum() + outputs.up_logit.sum() + outputs.quantiles.sum()).backward()
    unreached = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []


def test_the_config_is_a_plain_frozen_value() -> None:
    config = small_config()
    assert config == TransformerConfig(**{f: getattr(config, f) for f in config.__struct_fields__})
    with pytest.raises(AttributeError):
        config.window = 3
