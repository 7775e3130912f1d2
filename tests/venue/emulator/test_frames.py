"""The topics' frames, read back by an independent reader and compared with real traffic."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import zstandard

from bot.core.events import BookUpdate, Candle, Connected, FeedUp, Frame, Ticker, Trade
from bot.venue.emulator import frames
from bot.venue.emulator.feed import LiveFeed, Topic
from bot.venue.emulator.listing import listing_of
from bot.venue.emulator.market import Market, PublicTrade
from bot.venue.wire import Codec
from tests.venue.emulator import oracle

START_MS = 1_786_310_817_000  # three seconds before a minute ends
MINUTE_MS = 60_000
DEPTHS = (1, 50, 200, 1000)
CADENCE_MS = {1: 10, 50: 20, 200: 100, 1000: 200}


def a_feed(*symbols: str, rate: float = 60.0, hours: int = 26) -> LiveFeed:
    market = Market(
        symbols or ("linear:BTCUSDT",),
        seed=11,
        start_ns=START_MS * 1_000_000,
        events_per_s=rate,
        history_hours=hours,
    )
    return LiveFeed(market)


def play(feed: LiveFeed, seconds: float) -> Iterator[tuple[int, Topic, str]]:
    """Advance in steps of the venue's grid; (now, topic, frame)."""
    now_ms = feed.market.now_ns // 1_000_000
    for at_ms in range(now_ms + 10, now_ms + round(seconds * 1000) + 1, 10):
        for topic, text in feed.advance(at_ms * 1_000_000):
            yield at_ms, topic, text


@pytest.mark.parametrize("category", ["linear", "spot"])
def test_every_depth_rebuilds_the_venues_own_book_at_every_update(category):
    feed = a_feed(f"{category}:BTCUSDT")
    (market,) = feed.market.symbols.values()
    books = {depth: oracle.Book() for depth in DEPTHS}
    for depth, book in books.items():
        (first,) = feed.subscribe((category, f"orderbook.{depth}.BTCUSDT"))
        book.read(first)
    price_of = cache(lambda ticks: Decimal(market.listing.price(ticks)))
    qty_of = cache(lambda lots: Decimal(lots).scaleb(-market.listing.qty_scale))
    deletes_outside = 0
    for now_ms, (_, topic), text in play(feed, 20):
        depth = int(topic.split(".")[1])
        book = books[depth]
        book.read(text)
        book.check_uncrossed()
        assert now_ms % CADENCE_MS[depth] == 0
        for side, mine in ((market.book.bids, book.sorted_bids()),
                           (market.book.asks, book.sorted_asks())):  # fmt: skip
            prices = sorted(side.orders, reverse=side.sign > 0)[:depth]
            assert mine == [
                (price_of(price), qty_of(sum(side.orders[price].values()))) for price in prices
            ]
        message = json.loads(text)
        assert message["data"]["seq"] == market.seq
        if message["type"] == "delta":
            resting = {market.listing.price(price) for price in market.book.bids.orders}
            deletes_outside += sum(q == "0" and p in resting for p, q in message["data"]["b"])
    assert all(book.u for book in books.values())
    assert books[50].deltas > 300
    assert books[200].deltas > 150
    assert books[1000].deltas > 80
    assert books[1].snapshots > 300
    assert deletes_outside > 50, "levels that leave the depth are deleted although they rest on"


def test_a_late_subscriber_goes_on_from_the_snapshot_that_the_others_have():
    feed = a_feed()
    topic = ("linear", "orderbook.50.BTCUSDT")
    early, late = oracle.Book(), oracle.Book()
    early.read(feed.subscribe(topic)[0])
    for step, (_, _, text) in enumerate(play(feed, 5)):
        early.read(text)
        if late.u:
            late.read(text)
        elif step == 20:
            late.read(feed.subscribe(topic)[0])
    assert late.deltas > 20
    assert (late.bids, late.asks, late.u) == (early.bids, early.asks, early.u)


