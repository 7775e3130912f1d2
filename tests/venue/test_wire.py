"""The codec: frames in, events out, whatever the frames look like."""

from __future__ import annotations

import json
import random
from decimal import Decimal

import pytest

from bot.core.events import (
    BookUpdate,
    Candle,
    Connected,
    Disconnected,
    FeedDown,
    FeedUp,
    Frame,
    Tick,
    Ticker,
    Trade,
)
from bot.venue.wire import SKIPPED, Codec
from tests.venue.feed import (
    CONN,
    T0_MS,
    Wire,
    book,
    kline,
    message,
    snapshot,
    text_of,
    ticker,
    trade,
)

E12 = 10**12
MS = 1_000_000


def levels(*pairs: tuple[str, str]) -> list[tuple[int, int]]:
    return [(int(Decimal(price) * E12), int(Decimal(qty) * E12)) for price, qty in pairs]


def shuffled(value: object, order: random.Random) -> object:
    """The same JSON with the keys of every object in another order."""
    if isinstance(value, dict):
        items = list(value.items())
        order.shuffle(items)
        return {key: shuffled(inner, order) for key, inner in items}
    if isinstance(value, list):
        return [shuffled(inner, order) for inner in value]
    return value


# --- every topic ------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 50, 200, 1000])
@pytest.mark.parametrize("category", ["linear", "spot"])
def test_a_book_of_every_depth_becomes_an_update_that_follows_its_feed_up(category, depth):
    wire = Wire(category)
    events = wire.send(snapshot(depth=depth), book(11, asks=[("65114.30", "0")], depth=depth))
    symbol, ts = f"{category}:BTCUSDT", wire.ts
    assert events == [
        FeedUp(ts - 1, symbol),
        BookUpdate(
            ts - 1, (T0_MS - 3) * MS, symbol, depth, 10, 7010, snapshot=True,
            bids=levels(("65114.20", "6.054"), ("65114.10", "0.002"), ("65113.50", "1.5")),
            asks=levels(("65114.30", "10.486"), ("65114.40", "0.25"), ("65115.00", "2")),
        ),
        BookUpdate(
            ts, (T0_MS - 3) * MS, symbol, depth, 11, 7011, snapshot=False,
            bids=[], asks=levels(("65114.30", "0")),
        ),
    ]  # fmt: skip


def test_a_book_without_an_engine_stamp_takes_the_frames():
    bare = snapshot()
    del bare["cts"]
    assert Wire().send(bare)[1].exchange_ts == T0_MS * MS


def test_every_trade_of_a_frame_is_an_event_in_order():
    first, second = trade(), trade("65114.30", "12", "Buy", seq=7012, BT=True, RPI=True)
    both = message("publicTrade.BTCUSDT", [first["data"][0], second["data"][0]], "snapshot")
    wire = Wire("spot")
    stamp, symbol = (T0_MS - 1) * MS, "spot:BTCUSDT"
    assert wire.send(both) == [
        Trade(wire.ts, stamp, symbol, 7011, "Sell", 65_114_200_000_000_000, 4_000_000_000),
        Trade(
            wire.ts, stamp, symbol, 7012, "Buy", 65_114_300_000_000_000, 12 * E12,
            block=True, rpi=True,
        ),
    ]  # fmt: skip


def test_a_trade_that_comes_after_a_later_book_is_told_as_it_comes():
    wire = Wire()
    events = wire.send(snapshot(7000), book(7001), trade(seq=7005))
    assert [event.seq for event in events[1:]] == [14000, 14001, 7005]
    assert isinstance(events[-1], Trade)


