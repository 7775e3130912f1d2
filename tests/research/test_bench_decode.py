"""The decode bench measures what it says: every path, the same answers, real bytes."""

from __future__ import annotations

import msgspec
import pytest

from bot.kvcache import native
from bot.research.bench.decode import Plan, Row, rows
from bot.research.bench.decode_plot import plot

PLAN = Plan(
    models=("B",),
    contexts=(32, 48),
    most_threads=1,
    rounds=3,
    no_cache_rounds=2,
    compile_budget_s=0,
    peers=False,
)


@pytest.fixture(scope="module")
def report() -> list[Row]:
    return list(rows(PLAN))


def test_every_path_of_every_cell_has_a_row(report: list[Row]) -> None:
    cells = {(row.model, row.context, row.batch, row.threads) for row in report}
    assert cells == {("B", 32, 1, 1), ("B", 48, 1, 1)}
    expected = {"torch", "no_cache"}
    if native.available():
        expected |= {"native", "native_cold"}
    for cell in cells:
        mine = [row for row in report if (row.model, row.context, row.batch, row.threads) == cell]
        assert {row.path for row in mine} == expected
        kinds = [(row.path, row.weight_dtype, row.kv_cache_dtype) for row in mine]
        assert len(set(kinds)) == len(kinds)


def test_errors_are_those_of_the_formats(report: list[Row]) -> None:
    for row in report:
        exact = row.kv_cache_dtype in {"float32", "none"} and row.weight_dtype == "float32"
        bound = 1e-5 if exact else 0.03 if row.weight_dtype == "int8" else 0.003
        assert row.rel_error < bound, row
        assert exact or row.rel_error > 1e-5, row


def test_times_are_ordered_and_bytes_are_the_model_and_its_cache(report: list[Row]) -> None:
    for row in report:
        assert 0 < row.p50_us <= row.p99_us
        assert (row.roofline_us is not None) == row.path.startswith("native")
    weights = 786_432  # of the blocks' products, one byte each
    for row in report:
        if row.path != "native":
            continue
        at_least = weights * (1 if row.weight_dtype == "int8" else 4)
        assert at_least < row.nbytes < at_least * 1.3


@pytest.mark.skipif(not native.available(), reason="the extension is not built")
def test_rows_are_json_with_the_keys_that_tools_rely_on(report: list[Row]) -> None:
    line = msgspec.json.decode(msgspec.json.encode(report[0]))
    assert list(line) == [
        "path", "model", "context", "batch", "threads", "kv_cache_dtype", "weight_dtype",
        "p50_us", "p99_us", "nbytes", "rel_error", "roofline_us",
    ]  # fmt: skip


def test_the_picture_is_drawn(report: list[Row], tmp_path: object) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs the extra `bench`")
    file = tmp_path / "decode.svg"  # type: ignore[operator]
    plot(report, file)
    assert b"<svg" in file.read_bytes()