def test_a_new_subscription_after_a_release_gets_a_later_snapshot():
    feed = a_feed()
    topic = ("linear", "orderbook.50.BTCUSDT")
    book = oracle.Book()
    book.read(feed.subscribe(topic)[0])
    for _, _, text in play(feed, 1):
        book.read(text)
    before = book.u
    feed.release(topic)
    assert not list(play(feed, 1)), "nobody listens"
    book.read(feed.subscribe(topic)[0])
    assert book.u > before
    for _, _, text in play(feed, 1):
        book.read(text)


def test_a_restart_is_a_snapshot_with_u_1_and_counts_on_from_there():
    feed = a_feed()
    topic = ("linear", "orderbook.200.BTCUSDT")
    book = oracle.Book()
    book.read(feed.subscribe(topic)[0])
    assert feed.restart(topic)
    us = []
    for _, _, text in play(feed, 1):
        book.read(text)
        us.append(book.u)
    assert us == list(range(1, len(us) + 1))
    assert len(us) > 5
    assert book.snapshots == 2
    assert not feed.restart(("linear", "publicTrade.BTCUSDT"))


def test_an_unchanged_one_level_book_is_repeated_after_three_seconds_with_the_same_u():
    feed = a_feed(rate=1e-4)
    feed.advance(START_MS * 1_000_000 + 1_000_000_000)
    (first,) = feed.subscribe(("linear", "orderbook.1.BTCUSDT"))
    u = json.loads(first)["data"]["u"]
    repeats = [
        (now_ms, json.loads(text)["data"]["u"], json.loads(text)["ts"])
        for now_ms, _, text in play(feed, 7)
    ]
    assert [(now - START_MS - 1000, at - START_MS - 1000) for now, _, at in repeats] == [
        (3000, 3000),
        (6000, 6000),
    ]
    assert {repeated for _, repeated, _ in repeats} == {u}


@pytest.mark.parametrize("category", ["linear", "spot"])
def test_klines_and_tickers_say_what_the_trades_say(category):
    feed = a_feed(f"{category}:ETHUSDT")
    (market,) = feed.market.symbols.values()
    for kind in ("publicTrade", "tickers", "kline.1", "kline.5", "orderbook.1"):
        feed.subscribe((category, f"{kind}.ETHUSDT"))
    open_ = Decimal(market.listing.price(market.last))
    trades: list[dict[str, Any]] = []
    confirmed: dict[str, list[dict[str, Any]]] = defaultdict(list)
    ticker, touch, last_seq = oracle.Ticker(), oracle.Book(), 0
    ticker.read(feed.subscribe((category, "tickers.ETHUSDT"))[0])
    for now_ms, (_, topic), text in play(feed, 185):
        message = json.loads(text)
        if topic.startswith("publicTrade"):
            seqs = {trade["seq"] for trade in message["data"]}
            assert len(seqs) == 1, "a frame holds the prints of one taker"
            assert last_seq < min(seqs)
            last_seq = min(seqs)
            assert all(message["ts"] - 1 == trade["T"] <= now_ms for trade in message["data"])
            trades += message["data"]
        elif topic.startswith("kline"):
            bars = [bar for bar in message["data"] if bar["confirm"]]
            confirmed[topic] += bars
            assert all(bar["end"] < now_ms <= bar["end"] + 1000 for bar in bars)
        elif topic.startswith("tickers"):
            ticker.read(text)
            assert Decimal(ticker.fields["lastPrice"]) == market.last * Decimal(
                str(market.listing.tick_size)
            )
            if category == "linear":
                best = market.listing.price(market.book.bids.best())
                assert ticker.fields["bid1Price"] == best
                gap = Decimal(ticker.fields["markPrice"]) / Decimal(ticker.fields["indexPrice"])
                assert abs(gap - 1) < Decimal("0.002")
        else:
            touch.read(text)
    minutes = confirmed["kline.1.ETHUSDT"]
    starts = [bar["start"] for bar in minutes]
    assert starts == list(range(starts[0], starts[0] + 4 * MINUTE_MS, MINUTE_MS))
    close = open_
    for bar in minutes:
        mine = [trade for trade in trades if bar["start"] <= trade["T"] <= bar["end"]]
        expected = oracle.add_up(mine, close)
        assert {name: Decimal(bar[name]) for name in expected} == expected
        close = expected["close"]
    (five,) = confirmed["kline.5.ETHUSDT"]
    assert five["end"] + 1 == five["start"] + 5 * MINUTE_MS
    parts = [bar for bar in minutes if five["start"] <= bar["start"] <= five["end"]]
    assert five["close"] == parts[-1]["close"]
    assert Decimal(five["high"]) >= max(Decimal(bar["high"]) for bar in parts)
    assert len(trades) > 500


