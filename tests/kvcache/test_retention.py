"""What a selective cache keeps, and why."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from bot.kvcache import RETENTIONS, CacheSpec, NotFinite, SelectiveKVCache, WindowCache
from bot.kvcache.retention import Retention
from bot.kvcache.segments import Segment

BLOCK, RETAIN = 4, 32


def selective(retention: str, *, window: int = 10_000, sinks: int = 0) -> WindowCache:
    return SelectiveKVCache(
        1, 1, 2, window, retain=RETAIN, retention=retention, block_size=BLOCK, sinks=sinks,
        kv_cache_dtype="float64",
    )  # fmt: skip


def live(cache: WindowCache, tokens: int, *, loud: range = range(0), look: float = 1.0) -> None:
    """Append tokens whose keys all have score 0, but for ``loud`` ones with a score of 6.

    With ``look`` 0 a query looks everywhere alike.
    """
    for position in range(cache.position, cache.position + tokens):
        k = torch.tensor([[[6 * 2**0.5 if position in loud else 0.0, 0.0]]], dtype=torch.float64)
        cache.append(0, k, torch.zeros_like(k))
        q = torch.tensor([[[look, 0.0]]], dtype=torch.float64)
        cache.attend(0, q, q if cache.spec.sinks else None)


@pytest.mark.parametrize("retention", RETENTIONS)
def test_never_more_is_held_than_asked_and_blocks_leave_in_batches(retention: str) -> None:
    cache = SelectiveKVCache(1, 1, 2, 10_000, retain=64, retention=retention, block_size=2)
    sizes = []
    for _ in range(300):
        live(cache, 1)
        sizes.append(len(cache.block_table))
    assert max(sizes) == 32
    # a 33rd block makes four leave
    assert {after - before for before, after in pairwise(sizes)} == {0, 1, -3}


def test_recency_keeps_the_newest() -> None:
    cache = selective("recency")
    live(cache, 203)
    newest = [p // BLOCK for p in range(203)][-len(cache.positions) :]
    assert [p // BLOCK for p in cache.positions] == newest
    assert cache.positions == list(range(203 - len(cache), 203))


@pytest.mark.parametrize("retention", ["attention_score", "entropy", "hybrid"])
def test_tokens_that_queries_look_at_outlive_the_others(retention: str) -> None:
    cache = selective(retention)
    loud = range(40, 44)
    live(cache, 120, loud=loud)
    assert set(loud) <= set(cache.positions)
    unseen = selective("recency")
    live(unseen, 120, loud=loud)
    assert not set(loud) & set(unseen.positions)


def test_tokens_that_nobody_looks_at_any_more_make_way() -> None:
    # raw sums would keep the first loud block for ever: it has collected for longer
    cache = selective("attention_score")
    live(cache, 80, loud=range(8, 12))
    assert 8 in cache.positions
    live(cache, 400, loud=range(8, 12), look=-1.0)
    assert 8 not in cache.positions


def test_under_even_attention_every_token_scores_one_whatever_its_age() -> None:
    spec = selective("attention_score").spec
    retention = Retention(spec)
    for tokens in range(1, 30):
        positions = torch.arange(tokens)
        retention.open(positions)
        segment = Segment(0, 0, tokens, positions, None, sinks=False)
        retention.observe(torch.full((2, 3, 1, tokens), 1 / tokens), segment)
    _, mass, exposure = retention.state()
    assert torch.allclose(mass / exposure, torch.ones(29, dtype=torch.float64))


def test_a_chunk_counts_like_its_tokens_one_by_one() -> None:
    scores = []
    for chunk in (1, 5):
        spec = CacheSpec(2, 2, 4, 500, BLOCK, "float64", retention="attention_score", retain=100)
        retention = Retention(spec)
        generator = torch.Generator().manual_seed(3)
        table = torch.rand(20, 20, generator=generator, dtype=torch.float64).tril()
        table = table / table.sum(-1, keepdim=True)
        for start in range(0, 20, chunk):
            end = start + chunk
            positions = torch.arange(end)
            retention.open(positions)
            visible = positions <= torch.arange(start, end)[:, None]
            segment = Segment(0, 0, end, positions, visible, sinks=False)
            retention.observe(table[None, None, start:end, :end].expand(2, 2, -1, -1), segment)
        _, mass, exposure = retention.state()
        scores.append(mass / exposure)
    assert torch.allclose(*scores)


def test_entropy_does_not_listen_to_queries_that_look_everywhere() -> None:
    # many diffuse looks that lean on block 1, a few sharp ones at block 2
    results = {}
    for rule in ("attention_score", "entropy"):
        spec = CacheSpec(1, 1, 4, 500, BLOCK, "float64", retention=rule, retain=16)
        retention = Retention(spec)
        positions = torch.arange(20)
        retention.open(positions)
        diffuse = torch.full((20,), 1.0)
        diffuse[4:8] = 1.6
        sharp = torch.full((20,), 1e-6)
        sharp[9] = 1.0
        looks = torch.stack([diffuse] * 60 + [sharp] * 2)
        looks = (looks / looks.sum(-1, keepdim=True)).double()
        every = torch.ones(len(looks), 20, dtype=torch.bool)
        segment = Segment(0, 0, 20, positions, every, sinks=False)
        retention.observe(looks[None, None], segment)
        results[rule] = retention._block_scores([0, 1, 2, 3, 4]).argmax().item()
    assert results == {"attention_score": 1, "entropy": 2}


def test_sinks_are_kept_beside_what_is_retained() -> None:
    cache = selective("recency", sinks=3)
    live(cache, 200)
    assert cache.positions[:3] == [0, 1, 2]
    assert len(cache.block_table) <= RETAIN // BLOCK + 1


def test_the_window_still_ends_what_retention_would_keep() -> None:
    cache = selective("attention_score", window=60)
    live(cache, 100, loud=range(20, 24))
    assert min(cache.positions) >= 100 - 59


def test_a_fork_judges_for_itself() -> None:
    cache = selective("attention_score")
    live(cache, 30, loud=range(4, 8))
    with cache.fork() as twin:
        live(twin, 300, loud=range(4, 8), look=-1.0)
        assert 4 not in twin.positions
        live(cache, 300, loud=range(4, 8))
        assert 4 in cache.positions


def test_a_step_that_did_not_happen_is_not_counted() -> None:
    cache, other = (
        SelectiveKVCache(2, 1, 2, 10_000, retain=RETAIN, block_size=BLOCK) for _ in range(2)
    )
    generator = torch.Generator().manual_seed(1)
    for turn in range(60):
        x = torch.randn(1, 1, 2, generator=generator)
        for each in (cache, other):
            for layer in range(2):
                each.append(layer, x, x)
                each.attend(layer, x)
        if turn % 3 == 0:
            cache.append(0, 5 * x, x)
            cache.attend(0, 5 * x)
            with pytest.raises(NotFinite):
                cache.append(1, x * torch.nan, x)
        ours, theirs = (each._retention.state() for each in (cache, other))
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert cache.positions == other.positions
