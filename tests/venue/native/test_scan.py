"""The scanner against the reading in Python: the same events, counts and memory for every frame."""

from __future__ import annotations

import json
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.events import Connected, Event, Frame, Input
from bot.core.instrument import parse_e12
from bot.venue import codec_state, native
from bot.venue.archive import read_capture
from bot.venue.native import scan
from bot.venue.wire import Codec
from tests.memory import kept_bytes
from tests.shards import shards
from tests.venue.feed import CONN, T0_MS, book, damaged, kline, snapshot, text_of, ticker, trade

needs_scanner = pytest.mark.skipif(
    not native.available(), reason="the scanner was not built: no C compiler"
)
MOST_MS = (2**63 - 1) // 1_000_000 - 1


class Both:
    """A codec with the scanner and one without; each input goes to both, and they must agree."""

    def __init__(self) -> None:
        self.scanning, self.reading = Codec(), Codec(native.unread)

    def take(self, item: Input) -> list[Event]:
        events = self.scanning.decode(item)
        assert events == self.reading.decode(item), item
        return events

    def frame(self, data: bytes, ts: int = T0_MS) -> list[Event]:
        return self.take(Frame(ts, CONN, data))

    def save(self) -> list[codec_state.SavedCodec]:
        return [codec_state.save(codec) for codec in (self.scanning, self.reading)]

    def restore(self, states: list[codec_state.SavedCodec]) -> None:
        for codec, state in zip((self.scanning, self.reading), states, strict=True):
            codec_state.restore(codec, state)

    def check(self) -> None:
        assert codec_state.save(self.scanning) == codec_state.save(self.reading)
        assert list(self.scanning.problems) == list(self.reading.problems)


def opened() -> Both:
    """Both at a live book and a known trade topic."""
    both = Both()
    both.take(Connected(0, CONN, "linear"))
    both.frame(text_of(snapshot()))
    both.frame(text_of(trade()))
    return both


# --- made-up frames ------------------------------------------------------------------------------

DIGITS = st.text("0123456789", min_size=1, max_size=20)
NUMBERS = st.one_of(
    st.builds("{}.{}".format, DIGITS, st.text("0123456789", max_size=14)),
    st.builds("{}.{}".format, st.integers(0, 99_999), st.integers(0, 999)),
    DIGITS,
    st.sampled_from(("0", "9223372.036854775807", "9223371.999999999999", "9223372", "25000000.5",
                     "999999999999999999.999999999999", "1000000000000000000", "0.000000000001",
                     "0.0000000000001", "", ".", "5.", ".5", "-1", "+1", "1e3", " 1", "1 ", "٣")),
)  # fmt: skip
COUNTS = st.one_of(
    st.integers(0, 30),
    st.sampled_from((10**17, 10**18 - 1, 10**18, 2**63 - 1, 2**63, -1, 1.0, 1.5, True, None, "1")),
)
STAMPS = st.one_of(
    st.just(T0_MS), st.sampled_from((0, MOST_MS, MOST_MS + 1, 10**17, -1, 1.0, None, "1"))
)
OTHERS = st.sampled_from(("BTCUSDT", "", "\\", '"', "\n", "é", "\x7f", None, 1, [], {}))
LEVELS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4)
BOOKS = st.fixed_dictionaries(
    {"b": LEVELS, "a": LEVELS, "u": st.one_of(st.just(11), COUNTS), "seq": COUNTS},
    optional={"s": OTHERS, "x": OTHERS},
)
FLAGS = st.sampled_from((True, False, None, 0))
TRADES = st.lists(
    st.fixed_dictionaries(
        {"T": STAMPS, "S": st.sampled_from(("Buy", "Sell", "buy", "")), "v": NUMBERS, "p": NUMBERS},
        optional={"seq": COUNTS, "BT": FLAGS, "RPI": FLAGS, "s": OTHERS, "L": OTHERS, "i": OTHERS,
                  "mP": OTHERS},
    ),
    max_size=3,
)  # fmt: skip
TOPICS = st.sampled_from((
    "orderbook.50.BTCUSDT", "publicTrade.BTCUSDT", "orderbook.200.ETHUSDT", "publicTrade.", "",
    "orderbook.7.BTCUSDT", "tickers.BTCUSDT",
))  # fmt: skip
KINDS = st.sampled_from(("snapshot", "delta", "other"))


