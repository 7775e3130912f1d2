"""The latency histogram."""

from hypothesis import given
from hypothesis import strategies as st

from bot.core.histogram import LatencyHistogram


def test_an_empty_histogram_answers_zero() -> None:
    assert LatencyHistogram().quantile(0.5) == 0


@given(st.lists(st.integers(4, 10**15), min_size=1), st.floats(0, 1))
def test_a_quantile_is_at_most_a_quarter_above_the_exact_one(
    values: list[int], share: float
) -> None:
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(value)
    exact = next(v for i, v in enumerate(sorted(values), 1) if i >= share * len(values))
    assert exact < histogram.quantile(share) <= exact * 1.25 + 1


def test_nonsense_durations_fall_into_the_end_buckets() -> None:
    histogram = LatencyHistogram()
    histogram.add(-5)
    histogram.add(2**200)
    assert histogram.quantile(0.0) == 5
    assert histogram.quantile(1.0) == 2**64
