"""Frames of Bybit's shape, broken at random, through the codec and the whole engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from bot import build
from bot.config import Settings
from bot.core.events import Connected, Frame, Instrument
from bot.opening import Opening
from bot.run import Memory, Run
from bot.venue.archive import read_capture
from tests.shards import shards
from tests.venue.feed import CONN, T0_MS, book, damaged, kline, snapshot, text_of, ticker, trade

SYMBOL = "linear:BTCUSDT"
T0 = T0_MS * 1_000_000
FRAMES: tuple[dict, ...] = (
    snapshot(),
    ticker("snapshot", lastPrice="65114.30", markPrice="65117.44", indexPrice="65137.76",
           fundingRate="0.0001", nextFundingTime="1786320000000", openInterest="51"),
    book(11, [("65114.20", "1")], [("65114.30", "0")]),
    trade("65114.40", "3", "Buy"),
    kline(confirm=True),
    book(12, [("65114.10", "0")], [("65114.30", "2")]),
    trade("65114.20", "0.5", "Sell", seq=7013),
    ticker(markPrice="65118.00"),
)  # fmt: skip
HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 1, 1.5, 10**30, -(10**30), "", "NaN", "-1", "1e999999", "Infinity", "0",
    "9" * 39, "9" * 50, "0." + "0" * 11 + "1", "0." + "0" * 20 + "1", "\u0661", [], {}, [[]],
    [None], ["1"], [["1"]], [["1", "2", "3"]], [["0", "1"]], [["65114.30", "1"]], {"u": 1},
    "publicTrade.BTCUSDT", "orderbook.1.BTCUSDT", "orderbook.50.ETHUSDT", "delta", "snapshot",
)  # fmt: skip


def places(value: Any, here: tuple = ()) -> list[tuple]:
    """The path of everything inside a JSON value."""
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    else:
        inside = []
    return [here, *(path for key, inner in inside for path in places(inner, (*here, key)))]


@st.composite
def other_values(draw: st.DrawFn, frame: dict) -> bytes:
    """One value of the frame is another, or gone, or there twice."""
    path = draw(st.sampled_from(places(frame)[1:]))
    changed = deepcopy(frame)
    holder: Any = changed
    for key in path[:-1]:
        holder = holder[key]
    match draw(st.sampled_from(["replace", "remove", "swap"])):
        case "replace":
            holder[path[-1]] = draw(st.sampled_from(HOSTILE))
        case "remove":
            del holder[path[-1]]
        case _:
            holder[path[-1]] = draw(st.sampled_from(FRAMES))
    return text_of(changed)


@st.composite
def other_bytes(draw: st.DrawFn, frame: dict) -> bytes:
    """Bytes are missing, changed, or too many."""
    data = text_of(frame)
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 40)))
    middle = draw(st.one_of(st.just(b""), st.binary(max_size=6), st.just(data[start:end] * 2)))
    return data[:start] + middle + (b"" if draw(st.booleans()) else data[end:])


def broken(index: int) -> st.SearchStrategy[tuple[int, bytes]]:
    frame = FRAMES[index]
    return st.tuples(st.just(index), st.one_of(other_values(frame), other_bytes(frame)))


def trading_run() -> Run:
    """Both strategies over one symbol, quoting at the touch."""
    use = "strategies.market_maker.MarketMaker"
    maker = {"use": use, "symbols": [SYMBOL], "params": {"half_spread": 0.0, "requote_ms": 0.0}}
    run = Run(build.engine(Settings(symbols=(SYMBOL,), strategies=(maker,))), Memory())
    number = Decimal
    run.take(Instrument(T0, T0, SYMBOL, "BTC", "USDT", number("0.1"), number("0.001"),
                        number("0.001"), number(5)))  # fmt: skip
    for fees in build.fees(Settings(), T0):
        run.take(fees)
    run.take(Connected(T0, CONN, "linear"))
    return run


def book_of(run: Run) -> tuple[bool, dict, dict]:
    listing = run.engine.market.listing(SYMBOL)
    return listing.is_live, dict(listing.book.bids), dict(listing.book.asks)


CASES = st.integers(0, len(FRAMES) - 1).flatmap(broken)
QUIET = [HealthCheck.too_slow]


@settings(max_examples=2500, suppress_health_check=QUIET, deadline=None)
@given(CASES)
def test_a_broken_frame_never_raises_and_leaves_the_book_right_or_down(case):
    check(*case)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@shards(100_000, parts=20)
def test_a_hundred_thousand_broken_frames(seeds):
    @seed(seeds.start)
    @settings(max_examples=len(seeds), suppress_health_check=QUIET, deadline=None, database=None)
    @given(CASES)
    def every(case):
        check(*case)

    every()


def check(index: int, data: bytes) -> None:
    run = trading_run()
    for number, frame in enumerate(FRAMES[:index]):
        run.take(Frame(T0 + number, CONN, text_of(frame)))
    before = book_of(run)
    run.take(Frame(T0 + index, CONN, data))
    skipped = run.skipped
    assert skipped == len(run.codec.problems) <= 1
    if skipped:
        is_live, *sides = book_of(run)
        assert not is_live or (is_live, *sides) == before
        assert run.codec.problems[0].text
    for number, frame in enumerate(FRAMES[index:], index + 1):
        run.take(Frame(T0 + number, CONN, text_of(frame)))
    run.finish()


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_frame_at_all_are_skipped(data):
    run = trading_run()
    run.take(Frame(T0, CONN, data))
    assert run.skipped == 1
    assert run.events == 3


def test_whole_frames_trade_so_that_the_broken_ones_meet_orders():
    run = trading_run()
    for number, frame in enumerate(FRAMES):
        run.take(Frame(T0 + number, CONN, json.dumps(frame).encode()))
    run.finish()
    assert run.skipped == 0
    assert run.counts["orders"] >= 2


# --- real frames, broken --------------------------------------------------------------------------


def real_cases(capture: Path, cases: int, random: Random) -> Iterator[tuple[Opening, Frame]]:
    """So many times a whole real frame, and what the market was before it."""
    while True:
        opening = Opening()
        for item in read_capture(capture):
            if type(item) is Frame and random.random() < 0.4:
                yield opening, item
                cases -= 1
                if not cases:
                    return
            opening.take(item)


def books_of(run: Run) -> dict[str, tuple[bool, dict, dict, int]]:
    return {
        symbol: (one.is_live, dict(one.book.bids), dict(one.book.asks), one.book.u)
        for symbol, one in run.engine.market.listings.items()
    }


def check_real(capture: Path, cases: int, number: int) -> None:
    """A refused frame leaves every book as it was or marked down; nothing is raised."""
    random = Random(number)
    run = Run(build.engine(Settings(symbols=(SYMBOL,), strategies=())), Memory())
    skipped = accepted = 0
    for opening, frame in real_cases(capture, cases, random):
        for item in opening.inputs():
            run.take(item)
        before, already = books_of(run), run.skipped
        run.take(Frame(frame.ts, frame.conn, damaged(frame.data, random)))
        if run.skipped == already:
            accepted += 1  # another valid frame: a digit in a price, a letter in an id
            continue
        skipped += 1
        for symbol, after in books_of(run).items():
            assert not after[0] or after == before[symbol], symbol
    assert skipped > cases / 4
    assert accepted > cases / 50


def test_real_frames_broken_leave_the_books_right_or_down(real_capture):
    check_real(real_capture, 2500, number=11)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@shards(100_000, parts=20)
def test_a_hundred_thousand_real_frames_broken(real_capture, seeds):
    check_real(real_capture, len(seeds), number=seeds.start)
