"""Frames of Bybit's shape, broken at random, through the codec and the whole engine."""

from __future__ import annotations

import json
from copy import deepcopy
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot import build
from bot.config import Settings
from bot.core.events import Connected, Frame, Instrument
from bot.run import Memory, Run
from tests.venue.feed import CONN, T0_MS, book, kline, snapshot, text_of, ticker, trade

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


@settings(max_examples=2000, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.integers(0, len(FRAMES) - 1).flatmap(broken))
def test_a_broken_frame_never_raises_and_leaves_the_book_right_or_down(case):
    index, data = case
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
