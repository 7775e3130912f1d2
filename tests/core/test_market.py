"""What is known of a symbol, and whether its book can be trusted."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bot.core.events import Candle, ClockOffset, Command, FeedDown, FeedUp, Tick, Ticker
from bot.core.market import Market
from tests.builders import LINEAR, MS, book, e12, fees, prediction, rules, trade


def market(*events: object) -> Market:
    made = Market()
    for event in events:
        made.apply(event)
    return made


def live(t: float = 1) -> object:
    return book(t, "100x1", "101x1", snapshot=True, seq=7)


def candle(close: str) -> Candle:
    price = Decimal(close)
    return Candle(0, 0, LINEAR, "1", 0, price, price, price, price, Decimal(1), Decimal(1))


def test_a_book_is_trusted_from_its_first_snapshot() -> None:
    made = market(book(1, "100x1", "101x1"))
    listing = made.listing(LINEAR)
    assert (listing.is_live, listing.book.best_bid, made.mid(LINEAR)) == (False, 0, None)
    made.apply(live(2))
    assert (listing.is_live, listing.live_seq, made.mid(LINEAR)) == (True, 7, 100.5)


def test_a_lost_feed_is_trusted_again_with_a_snapshot_only() -> None:
    made = market(live(), FeedDown(2 * MS, LINEAR, "gap"), FeedUp(3 * MS, LINEAR))
    listing = made.listing(LINEAR)
    assert not listing.is_live
    made.apply(book(4, "99x1"))
    assert (listing.is_live, listing.book.best_bid) == (False, e12(100))
    made.apply(live(5))
    assert listing.is_live
    assert made.notices == []


def test_a_crossed_book_is_told_once_and_its_return_too() -> None:
    made = market(live(), book(2, "102x1"), book(3, "103x1"))
    down = FeedDown(2 * MS, LINEAR, "best bid above best ask", 2 * MS)
    assert made.notices == [down]
    made.apply(book(4, "102x1", "101x1", snapshot=True))
    assert made.notices == [down]
    made.apply(live(5))
    assert made.notices == [down, FeedUp(5 * MS, LINEAR, 5 * MS)]


def test_a_feed_that_was_lost_while_crossed_comes_back_through_the_codec() -> None:
    made = market(live(), book(2, "102x1"), FeedDown(3 * MS, LINEAR, "gap"), live(4))
    assert [type(notice) for notice in made.notices] == [FeedDown]


def test_a_first_snapshot_that_is_crossed_is_not_trusted() -> None:
    made = market(book(1, "102x1", "101x1", snapshot=True))
    assert not made.listing(LINEAR).is_live
    assert made.notices == []


def test_a_book_that_stays_crossed_is_told_of_every_second() -> None:
    made = market(book(1, "102x1", "101x1", snapshot=True), book(900))
    assert made.notices == []
    made.apply(book(1001))
    made.apply(book(1500))
    down = FeedDown(1001 * MS, LINEAR, "best bid above best ask", 1001 * MS)
    assert made.notices == [down]
    made.apply(book(1600, "102x1", "101x1", snapshot=True))
    made.apply(book(2001))
    assert len(made.notices) == 2
    made.apply(live(2002))
    made.apply(book(9000))
    assert [type(notice) for notice in made.notices] == [FeedDown, FeedDown, FeedUp]


def test_the_clock_is_the_largest_stamp_of_books_and_trades() -> None:
    made = market(live(5), trade(3, "Buy", 100, 1))
    listing = made.listing(LINEAR)
    assert listing.clock_ns == 5 * MS
    made.apply(trade(8, "Buy", 100, 1))
    made.apply(book(6))
    made.apply(Ticker(99 * MS, 99 * MS, LINEAR))
    assert listing.clock_ns == 8 * MS
    made.apply(FeedDown(10 * MS, LINEAR, "gap"))
    made.apply(book(11))
    assert listing.clock_ns == 11 * MS


def test_a_value_is_the_mark_else_the_mid_else_the_last_trade_else_the_close() -> None:
    made = market()
    listing = made.listing(LINEAR)
    assert listing.value_price == 0
    made.apply(candle("90"))
    assert listing.value_price == e12(90)
    made.apply(trade(1, "Buy", 95, 1))
    made.apply(candle("91"))
    assert listing.value_price == e12(95)
    made.apply(live())
    assert listing.value_price == e12("100.5")
    made.apply(book(2, asks="101x0"))
    assert listing.value_price == e12(95)
    assert made.mid(LINEAR) is None
    made.apply(Ticker(3 * MS, 3 * MS, LINEAR, mark=Decimal(97)))
    made.apply(Ticker(4 * MS, 4 * MS, LINEAR))
    assert listing.value_price == e12(97)
    made.apply(FeedDown(5 * MS, LINEAR, "gap"))
    assert listing.mid_e12 == e12(95)


def test_the_newest_of_everything_is_kept() -> None:
    made = market(
        rules(), rules(tick_size="0.5"), fees(), ClockOffset(0, 5), candle("1"), candle("2"),
        prediction(1, 0.1), prediction(2, 0.2), prediction(2, 0.3, model="other"),
        Tick(1), Command(1, "pause", "test"),
    )  # fmt: skip
    listing = made.listing(LINEAR)
    assert listing.rules is not None
    assert listing.rules.tick_size == e12("0.5")
    assert listing.candle == candle("2")
    assert made.offset_ns == 5
    assert made.fees == {"linear": fees()}
    assert {m: p.horizons[0].expected_return for m, p in listing.predictions.items()} == {
        "predictor": 0.2, "other": 0.3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rate", "due", "expected"), [("0.1", 5, 5), (None, 5, 0), ("0.1", None, 0)]
)
def test_a_settlement_is_known_with_its_rate(
    rate: str | None, due: int | None, expected: int
) -> None:
    number = None if rate is None else Decimal(rate)
    made = market(Ticker(1, 1, LINEAR, funding_rate=number, next_funding_ts=due))
    assert made.listing(LINEAR).next_funding_ns == expected


def test_an_unheard_symbol_has_no_mid() -> None:
    assert market().mid("linear:XUSDT") is None


def test_of_several_depths_of_a_symbol_the_deepest_is_followed() -> None:
    market = Market()
    deep = book(1, "100x1 99x1 101x0", "102x1 103x1", snapshot=True, depth=50)
    assert market.apply_book(book(0, "100x1", "102x1", snapshot=True, depth=1))
    assert market.apply_book(deep), "a deeper snapshot takes over"
    assert not market.apply_book(book(2, "90x1", "91x1", snapshot=True, depth=1))
    assert not market.apply_book(book(3, "200x1", depth=1))
    followed = market.listing(deep.symbol).book
    assert (followed.depth, followed.best_bid) == (50, e12(100))
    assert market.apply_book(book(4, "100.5x1", depth=50))
    assert followed.best_bid == e12("100.5")
    assert not market.notices
