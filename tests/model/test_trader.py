"""The model and its cache in one object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bot.core.events import Horizon
from bot.kvcache import SavedSequenceError
from bot.model import KVCacheTrader, benchmark_kv_cache, seeded, trader_config
from tests.model.builders import small_config

CONFIG = small_config()
X = np.random.default_rng(1).standard_normal((40, 6)).astype(np.float32)


def flat(horizons: tuple[Horizon, ...]) -> np.ndarray:
    """In units of the return scale, so that they can be compared."""
    return np.array(
        [
            value
            for horizon, scale in zip(horizons, CONFIG.return_scale, strict=True)
            for value in (
                horizon.expected_return / scale,
                horizon.up_probability,
                *(quantile / scale for quantile in horizon.quantiles),
            )
        ]
    )


@pytest.mark.parametrize("kind", ["standard", "paged", "prefix"])
def test_updates_give_what_a_recompute_gives(kind: str) -> None:
    trader = KVCacheTrader(CONFIG, kind=kind, kv_cache_dtype="float32")
    for count in range(1, len(X) + 1):
        got = trader.update(X[count - 1])
        assert np.allclose(flat(got), flat(trader.recompute(X[:count])), atol=1e-5)
    assert trader.position == len(X)
    trader.reset()
    assert np.allclose(flat(trader.update(X)), flat(got), atol=1e-5)


def test_a_fork_dreams_without_touching_its_trader() -> None:
    trader, quiet = KVCacheTrader(CONFIG), KVCacheTrader(CONFIG)
    for each in (trader, quiet):
        each.update(X[:20])
    with trader.fork() as dream:
        assert flat(dream.update(X[25])) == pytest.approx(flat(quiet.fork().update(X[25])))
    assert trader.cache.pool.used == len(trader.cache.block_table)
    assert np.array_equal(flat(trader.update(X[20])), flat(quiet.update(X[20])))


def test_a_restart_is_warm(tmp_path: Path) -> None:
    trader = KVCacheTrader(CONFIG, kv_cache_dtype="k8v4")
    trader.update(X[:30])
    trader.save(tmp_path / "warm.safetensors")
    again = KVCacheTrader(CONFIG, kv_cache_dtype="k8v4")
    again.load(tmp_path / "warm.safetensors")
    assert again.position == 30
    assert np.array_equal(flat(again.update(X[30])), flat(trader.update(X[30])))
    with pytest.raises(SavedSequenceError, match="written by model"):
        KVCacheTrader(CONFIG, seed=2, kv_cache_dtype="k8v4").load(tmp_path / "warm.safetensors")


def test_truncating_keeps_the_last_tokens() -> None:
    trader = KVCacheTrader(CONFIG)
    trader.update(X)
    trader.truncate(3)
    assert trader.cache.positions == [37, 38, 39]


def test_memory_is_counted_and_bounded_by_the_window() -> None:
    trader = KVCacheTrader(CONFIG)
    assert trader.nbytes == 0
    sizes = set()
    for row in np.tile(X, (3, 1)):
        trader.update(row)
        sizes.add(trader.nbytes)
    assert max(sizes) == 2 * trader.cache.pool.block_bytes


@pytest.mark.parametrize("shape", [(5,), (2, 7), (0, 6), (1, 2, 6)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \[6\] or \[T, 6\]"):
        KVCacheTrader(CONFIG).update(np.zeros(shape))


def test_features_that_are_no_numbers_are_refused_and_change_nothing() -> None:
    trader = KVCacheTrader(CONFIG)
    trader.update(X[:5])
    with pytest.raises(FloatingPointError, match="at position 5 reach nan"):
        trader.update(np.full(6, np.nan))
    assert trader.position == 5
    trader.update(X[5])


def test_a_checkpoint_brings_its_config() -> None:
    checkpoint = seeded(CONFIG, 9, name="own", tokens="vectors")
    assert KVCacheTrader(checkpoint=checkpoint).model is checkpoint.model
    with pytest.raises(ValueError, match="one of the two"):
        KVCacheTrader(CONFIG, checkpoint=checkpoint)


@pytest.mark.parametrize("context", [8, 100])
def test_the_benchmark_compares_the_same_answer_and_leaves_the_trader_alone(context: int) -> None:
    trader = KVCacheTrader(CONFIG)
    trader.update(X[:9])
    found = benchmark_kv_cache(trader, context)
    assert found["speedup"] == found["recompute_us"] / found["cached_us"]
    assert 1e-5 < found["rel_error"] < 0.02
    assert (found["context_length"], found["window"]) == (context, 12)
    assert trader.position == 9
    assert trader.cache.pool.used == len(trader.cache.block_table)
    with pytest.raises(ValueError, match="at least 8, got 7"):
        benchmark_kv_cache(trader, 7)


def test_the_default_trader_is_ready_at_once() -> None:
    config = trader_config()
    assert (config.window, config.features) == (1024, 8)
    assert len(KVCacheTrader().update(np.zeros(8))) == 3
