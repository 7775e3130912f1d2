"""The bench of predictions says what it measured; its figures are not judged here."""

from __future__ import annotations

from bot.research.bench import predict


def test_every_measurement_has_its_row_and_sharing_changes_no_number() -> None:
    said: list[str] = []
    rows = {
        row["measure"]: row
        for row in predict.rows(events=100, rounds=3, threads=(1,), say=said.append)
    }
    assert set(rows) == {
        "one_stream", "order_book", "ten_symbols_single", "ten_symbols", "hundred_requests",
        "portfolio",
    }  # fmt: skip
    for row in rows.values():
        assert 0 < row["p50_us"] <= row["p99_us"]
        assert row["predictions_per_s"] > 0
        assert row["cache_mb"] > 0
    assert rows["portfolio"]["largest_difference"] < 1e-4
    assert rows["one_stream"]["claimed"].startswith("200 to 500")
    assert len(said) == 5