def test_a_key_that_a_ticker_delta_leaves_out_is_unchanged():
    wire = Wire()
    (first,) = wire.send(
        ticker("snapshot", lastPrice="65114.30", markPrice="65117.44", indexPrice="65137.76",
               fundingRate="-0.0000125", nextFundingTime="1786320000000", openInterest="51"),
    )  # fmt: skip
    assert first == Ticker(
        wire.ts, T0_MS * MS, "linear:BTCUSDT", Decimal("65114.30"), Decimal("65117.44"),
        Decimal("65137.76"), Decimal("-0.0000125"), 1786320000000 * MS, Decimal(51),
    )  # fmt: skip
    (second,) = wire.send(ticker(markPrice="65118.00"))
    assert (second.mark, second.last, second.funding_rate, second.next_funding_ts) == (
        Decimal("65118.00"), first.last, first.funding_rate, first.next_funding_ts,
    )  # fmt: skip
    (third,) = wire.send(ticker(fundingRate="0", nextFundingTime="1786348800000"))
    assert (third.funding_rate, third.mark) == (Decimal(0), Decimal("65118.00"))


def test_a_ticker_that_only_moves_the_best_prices_is_no_event():
    wire = Wire()
    assert len(wire.send(ticker("snapshot", lastPrice="1", bid1Price="0.9"))) == 1
    assert wire.send(ticker(bid1Price="0.8", ask1Size="3")) == []
    assert wire.problems == []


def test_an_empty_or_zero_ticker_price_is_no_price():
    wire = Wire()
    (event,) = wire.send(ticker("snapshot", lastPrice="7", markPrice="", indexPrice="0.00",
                                nextFundingTime="0", fundingRate=""))  # fmt: skip
    assert (event.last, event.mark, event.index) == (Decimal(7), None, None)
    assert (event.next_funding_ts, event.funding_rate) == (None, None)


def test_a_ticker_snapshot_forgets_what_was_merged_before():
    wire = Wire()
    wire.send(ticker("snapshot", lastPrice="7", markPrice="8"))
    (event,) = wire.send(ticker("snapshot", lastPrice="9"))
    assert (event.last, event.mark) == (Decimal(9), None)


def test_only_a_confirmed_bar_is_a_candle_stamped_with_its_close():
    wire = Wire()
    assert wire.send(kline(confirm=False)) == []
    start = T0_MS - T0_MS % 60_000
    assert wire.send(kline(confirm=True)) == [
        Candle(
            wire.ts, (start + 60_000) * MS, "linear:BTCUSDT", "1", start * MS, Decimal("65119.9"),
            Decimal("65119.9"), Decimal("65114.2"), Decimal("65114.3"), Decimal("1.576"),
            Decimal("102627.995"),
        )
    ]  # fmt: skip


def test_a_turnover_may_have_more_decimals_than_a_price():
    (candle,) = Wire().send(kline(confirm=True, turnover="9978.20843890123456"))
    assert candle.turnover == Decimal("9978.20843890123456")


@pytest.mark.parametrize("seed", range(20))
def test_fields_are_found_by_key_whatever_their_order(seed):
    frames = [
        snapshot(), book(11, [("65114.20", "1")], [("65114.30", "0")]), trade(),
        ticker("snapshot", lastPrice="1", markPrice="2"), kline(confirm=True),
    ]  # fmt: skip
    order = random.Random(seed)
    moved = [shuffled(frame, order) for frame in frames]
    assert [text_of(one) for one in moved] != [text_of(one) for one in frames]
    assert Wire().send(*moved) == Wire().send(*frames)


def test_fields_that_bybit_adds_later_change_nothing():
    more = {"new": {"deep": [1, None]}}
    frames = [snapshot(), trade(), kline(confirm=True)]
    added = [trade(**more), kline(confirm=True, **more)]
    assert Wire().send(snapshot() | more, *added) == Wire().send(*frames)


def test_answers_and_pongs_move_nothing_and_are_counted():
    wire = Wire()
    pongs = [
        {"success": True, "ret_msg": "", "conn_id": "d8", "req_id": "", "op": "subscribe"},
        {"success": True, "ret_msg": "pong", "conn_id": "d8", "op": "ping"},
        {"op": "pong", "args": ["1786310818000"]},
    ]
    assert wire.send(*pongs) == []
    assert (wire.codec.frames, dict(wire.codec.counts)) == (3, {"control": 3})
    assert wire.problems == []


