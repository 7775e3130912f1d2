"""What must not change a bit: batch, order, chunks, blocks, threads, instruction sets."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.kvcache import KVCacheManager, native
from bot.model.native import WeightDtype
from bot.model.transformer import CausalTransformer
from tests.kvcache.native.builders import (
    SHAPES,
    budget,
    cache_for,
    decoder,
    inputs,
    model,
    needs_native,
    one_by_one,
)

pytestmark = needs_native
WINDOW = 40
TOKENS = 100
KINDS = pytest.mark.parametrize(
    ("weight_dtype", "kv_cache_dtype"),
    [("int8", "int8"), ("float32", "int8"), ("int8", "float32"), ("float32", "float32")],
)


@KINDS
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("isa", native.isas()[1:])
def test_every_instruction_set_gives_the_same_bits(
    isa: str,
    shape: str,
    weight_dtype: WeightDtype,
    kv_cache_dtype: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of, x = model(shape, WINDOW), inputs(TOKENS)
    best = decoder(of, weight_dtype)
    expected = one_by_one(best, x, cache_for(of, kv_cache_dtype))
    monkeypatch.setenv(native.FORCED_ISA, isa)
    other = decoder(of, weight_dtype)
    assert (best.isa, other.isa) == (native.isas()[0], isa)
    assert torch.equal(one_by_one(other, x, cache_for(of, kv_cache_dtype)), expected)
    batch = other.step(x, cache_for(of, kv_cache_dtype))
    assert torch.equal(batch, expected)


def test_an_unknown_instruction_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.FORCED_ISA, "abacus")
    with pytest.raises(native.NativeUnavailable, match=r"KVTRADER_ISA=abacus is not one of"):
        decoder(model())


@KINDS
@pytest.mark.parametrize("shape", ["B", "grouped", "odd"])
@pytest.mark.parametrize("chunk", [2, 7, 64, TOKENS])
def test_chunks_are_their_tokens_one_by_one(
    chunk: int, shape: str, weight_dtype: WeightDtype, kv_cache_dtype: str
) -> None:
    of, x = model(shape, WINDOW), inputs(TOKENS)
    by = decoder(of, weight_dtype)
    expected = one_by_one(by, x, cache_for(of, kv_cache_dtype))
    cache = cache_for(of, kv_cache_dtype)
    got = torch.cat([by.step(part, cache) for part in x.split(chunk)])
    assert torch.equal(got, expected)


@KINDS
@pytest.mark.parametrize("shape", ["B", "odd"])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(
    threads: int, shape: str, weight_dtype: WeightDtype, kv_cache_dtype: str
) -> None:
    of, x = model(shape, WINDOW), inputs(50)
    alone = decoder(of, weight_dtype)
    expected = one_by_one(alone, x, cache_for(of, kv_cache_dtype))
    team = decoder(of, weight_dtype, threads)
    assert torch.equal(one_by_one(team, x, cache_for(of, kv_cache_dtype)), expected)
    assert torch.equal(team.step(x, cache_for(of, kv_cache_dtype)), expected)


@KINDS
@pytest.mark.parametrize("block_size", [1, 5, 32, 48, 64])
def test_block_sizes_change_nothing(
    block_size: int, weight_dtype: WeightDtype, kv_cache_dtype: str
) -> None:
    of, x = model("grouped", WINDOW), inputs(TOKENS)
    by = decoder(of, weight_dtype)
    expected = one_by_one(by, x, cache_for(of, kv_cache_dtype))
    got = one_by_one(by, x, cache_for(of, kv_cache_dtype, block_size=block_size))
    assert torch.equal(got, expected)


def test_what_a_block_held_before_does_not_matter() -> None:
    of, x = model("grouped", WINDOW), inputs(30)
    for kv_cache_dtype in ("int8", "float32"):
        caches = budget(8)
        caches._arena.storage.fill_(0xFF)  # NaN as float32 and as fp16
        dirty = cache_for(of, kv_cache_dtype, position=5, caches=caches)
        clean = cache_for(of, kv_cache_dtype, position=5)
        by = decoder(of)
        assert torch.equal(one_by_one(by, x, dirty), one_by_one(by, x, clean))


def _ragged(
    of: CausalTransformer, caches: KVCacheManager, lengths: list[int], kv_cache_dtype: str
) -> list[object]:
    by = decoder(of)
    made = []
    for index, length in enumerate(lengths):
        cache = cache_for(of, kv_cache_dtype, caches=caches, name=str(index), position=7 * index)
        if length:
            by.step(inputs(length, seed=index), cache)
        made.append(cache)
    return made


@pytest.mark.parametrize("kv_cache_dtype", ["int8", "float32"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_ragged_batch_in_any_order_is_its_sequences_alone(
    threads: int, kv_cache_dtype: str
) -> None:
    of = model("B", WINDOW)
    lengths = [0, 1, 15, 16, 17, 39, 40, 41, 100]
    by = decoder(of, "int8", threads)
    x = inputs(len(lengths), seed=99)
    alone = _ragged(of, budget(), lengths, kv_cache_dtype)
    expected = torch.cat([by.decode(x[i : i + 1], [cache]) for i, cache in enumerate(alone)])
    for seed in range(3):
        order = random.Random(seed).sample(range(len(lengths)), len(lengths) - seed)
        together = _ragged(of, budget(), lengths, kv_cache_dtype)
        got = by.decode(x[order], [together[i] for i in order])
        assert torch.equal(got, expected[order])


def test_more_sequences_than_one_step_takes() -> None:
    of = model("odd", WINDOW)
    by, caches = decoder(of), budget()
    x = inputs(150)
    sequences = [cache_for(of, caches=caches, name=str(i)) for i in range(150)]
    got = by.decode(x, sequences)
    apart = budget()
    lone = [cache_for(of, caches=apart, name=str(i)) for i in range(150)]
    alone = torch.cat([by.decode(row[None], [cache]) for row, cache in zip(x, lone, strict=True)])
    assert torch.equal(got, alone)
    assert [cache.position for cache in sequences] == [1] * 150


@settings(max_examples=25, deadline=None)
@given(
    window=st.integers(1, 50),
    chunks=st.lists(st.integers(1, 64), min_size=1, max_size=4),
    start=st.integers(0, 2**40),
    block_size=st.integers(1, 40),
)
def test_any_window_position_and_chunking(
    window: int, chunks: list[int], start: int, block_size: int
) -> None:
    of = model("odd", window)
    by, x = decoder(of), inputs(sum(chunks))
    expected = one_by_one(by, x, cache_for(of, position=start))
    cache = cache_for(of, position=start, block_size=block_size)
    got = torch.cat([by.step(part, cache) for part in x.split(chunks)])
    assert torch.equal(got, expected)
