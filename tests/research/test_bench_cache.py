"""The rows of the cache bench say what they measured."""

import pytest
import torch

from bot.research.bench import cache


@pytest.fixture(scope="module")
def rows() -> list[cache.Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        found = [
            *cache.memory_rows("B", cache._SHAPES["B"], 64),
            cache.prefix_row(sequences=3, shared=64, own=5),
            cache.eviction_row(turns=12),
            cache.stream_row(3_000),
        ]
    torch.set_num_threads(threads)
    return found


def test_memory_rows_count_the_bytes_of_a_full_window(rows: list[cache.Row]) -> None:
    found = {(row["kind"], row["kv_cache_dtype"]): row for row in rows[:-3]}
    assert len(found) == 8
    # 4 layers x 4 heads x 64 tokens x keys and values x 32 numbers
    assert found["paged", "float32"]["nbytes"] == 4 * 4 * 64 * 2 * 32 * 4
    assert found["standard", "float32"]["of_fp16"] == 2.0
    assert found["quantized", "int8"]["of_fp16"] == (32 + 2) / 64
    assert found["quantized", "k8v4"]["of_fp16"] == (34 + 20) / 128
    assert found["quantized", "int4"]["of_fp16"] == 20 / 64
    assert found["quantized+selective", "int8"]["nbytes"] == 34 * 2 * 4 * 4 * 64
    errors = [found["quantized", name]["rel_error"] for name in ("int8", "fp8_e4m3", "int4")]
    assert 0 < errors[0] < errors[1] < errors[2] < 0.2
    assert all(row["step_us"] > 0 for row in found.values())


def test_the_prefix_row_counts_blocks_shared(rows: list[cache.Row]) -> None:
    row = rows[-3]
    assert (row["hits"], row["lookups"]) == (2 * 4, 3 * 4)
    assert row["shared_nbytes"] < row["alone_nbytes"]


def test_the_eviction_row_stays_within_the_budget(rows: list[cache.Row]) -> None:
    row = rows[-2]
    assert row["evictions"] > 0
    assert row["most_used_bytes"] <= row["budget_bytes"]


def test_the_stream_row_holds_its_memory(rows: list[cache.Row]) -> None:
    row = rows[-1]
    assert row["tokens"] >= 3_000
    assert row["nbytes_least"] <= row["nbytes_most"] <= row["nbytes_least"] * 9 / 8