def test_a_refusal_is_named_with_the_venues_words():
    wire = Wire()
    refusal = {"success": False, "ret_msg": "error:handler not found,topic:foo", "op": "subscribe"}
    assert wire.send(refusal) == []
    assert wire.problems == [("refused", "error:handler not found,topic:foo")]


# --- continuity -------------------------------------------------------------------------------


def test_a_gap_takes_the_book_down_and_the_next_snapshot_brings_it_up():
    wire = Wire()
    wire.send(snapshot(10))
    assert wire.send(book(12)) == [FeedDown(wire.ts, "linear:BTCUSDT", "gap in u: 12 after 10")]
    assert wire.send(book(13)) == []
    assert wire.codec.counts["before snapshot"] == 1
    up, update = wire.send(snapshot(50))
    assert up == FeedUp(wire.ts, "linear:BTCUSDT")
    assert update.snapshot
    assert wire.send(book(51))[0].u == 51


def test_a_delta_before_the_first_snapshot_is_left_out_without_a_gap():
    wire = Wire()
    assert wire.send(book(9)) == []
    assert dict(wire.codec.counts) == {"before snapshot": 1}


def test_an_update_that_came_before_is_left_out():
    wire = Wire()
    wire.send(snapshot(10), book(11, [("65114.20", "1")]))
    assert wire.send(book(11, [("65114.20", "9")]), book(10)) == []
    assert wire.codec.counts["duplicate"] == 2
    assert wire.send(book(12))[0].u == 12


@pytest.mark.parametrize("frame", [snapshot(3), book(1, [("5", "1")], [("6", "1")])])
def test_a_snapshot_or_u_1_begins_the_book_again_without_a_gap(frame):
    wire = Wire()
    wire.send(snapshot(10))
    (update,) = wire.send(frame)
    assert update.snapshot
    assert wire.send(book(update.u + 1))[0].snapshot is False


def test_a_lost_connection_takes_its_live_books_down_and_no_others():
    wire = Wire()
    wire.codec.decode(Connected(wire.ts, "spot.1", "spot"))
    wire.codec.decode(Frame(wire.ts, "spot.1", text_of(snapshot())))
    wire.send(snapshot(), snapshot(name="ETHUSDT"), book(5, name="SOLUSDT"), trade())
    down = wire.codec.decode(Disconnected(wire.ts, CONN, "silent for 10 s"))
    assert down == [
        FeedDown(wire.ts, "linear:BTCUSDT", "silent for 10 s"),
        FeedDown(wire.ts, "linear:ETHUSDT", "silent for 10 s"),
    ]
    assert wire.codec.decode(Connected(wire.ts, CONN, "linear")) == []
    assert wire.send(book(11)) == []
    assert wire.codec.decode(Frame(wire.ts, "spot.1", text_of(book(11))))[0].u == 11


def test_a_connection_that_opens_again_without_a_word_lost_its_books():
    wire = Wire()
    wire.send(snapshot())
    again = wire.codec.decode(Connected(wire.ts, CONN, "spot"))
    assert again == [FeedDown(wire.ts, "linear:BTCUSDT", "reconnected")]
    assert wire.send(snapshot())[0].symbol == "spot:BTCUSDT"


def test_after_a_reconnect_a_ticker_is_not_merged_with_what_was_known_before():
    wire = Wire()
    wire.send(ticker("snapshot", lastPrice="7", markPrice="8"))
    wire.codec.decode(Connected(wire.ts, CONN, "linear"))
    (event,) = wire.send(ticker(lastPrice="9"))
    assert (event.last, event.mark) == (Decimal(9), None)