def messages(topic: Any, data: Any) -> st.SearchStrategy[dict]:
    return st.fixed_dictionaries(
        {"topic": st.one_of(st.just(topic), TOPICS), "type": KINDS, "ts": STAMPS, "data": data},
        optional={"cts": STAMPS, "op": OTHERS, "cs": COUNTS},
    )


MESSAGES = st.one_of(
    messages("orderbook.50.BTCUSDT", BOOKS), messages("publicTrade.BTCUSDT", TRADES)
)


def shuffled(value: Any, random: Random) -> Any:
    """Keys in another order, at every depth."""
    if isinstance(value, dict):
        keys = random.sample(list(value), len(value))
        return {key: shuffled(value[key], random) for key in keys}
    if isinstance(value, list):
        return [shuffled(inner, random) for inner in value]
    return value


@settings(max_examples=100, deadline=None)
@given(st.lists(MESSAGES, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_frames_in_any_order_of_keys_with_any_numbers_are_the_same_to_both(bodies, random):
    both = opened()
    for body in bodies:
        both.frame(text_of(shuffled(body, random)))
    both.check()


@needs_scanner
@given(st.integers(0, 10**18 - 1), st.text("0123456789", min_size=1, max_size=12))
def test_numbers_are_exact_up_to_eighteen_digits_before_the_point_and_twelve_behind(
    whole, fraction
):
    text = f"{whole}.{fraction}"
    data = text_of(book(11, [(text, text)], [(str(whole), "0")]))
    _, _, _, _, _, bids, asks = scan(data)
    assert bids == [(parse_e12(text), parse_e12(text))]
    assert asks == [(parse_e12(str(whole)), 0)]


@needs_scanner
def test_a_book_and_a_trade_come_by_key_with_their_stamps_in_nanoseconds():
    data = b'{"data":{"seq":7,"a":[],"u":12,"b":[["65114.20","0.004"]]},"ts":2,"type":"delta",'
    data += b'"topic":"orderbook.50.BTCUSDT"}'
    level = (65_114_200_000_000_000, 4_000_000_000)
    assert scan(data) == ("orderbook.50.BTCUSDT", False, 2_000_000, 12, 7, [level], [])
    topic, trades = scan(text_of(trade(BT=True)))
    assert topic == "publicTrade.BTCUSDT"
    assert trades == [((T0_MS - 1) * 1_000_000, 7011, "Sell", *level, True, False)]


PLAIN = text_of(book(11, [("1.5", "2")], [("2.5", "0")]))
TRADE = text_of(trade())
LEFT = {
    "nothing": b"",
    "not an object": b"[]",
    "white space": PLAIN.replace(b'"ts":', b'"ts": '),
    "what follows": PLAIN + b" ",
    "a zero byte": PLAIN + b"\0",
    "a cut": PLAIN[:-1],
    "an escape": PLAIN.replace(b"BTCUSDT", b"BTC\\u0055SDT"),
    "a letter beyond ASCII": PLAIN.replace(b'"s":"BTC', b'"s":"\xc3\xa9'),
    "a key that is not known": PLAIN.replace(b'"s":', b'"x":'),
    "a key of the envelope that is not known": PLAIN.replace(b'"ts":', b'"op":1,"ts":'),
    "a key twice": PLAIN.replace(b'"u":11', b'"u":11,"u":11'),
    "a side twice": PLAIN.replace(b'"u":11', b'"u":11,"b":[]'),
    "data twice": PLAIN.replace(b'"ts":', b'"data":[],"ts":'),
    "a key that is missing": PLAIN.replace(b'"u":11,', b""),
    "null": PLAIN.replace(b'"u":11', b'"u":null'),
    "a fraction": PLAIN.replace(b'"u":11', b'"u":11.0'),
    "a leading zero": PLAIN.replace(b'"u":11', b'"u":011'),
    "a sign": PLAIN.replace(b'"u":11', b'"u":-11'),
    "nineteen digits": PLAIN.replace(b'"u":11', b'"u":1000000000000000000'),
    "a stamp that no nanosecond holds": PLAIN.replace(b'"ts":1786310817000', b'"ts":9223372036854'),
    "an exponent": PLAIN.replace(b'"1.5"', b'"1e5"'),
    "a negative price": PLAIN.replace(b'"1.5"', b'"-1.5"'),
    "thirteen decimals": PLAIN.replace(b'"1.5"', b'"1.5000000000000"'),
    "a price that is a number": PLAIN.replace(b'"1.5"', b"1.5"),
    "a level of three": PLAIN.replace(b'"2"]', b'"2","3"]'),
    "a level of one": PLAIN.replace(b'["1.5","2"]', b'["1.5"]'),
    "levels without end": PLAIN.replace(b'"2"]]', b'"2"],]'),
    "another type": PLAIN.replace(b"delta", b"other"),
    "another topic": PLAIN.replace(b"orderbook", b"tickers"),
    "a book under a trade's topic": PLAIN.replace(b"orderbook.50", b"publicTrade"),
    "trades under a book's topic": TRADE.replace(b"publicTrade", b"orderbook.50"),
    "another side": TRADE.replace(b"Sell", b"sell"),
    "a flag that is a number": TRADE.replace(b'"BT":false', b'"BT":0'),
    "a trade without a price": TRADE.replace(b'"p":"65114.20",', b""),
    "a ticker": text_of(ticker(lastPrice="1")),
    "a candle": text_of(kline(confirm=True)),
    "an answer": b'{"op":"pong","success":true}',
}


@needs_scanner
@pytest.mark.parametrize("data", LEFT.values(), ids=LEFT)
def test_it_leaves_what_it_does_not_know_to_the_last_byte(data):
    assert scan(PLAIN) is not None
    assert scan(TRADE) is not None
    assert scan(data) is None
    both = opened()
    both.frame(data)
    both.check()


@needs_scanner
def test_a_price_met_again_among_more_than_are_remembered_is_the_same():
    random = Random(5)
    prices = [random.randrange(1, 10**9) for _ in range(5_000)]
    for price in prices + prices[::-1] + prices[-1:] * 2:
        bids = scan(text_of(book(11, [(f"{price}.5", "1")])))[5]  # type: ignore[index]
        assert bids == [(price * 10**12 + 5 * 10**11, 10**12)]


@needs_scanner
def test_only_bytes_are_frames():
    with pytest.raises(TypeError, match="a frame is bytes"):
        scan("text")  # type: ignore[arg-type]


@needs_scanner
def test_it_keeps_no_memory_of_frames_that_it_read_or_left():
    random = Random(3)
    frames = [PLAIN, TRADE, text_of(snapshot()), text_of(book(11, [("99999999.5", "1")]))]
    frames += LEFT.values()
    frames += [damaged(frame, random) for frame in frames[:4] for _ in range(500)]

    def read() -> None:
        for _ in range(3):
            for data in frames:
                scan(data)

    assert kept_bytes(read) < 2_000


# --- real frames ---------------------------------------------------------------------------------


@needs_scanner
def test_it_reads_every_book_and_trade_of_a_real_feed_and_leaves_the_rest(real_capture):
    both = Both()
    for item in read_capture(real_capture):
        both.take(item)
        if type(item) is Frame:
            topic = json.loads(item.data).get("topic", "")
            assert (scan(item.data) is not None) == topic.startswith(("orderbook", "publicTrade"))
    both.check()


def check_damaged(capture: Path, cases: int, seed: int) -> None:
    """Damage real frames, each where the books stand that it came to."""
    random = Random(seed)
    inputs = list(read_capture(capture))
    both, done, events = Both(), 0, 0
    for item in islice(cycle(inputs), cases):
        if type(item) is Frame:
            before = both.save()
            events += len(both.take(Frame(item.ts, item.conn, damaged(item.data, random))))
            both.check()
            both.restore(before)
            done += 1
        both.take(item)
    assert done > cases * 0.9
    assert cases / 50 < events < cases


def test_real_frames_broken_at_random_are_the_same_to_both(real_capture):
    check_damaged(real_capture, 3_000, seed=1)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@shards(200_000, parts=4)
def test_two_hundred_thousand_real_frames_broken_are_the_same_to_both(real_capture, seeds):
    check_damaged(real_capture, len(seeds), seed=seeds.start)
