"""Datasets: segments, targets, splits, files; and that the future never reaches a token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bot.core.events import FeedDown
from bot.model.dataset import (
    Dataset,
    DatasetError,
    Series,
    Split,
    book_segments,
    candle_segments,
    future_returns,
    join,
    load_dataset,
    parts_of,
    save_dataset,
    walk_forward,
)
from bot.model.tokens import Bars, BookTokens
from tests.model.builders import MINUTE, MS, START, SYMBOL, book_stream

SERIES = Series(SYMBOL, "1")


def bars(count: int, seed: int = 0, holes: tuple[int, ...] = ()) -> Bars:
    """A random walk of one-minute bars; after each of ``holes`` three bars are missing."""
    dice = np.random.default_rng(seed)
    close = 100 * np.exp(dice.normal(0, 1e-3, count).cumsum())
    opened = np.append(100.0, close[:-1])
    index = np.arange(count) + 3 * np.isin(np.arange(count), holes).cumsum()
    return Bars(
        START + index * MINUTE,
        opened,
        np.maximum(opened, close) * 1.0002,
        np.minimum(opened, close) * 0.9998,
        close,
        dice.gamma(2, 100, count),
        np.full(count, 1e-4),
    )


def dataset(count: int = 60, holes: tuple[int, ...] = (), seed: int = 0) -> Dataset:
    parts = candle_segments(SERIES, bars(count, seed, holes))
    return join(parts, kind="candles", venue="made", sources={"a": "b"})


def test_a_hole_begins_a_segment_and_no_return_crosses_it() -> None:
    data = dataset(60, holes=(20, 50))
    assert data.starts.tolist() == [0, 20, 50, 60]
    found = future_returns(data, (1, 4))
    close = bars(60, 0, (20, 50)).close
    for row in range(60):
        end = next(edge for edge in (20, 50, 60) if row < edge)
        for column, horizon in enumerate((1, 4)):
            expected = np.log(close[row + horizon] / close[row]) if row + horizon < end else np.nan
            assert found[row, column] == pytest.approx(expected, nan_ok=True, abs=1e-12)


@given(st.integers(1, 59), st.integers(1, 50))
def test_another_future_changes_no_past_token_and_a_cut_one_neither(cut: int, seed: int) -> None:
    past, other = bars(60), bars(60, seed)
    mixed = Bars(*(
        np.append(getattr(past, name)[:cut], getattr(other, name)[cut:])
        for name in Bars.__struct_fields__
    ))  # fmt: skip
    short = Bars(*(getattr(past, name)[:cut] for name in Bars.__struct_fields__))
    (whole,), (changed,), (ended,) = (
        tuple(candle_segments(SERIES, each)) for each in (past, mixed, short)
    )
    for twin in (changed, ended):
        assert np.array_equal(twin.tokens[:cut], whole.tokens[:cut])
        assert np.array_equal(twin.volatility[:cut], whole.volatility[:cut])


def test_a_book_is_cut_where_its_feed_goes_down_and_is_sampled_as_of_its_own_time() -> None:
    events = book_stream(80)
    events.insert(40, FeedDown(events[40].ts, SYMBOL, "test"))
    events[41:41] = [replace(events[0], exchange_ts=events[39].exchange_ts + 5 * MS)]
    parts = list(book_segments(SYMBOL, 50, events))
    assert len(parts) == 2
    reader = BookTokens(SYMBOL, 50)
    tokens = [token for event in events if (token := reader.read(event)) is not None]
    assert np.array_equal(np.concatenate([part.tokens for part in parts]), tokens)
    data = join(parts, kind="book", venue="made", sources={})
    found = future_returns(data, (100,))[: len(parts[0].ts), 0]
    for row, stamp in enumerate(parts[0].ts):
        due = stamp + 100 * MS
        later = [price for ts, price in zip(parts[0].ts, parts[0].price, strict=True) if ts <= due]
        known = due <= parts[0].ts[-1]
        expected = np.log(later[-1] / parts[0].price[row]) if known else np.nan
        assert found[row] == pytest.approx(expected, nan_ok=True, abs=1e-12)


@given(st.integers(5, 30), st.integers(31, 55), st.integers(1, 4))
def test_no_return_of_a_part_reaches_into_the_next(one: int, two: int, horizon: int) -> None:
    data = dataset(60)
    embargo = horizon * MINUTE
    split = Split(int(data.ts[one]), int(data.ts[two]), embargo)
    train, valid, test = parts_of(data, split)
    assert not (train & valid).any()
    assert not (valid & test).any()
    assert (data.ts[train] + embargo < split.train_end).all()
    assert (data.ts[valid] >= split.train_end).all()
    assert (data.ts[valid] + embargo < split.valid_end).all()
    assert (data.ts[test] >= split.valid_end).all()


def test_walk_forward_judges_stretches_that_follow_each_other() -> None:
    splits = walk_forward(0, 1000, folds=3, valid_ns=100, test_ns=200, embargo_ns=10)
    assert [(each.train_end, each.valid_end, each.test_end) for each in splits] == [
        (300, 400, 600), (500, 600, 800), (700, 800, 1000),
    ]  # fmt: skip
    with pytest.raises(DatasetError, match="leave nothing to train on"):
        walk_forward(0, 1000, folds=5, valid_ns=100, test_ns=200, embargo_ns=10)


def test_a_file_gives_back_what_was_kept(tmp_path: Path) -> None:
    data = dataset(40, holes=(7,))
    save_dataset(data, tmp_path / "a.npz")
    found = load_dataset(tmp_path / "a.npz")
    assert found.sha256() == data.sha256()
    assert found.series == data.series
    save_dataset(data, tmp_path / "half.npz", half=True)
    half = load_dataset(tmp_path / "half.npz")
    assert np.allclose(half.tokens, data.tokens, atol=2e-3)
    assert half.sha256() != data.sha256()


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        load_dataset(path)
    path.write_bytes(b"no")
    with pytest.raises(DatasetError, match="no dataset"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("close", np.nan, "close of bar 3 is nan"),
        ("open", 0.0, "open of bar 3 is 0.0"),
        ("volume", -1.0, "volume of bar 3 is -1.0"),
        ("open_ts", START, "bar 3 opens at .*, not after the last"),
    ],
)
def test_bars_that_cannot_be_are_refused_by_row(name: str, value: float, said: str) -> None:
    good = bars(6)
    column = getattr(good, name).copy()
    column[3] = value
    with pytest.raises(DatasetError, match=said):
        list(candle_segments(SERIES, replace(good, **{name: column})))
