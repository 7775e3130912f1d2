"""Events to rows: the live tokens, and outcomes that look exactly one horizon ahead."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bot.core.events import BookUpdate, Event, FeedDown
from bot.model import BOOK_TOKENS, CANDLE_TOKENS
from bot.model.samples import closes_ahead, mids_ahead, samples
from bot.model.tokens import BookTokens, CandleTokens
from tests.model.builders import MINUTE, MS, SYMBOL, book_stream, candle

HORIZONS = (MINUTE, 3 * MINUTE)
CANDLES: list[Event] = [candle(index) for index in range(60) if index not in (20, 21)]


def test_the_tokens_are_those_of_the_live_reader() -> None:
    (found,) = samples(CANDLES, tokens=CANDLE_TOKENS, interval="1", horizons_ns=HORIZONS)
    reader = CandleTokens(SYMBOL, "1")
    assert np.array_equal(found.tokens, np.array([reader.read(event) for event in CANDLES]))
    assert found.ts.tolist() == [event.exchange_ts for event in CANDLES]


def test_an_outcome_is_the_log_return_to_the_close_one_horizon_later() -> None:
    (found,) = samples(CANDLES, tokens=CANDLE_TOKENS, interval="1", horizons_ns=HORIZONS)
    close = {event.exchange_ts: float(event.close) for event in CANDLES}  # type: ignore[union-attr]
    for row, ts in enumerate(found.ts.tolist()):
        for index, horizon in enumerate(HORIZONS):
            later = close.get(ts + horizon)
            if later is None:
                assert math.isnan(found.outcome[row, index])
            else:
                assert found.outcome[row, index] == pytest.approx(math.log(later / close[ts]))


def test_symbols_come_apart_and_in_order() -> None:
    events = [candle(i, symbol=name) for i in range(5) for name in ("linear:B", "linear:A")]
    found = samples(events, tokens=CANDLE_TOKENS, interval="1", horizons_ns=HORIZONS)
    assert [sample.symbol for sample in found] == ["linear:A", "linear:B"]
    assert [len(sample.ts) for sample in found] == [5, 5]


def test_book_rows_are_the_live_readers_and_a_gap_has_no_outcome_across_it() -> None:
    events = book_stream(120)
    (found,) = samples(events, tokens=BOOK_TOKENS, interval="", horizons_ns=(50 * MS,))
    reader = BookTokens(SYMBOL, 50)
    tokens = [token for event in events if (token := reader.read(event)) is not None]
    assert np.array_equal(found.tokens, np.array(tokens))
    broken = [*events[:60], FeedDown(events[59].ts, SYMBOL, "test"), *book_stream(120)[60:]]
    later = samples(broken, tokens=BOOK_TOKENS, interval="", horizons_ns=(50 * MS,))[0]
    before = len([event for event in events[:60] if isinstance(event, BookUpdate)])
    assert np.isfinite(found.outcome[before - 1, 0])
    assert not np.isfinite(later.outcome[before - 1, 0])


def test_the_mid_stands_until_it_changes() -> None:
    ts = np.array([0, 10, 25, 26, 60], dtype=np.int64)
    mid = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    no_gap = np.zeros(5, dtype=bool)
    found = mids_ahead(ts, mid, no_gap, (20,))[:, 0]
    assert np.exp(found[:4]) == pytest.approx([2 / 1, 4 / 2, 4 / 3, 4 / 4])
    assert math.isnan(found[4])  # nobody knows what came after the last update
    gap = np.array([False, False, True, False, False])
    assert np.isnan(mids_ahead(ts, mid, gap, (20,))[:, 0]).tolist() == [1, 1, 0, 0, 1]


def test_outcomes_never_come_from_within_the_horizon() -> None:
    ts = np.arange(50, dtype=np.int64) * 10
    price = np.random.default_rng(1).lognormal(size=50)
    changed = price.copy()
    changed[30:] *= 2
    for ahead in (closes_ahead, lambda *a: mids_ahead(a[0], a[1], np.zeros(50, dtype=bool), a[2])):
        first, second = (ahead(ts, prices, (50,)) for prices in (price, changed))
        assert np.array_equal(first[:25], second[:25])
        assert first[25, 0] != second[25, 0]


def test_the_volatility_never_looks_ahead() -> None:
    first = samples(CANDLES, tokens=CANDLE_TOKENS, interval="1", horizons_ns=HORIZONS)[0]
    second = samples(CANDLES[:30], tokens=CANDLE_TOKENS, interval="1", horizons_ns=HORIZONS)[0]
    assert np.array_equal(first.volatility[:30], second.volatility)
    assert (first.volatility > 0).all()
