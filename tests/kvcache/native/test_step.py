"""The native step against the full forward, and against its own arithmetic in numpy."""

from __future__ import annotations

import os

import pytest
import torch

from bot.kvcache import native
from bot.model.native import WeightDtype, rounded
from tests.kvcache.native import arithmetic
from tests.kvcache.native.builders import (
    SHAPES,
    budget,
    cache_for,
    decoder,
    inputs,
    model,
    needs_native,
    one_by_one,
    relative,
)

WINDOW = 40
TOKENS = 3 * WINDOW + 11


@pytest.mark.skipif(
    os.environ.get("KVTRADER_REQUIRE_NATIVE") != "1",
    reason="KVTRADER_REQUIRE_NATIVE=1 says that the extension has to be there",
)
def test_the_extension_is_built_where_it_is_required() -> None:
    assert native.available()
    assert native.isas()[-1] == "plain"


@needs_native
@pytest.mark.parametrize("position", [0, 10**9, 2**62])
@pytest.mark.parametrize("shape", SHAPES)
def test_exact_caches_and_weights_give_the_banded_forward(shape: str, position: int) -> None:
    of, x = model(shape, WINDOW), inputs(TOKENS)
    expected = of.double()(x.double())
    of = model(shape, WINDOW)
    got = one_by_one(decoder(of, "float32"), x, cache_for(of, "float32", position=position))
    assert (got - expected).abs().max() < 1e-5
    assert expected.abs().max() > 0.3


@needs_native
@pytest.mark.parametrize("position", [0, 10**9 + 7])
@pytest.mark.parametrize("weight_dtype", ["int8", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_quantized_steps_are_their_integer_arithmetic(
    shape: str, weight_dtype: WeightDtype, position: int
) -> None:
    of, x = model(shape, 20), inputs(67)  # the window wraps three times
    expected = arithmetic.stream(of, x, weight_dtype, position)
    got = one_by_one(decoder(of, weight_dtype), x, cache_for(of, position=position))
    assert (got - expected).abs().max() < 1e-6


@needs_native
@pytest.mark.parametrize("shape", SHAPES)
def test_the_int8_cache_costs_little_against_the_rounded_keys_and_values(shape: str) -> None:
    of, x = model(shape, WINDOW), inputs(TOKENS)
    expected = of(x, through=arithmetic.rounded_cache)
    got = one_by_one(decoder(of, "float32"), x, cache_for(of))
    assert 1e-6 < relative(got, expected) < 0.01


@needs_native
@pytest.mark.parametrize("shape", SHAPES)
def test_int8_weights_cost_little_against_the_same_weights_in_torch(shape: str) -> None:
    of, x = model(shape, WINDOW), inputs(TOKENS)
    expected = rounded(of, "int8")(x)
    got = one_by_one(decoder(of, "int8"), x, cache_for(of, "float32"))
    assert 1e-4 < relative(got, expected) < 0.03


@needs_native
def test_the_learned_sinks_take_part() -> None:
    of, x = model(), inputs(20)
    before = one_by_one(decoder(of), x, cache_for(of))
    for block in of.blocks:
        block.sink.fill_(-1e9)
    silent = one_by_one(decoder(of), x, cache_for(of))
    assert (silent - before).abs().max() > 1e-3
    for block in of.blocks:
        block.sink.fill_(1e9)
    drowned = one_by_one(decoder(of), x, cache_for(of))
    assert torch.isfinite(drowned).all()
    # nothing of the past arrives: each token answers as if it were alone
    by, caches = decoder(of), budget()
    lone = [cache_for(of, caches=caches, name=str(i), position=i) for i in range(len(x))]
    alone = by.decode(x, lone)
    assert torch.equal(drowned, alone)


@needs_native
@pytest.mark.parametrize("kv_cache_dtype", ["float32", "int8"])
def test_truncated_and_restarted_sequences_see_what_is_left(kv_cache_dtype: str) -> None:
    of, x = model(window=WINDOW), inputs(60)
    cache, reference = cache_for(of, kv_cache_dtype), cache_for(of, kv_cache_dtype)
    by = decoder(of, "float32")
    by.step(x[:50], cache)
    of.step(x[:50], reference)
    for held in (cache, reference):
        held.truncate(21)
    got, expected = by.step(x[50:], cache), of.step(x[50:], reference)
    assert relative(got, expected) < (1e-5 if kv_cache_dtype == "float32" else 0.01)


@needs_native
@pytest.mark.parametrize("weight_dtype", ["int8", "float32"])
@pytest.mark.parametrize("kv_cache_dtype", ["int8", "float32"])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-3, 1.0, 1e4, 1e15])
def test_rows_of_zeros_and_of_any_size_give_numbers(
    scale: float, kv_cache_dtype: str, weight_dtype: WeightDtype
) -> None:
    of = model(window=WINDOW)
    of.embed_bias.zero_()
    for block in of.blocks:
        block.up[3] = 0  # a row of weights without a scale
    x = inputs(50) * scale
    got = one_by_one(decoder(of, weight_dtype), x, cache_for(of, kv_cache_dtype))
    assert torch.isfinite(got).all()
    if scale > 1e-6:  # below, an int8 cache holds nothing but zeros, in torch too
        assert relative(got, of(x)) < 0.05
    if not scale:
        assert not got.any()


@needs_native
def test_a_step_writes_the_keys_and_values_that_torch_would() -> None:
    of, x = model("wide", WINDOW), inputs(45)
    mine, theirs = cache_for(of), cache_for(of)
    by = decoder(of, "float32")
    by.step(x, mine)
    of.step(x, theirs)
    same = (mine.held().blocks == theirs.held().blocks).float().mean()
    assert same > 0.999  # a rounding error may move a code by one
    assert relative(of.step(inputs(9, 3), mine), by.step(inputs(9, 3), theirs)) < 0.01