def test_the_topic_of_a_book_is_known_for_a_resubscribe():
    wire = Wire()
    wire.send(trade(), snapshot(depth=200))
    assert wire.codec.book_topic("linear:BTCUSDT") == "orderbook.200.BTCUSDT"
    assert wire.codec.book_topic("spot:BTCUSDT") is None


def test_what_is_an_event_already_passes_through():
    assert Codec().decode(Tick(5)) == [Tick(5)]


# --- frames that nobody can read ----------------------------------------------------------------

BAD_TICKERS = [
    {"nextFundingTime": "soon"},
    {"nextFundingTime": "-1"},
    {"nextFundingTime": "1" * 5000},
    {"nextFundingTime": "9" * 15},
    {"markPrice": "NaN"},
    {"markPrice": "Infinity"},
    {"markPrice": "1e999999"},
    {"markPrice": "-65117.44"},
    {"markPrice": "0.0000000000001"},
    {"markPrice": "1_000"},
    {"markPrice": "\u0661\u0662"},
    {"fundingRate": "0.0000000000001"},
    {"openInterest": "-1"},
    {"lastPrice": None},
    {"lastPrice": 65114.3},
]
BAD_FRAMES = [
    b"",
    b"not json",
    b"\xff\xfe\x00",
    b"[]",
    b"null",
    b'{"topic":"publicTrade.\xff"}',
    b'{"topic":"tickers.BTCUSDT","x":' + b"[" * 200_000,
    b"{}",
    *(ticker(**fields) for fields in BAD_TICKERS),
    message("tickers.BTCUSDT", None),
    message("tickers.BTCUSDT", {}, ts=10**30),
    message("tickers.BTCUSDT", {}, ts=-1),
    kline(confirm=True, close="0"),
    kline(confirm=True, open="1e-3"),
    kline(confirm=True, high=None),
    kline(confirm=True, end=10**40),
    kline(confirm="yes"),
]


@pytest.mark.parametrize("frame", BAD_FRAMES, ids=lambda frame: str(frame)[:60])
def test_a_frame_that_cannot_be_read_is_counted_and_named_and_moves_nothing(frame):
    wire = Wire()
    wire.send(snapshot())
    assert wire.send(frame) == []
    ((kind, text),) = wire.problems
    assert kind == "malformed"
    assert text
    assert len(text) < 400
    assert "\n" not in text
    assert wire.codec.counts["malformed"] == 1
    assert wire.send(book(11))[0].u == 11


BAD_TRADES = [
    trade(T=10**30),
    trade(seq=10**20),
    trade(price="NaN"),
    trade(price="-1"),
    trade(qty="1e5"),
    trade(qty="9" * 50),
    trade(side="buy"),
    trade(side=None),
    message("publicTrade.BTCUSDT", {}),
    text_of(trade())[:60],
]


@pytest.mark.parametrize("frame", BAD_TRADES, ids=lambda frame: str(frame)[:60])
def test_a_print_that_cannot_be_read_is_a_gap_of_its_symbol(frame):
    wire = Wire()
    wire.send(snapshot(), snapshot(name="ETHUSDT"), trade())
    down = FeedDown(wire.ts + 1, "linear:BTCUSDT", "a frame could not be read")
    assert wire.send(frame) == [down]
    assert [kind for kind, _ in wire.problems] == ["malformed"]
    assert wire.send(frame) == []
    assert wire.send(book(11, name="ETHUSDT"))[0].u == 11
    assert isinstance(wire.send(snapshot(40))[0], FeedUp)


def test_half_a_delta_takes_its_book_down_at_once():
    wire = Wire()
    wire.send(snapshot())
    half = text_of(book(11, bids=[("65114.20", "1")]))[:100]
    (down,) = wire.send(half)
    assert isinstance(down, FeedDown)