def test_trades_take_exactly_what_leaves_the_touch():
    """Where one event alone has touched the book, its prints are all that is missing from it."""
    feed = a_feed("linear:ETHUSDT", rate=15.0)
    (market,) = feed.market.symbols.values()
    explained = 0
    start = {True: dict(market.book.asks.totals), False: dict(market.book.bids.totals)}
    events, now_ns = market.events, feed.market.now_ns
    for _ in range(60_000):
        now_ns += 100_000
        feed.market.advance(now_ns)
        if market.events == events:
            continue
        single = market.events == events + 1
        events = market.events
        for buy, side in ((True, market.book.asks), (False, market.book.bids)):
            prints = [trade for trade in market.unpublished if trade.buy == buy]
            if prints and single:
                taken: dict[int, int] = defaultdict(int)
                for trade in prints:
                    taken[trade.price] += trade.lots
                left = {p: start[buy][p] - side.totals.get(p, 0) for p in start[buy]}
                assert {p: q for p, q in left.items() if q} == taken
                explained += 1
        market.unpublished.clear()
        start = {True: dict(market.book.asks.totals), False: dict(market.book.bids.totals)}
    assert explained > 5


def test_about_one_trade_in_twenty_comes_after_a_book_that_already_shows_it():
    feed = a_feed("linear:BTCUSDT")
    feed.subscribe(("linear", "publicTrade.BTCUSDT"))
    feed.subscribe(("linear", "orderbook.50.BTCUSDT"))
    book_seq = late = total = 0
    for _, (_, topic), text in play(feed, 120):
        message = json.loads(text)
        if topic.startswith("orderbook"):
            book_seq = message["data"]["seq"]
        else:
            total += 1
            late += message["data"][0]["seq"] <= book_seq
    assert 0.01 < late / total < 0.12


def test_a_taker_with_more_than_1024_prints_gets_several_frames():
    listing = listing_of("linear:BTCUSDT")
    prints = [PublicTrade(1, 5, True, 10, 1, "PlusTick", str(i)) for i in range(2500)]
    texts = frames.trades(listing, prints, 1)
    assert [len(json.loads(text)["data"]) for text in texts] == [1024, 1024, 452]
    assert [t["i"] for text in texts for t in json.loads(text)["data"]] == [t.id for t in prints]


def test_the_bots_own_codec_reads_every_frame_and_agrees():
    symbols = ("linear:BTCUSDT", "spot:BTCUSDT", "linear:DOGEUSDT", "spot:SOLUSDT")
    feed = a_feed(*symbols)
    codec = Codec()
    for category in ("linear", "spot"):
        codec.decode(Connected(1, category, category))
    pending = []
    for symbol in symbols:
        category, _, name = symbol.partition(":")
        for kind in ("orderbook.50", "publicTrade", "tickers", "kline.1"):
            topic = (category, f"{kind}.{name}")
            pending += [(topic, text) for text in feed.subscribe(topic)]
    pending += [(topic, text) for _, topic, text in play(feed, 5)]
    seen: dict[type, set[str]] = defaultdict(set)
    for (category, _), text in pending:
        for event in codec.decode(Frame(2, category, text.encode())):
            seen[type(event)].add(event.symbol)  # type: ignore[union-attr]
    assert not codec.problems
    for kind in (FeedUp, BookUpdate, Trade, Ticker, Candle):
        assert seen[kind] == set(symbols), kind


# --- against real traffic -------------------------------------------------------------------


def real_frames(path: Path) -> Iterator[tuple[str, str]]:
    """(category, text) of every data frame."""
    categories: dict[str, str] = {}
    with path.open("rb") as raw:
        packed = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        lines = packed.read().splitlines()
    for line in lines:
        entry = json.loads(line)
        if entry["t"] == "connect":
            categories[entry["conn"]] = entry["addr"].rpartition("/")[2]
        elif entry["t"] == "recv" and '"topic"' in entry["data"]:
            yield categories[entry["conn"]], entry["data"]


def shape(value: Any) -> Any:
    """A frame's keys in order; lists by the shapes that occur, numbers by their decimals."""
    if isinstance(value, dict):
        return tuple((key, shape(item)) for key, item in value.items())
    if isinstance(value, list):
        return frozenset(shape(item) for item in value)
    if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return "number"
    return type(value).__name__


def shapes(frames_: list[tuple[str, str]]) -> dict[tuple[str, str, str], set[Any]]:
    """The distinct shapes by category, kind of topic and type; ticker deltas by their outside."""
    found: dict[tuple[str, str, str], set[Any]] = defaultdict(set)
    for category, text in frames_:
        message = json.loads(text)
        kind = message["topic"].rpartition(".")[0]
        if (kind, message["type"]) == ("tickers", "delta"):
            message["data"] = {}
        if kind.startswith("orderbook"):  # one side may be empty; what matters is the level
            message["data"] |= {"b": [], "a": []}
        found[category, kind, message["type"]].add(shape(message))
    return found


def test_frames_have_the_shape_and_key_order_of_real_ones(real_capture):
    real = shapes(list(real_frames(real_capture)))
    feed = a_feed("linear:BTCUSDT", "linear:ETHUSDT", "spot:BTCUSDT", "spot:ETHUSDT")
    mine_frames = []
    for symbol in feed.market.symbols:
        category, _, name = symbol.partition(":")
        for kind in ("orderbook.200", "publicTrade", "tickers", "kline.1"):
            topic = (category, f"{kind}.{name}")
            mine_frames += [(category, text) for text in feed.subscribe(topic)]
    mine_frames += [(category, text) for _, (category, _), text in play(feed, 10)]
    mine = shapes(mine_frames)
    assert mine.keys() == real.keys()
    for key, found in mine.items():
        assert found <= real[key], key


def test_ticker_deltas_have_real_fields_in_real_order(real_capture):
    (order,) = {
        tuple(json.loads(text)["data"])
        for category, text in real_frames(real_capture)
        if category == "linear" and '"tickers' in text and '"snapshot"' in text
    }
    feed = a_feed("linear:BTCUSDT")
    topic = ("linear", "tickers.BTCUSDT")
    assert tuple(json.loads(feed.subscribe(topic)[0])["data"]) == order
    for _, _, text in play(feed, 10):
        names = list(json.loads(text)["data"])
        assert names == [name for name in order if name in names]
        assert ("bid1Price" in names) == ("bid1Size" in names)
        assert len(names) > 1


def decimals(text: str) -> int:
    return len(text.partition(".")[2])


def test_books_and_trades_write_as_many_decimals_as_real_ones(real_capture):
    """Futures pad to the symbol's scale, spot strips."""

    def sets(frames_: list[tuple[str, str]]) -> dict[tuple[str, str], set[int]]:
        found: dict[tuple[str, str], set[int]] = defaultdict(set)
        for category, text in frames_:
            message = json.loads(text)
            topic = message["topic"]
            if topic.startswith("orderbook.200"):
                for price, size in message["data"]["b"] + message["data"]["a"]:
                    found[f"{category} {topic}", "price"].add(decimals(price))
                    if size != "0":
                        found[f"{category} {topic}", "size"].add(decimals(size))
        return found

    symbols = ("linear:BTCUSDT", "linear:ETHUSDT", "linear:SOLUSDT", "linear:DOGEUSDT",
               "spot:BTCUSDT", "spot:ETHUSDT")  # fmt: skip
    feed = a_feed(*symbols)
    mine = []
    for symbol in symbols:
        category, _, name = symbol.partition(":")
        topic = (category, f"orderbook.200.{name}")
        mine += [(category, text) for text in feed.subscribe(topic)]
    mine += [(category, text) for _, (category, _), text in play(feed, 5)]
    expected, found = sets(list(real_frames(real_capture))), sets(mine)
    assert found.keys() == expected.keys()
    for key, counts in found.items():
        assert max(counts) == max(expected[key]), key
        assert counts <= expected[key], key