def test_a_snapshot_that_does_not_come_is_asked_for_again_every_second():
    wire = Wire()
    assert wire.send(book(11)) == []
    wire.ts += 999_999_998
    assert wire.send(book(12)) == []
    (down,) = wire.send(book(13))
    assert down == FeedDown(wire.ts, "linear:BTCUSDT", "no snapshot came in 1 s")
    assert wire.codec.book_topic("linear:BTCUSDT") == "orderbook.50.BTCUSDT"
    assert wire.send(book(14)) == []
    wire.ts += 1_000_000_000
    assert len(wire.send(book(15))) == 1
    assert isinstance(wire.send(snapshot(40))[0], FeedUp)
    wire.send(book(99))
    assert wire.send(book(100)) == []


BAD_BOOKS = [
    message("orderbook.50.BTCUSDT", None),
    message("orderbook.50.BTCUSDT", {"b": [], "a": [], "u": None, "seq": 1}),
    message("orderbook.50.BTCUSDT", {"b": [], "a": [], "u": 2**70, "seq": 1}),
    message("orderbook.50.BTCUSDT", {"b": [], "a": [], "u": 11.5, "seq": 1}),
    message("orderbook.50.BTCUSDT", {"b": None, "a": [], "u": 11, "seq": 1}),
    message("orderbook.50.BTCUSDT", {"a": [], "u": 11, "seq": 1}),
    book(11, [("65114.20", "NaN")]),
    book(11, [("65114.20", "-1")]),
    book(11, asks=[("1e400", "1")]),
    book(11, asks=[("65114.30",)]),
    snapshot(11) | {"data": {"b": [["x", "1"]], "a": [], "u": 11, "seq": 1}},
]


@pytest.mark.parametrize("frame", BAD_BOOKS, ids=lambda frame: str(frame["data"])[:60])
def test_a_book_frame_that_cannot_be_read_takes_its_book_down(frame):
    wire = Wire()
    wire.send(snapshot(), snapshot(name="ETHUSDT"))
    down = FeedDown(wire.ts + 1, "linear:BTCUSDT", "a frame could not be read")
    assert wire.send(frame) == [down]
    assert [kind for kind, _ in wire.problems] == ["malformed"]
    assert wire.problems[0][1].startswith("orderbook.50.BTCUSDT: ")
    assert wire.send(book(12), frame) == []
    assert wire.send(book(11, name="ETHUSDT"))[0].u == 11
    assert isinstance(wire.send(snapshot(40))[0], FeedUp)


@pytest.mark.parametrize(
    "topic",
    ["liquidation.BTCUSDT", "orderbook.51.BTCUSDT", "orderbook.\u00b2.BTCUSDT", "orderbook.50.",
     "orderbook.50.BTC.USDT", "kline.1", "tickers", "mystery", "publicTrade."],
)  # fmt: skip
def test_a_topic_that_nobody_asked_for_is_named(topic):
    wire = Wire()
    assert wire.send(message(topic, [])) == []
    assert wire.problems == [("unknown topic", repr(topic))]


@pytest.mark.parametrize("earlier", [[], [Disconnected(1, CONN, "lost")]])
def test_a_frame_before_its_connection_opened_is_named(earlier):
    codec = Codec()
    for item in earlier:
        codec.decode(item)
    assert codec.decode(Frame(2, CONN, text_of(snapshot()))) == []
    assert codec.counts["no connection"] == 1


def test_the_problems_that_nobody_fetches_stay_few():
    wire = Wire()
    wire.send(*[b"x"] * 1000)
    assert wire.codec.counts["malformed"] == 1000
    assert len(wire.codec.problems) == 100
    assert set(wire.codec.counts) <= {*SKIPPED}


def test_half_a_frame_is_one_that_cannot_be_read():
    text = text_of(snapshot())
    for cut in range(1, len(text)):
        wire = Wire()
        assert wire.send(text[:cut]) == []
        assert [kind for kind, _ in wire.problems] == ["malformed"]
    assert json.loads(text)
