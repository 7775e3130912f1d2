"""Priority among our orders, and what the other side still offers."""

from __future__ import annotations

from msgspec.structs import replace

from bot.core.events import Side
from bot.core.market import Listing
from bot.core.orders import SymbolOrders
from bot.core.queue import Resting
from tests.builders import LINEAR, Paper, book, e12, levels


def orders(bids: str = "", asks: str = "", depth: int = 0) -> SymbolOrders:
    made = SymbolOrders(Listing(LINEAR))
    made.listing.book.apply(book(0, bids, asks, snapshot=True, depth=depth))
    return made


def resting(number: int, side: Side, price: object) -> Resting:
    order = Paper(start=None).order(0, side, 5, price)
    return Resting(order, number, e12(price), e12(5), e12(5), 0, 0, 0, 0)


def test_better_prices_go_first_then_earlier_arrivals() -> None:
    made = orders()
    for number, price in enumerate((100, 101, 100, 99)):
        made.add(resting(number, "Buy", price))
        made.add(resting(10 + number, "Sell", price))
    assert [each.number for each in made.buys] == [1, 0, 2, 3]
    assert [each.number for each in made.sells] == [13, 10, 12, 11]


def test_an_order_is_found_by_its_id_and_gone_when_removed() -> None:
    made = orders()
    buy, sell = resting(1, "Buy", 100), resting(2, "Sell", 101)
    sell.order = replace(sell.order, id=9)
    made.add(buy)
    made.add(sell)
    assert made.find(9) is sell
    assert made.find(1) is buy
    assert made.side("Sell") is made.sells
    made.remove(sell)
    assert made.find(9) is None


def test_the_other_side_is_offered_best_first_up_to_the_limit() -> None:
    made = orders("100x1 99x2 98x3", "101x1 102x2 103x3")
    assert made.offers("Buy", e12(102)) == levels("101x1 102x2")
    assert made.offers("Sell", e12(99)) == levels("100x1 99x2")
    assert made.offers("Buy", e12(100)) == made.offers("Sell", e12(101)) == []
    assert made.available("Buy", e12(1000)) == e12(6)


def test_nothing_is_offered_by_an_empty_side() -> None:
    assert orders("100x1").offers("Buy", e12(1000)) == []
    assert orders("", "101x1").offers("Sell", e12(1)) == []


def test_what_was_taken_is_not_offered_again() -> None:
    made = orders("100x1 99x2", "101x1 102x2")
    made.take("Buy", e12(101), e12(1))
    made.take("Sell", e12(99), e12("0.5"))
    assert made.offers("Buy", e12(102)) == levels("102x2")
    assert made.offers("Sell", e12(99)) == levels("100x1 99x1.5")


def test_what_was_taken_is_forgotten_with_its_level() -> None:
    made = orders("100x1", "101x3")
    made.take("Buy", e12(101), e12(2))
    made.take("Sell", e12(100), e12(1))
    for update in (book(1), book(2, "100x0 99x1", "101x1")):
        made.listing.book.apply(update)
        made.forget_gone(update)
    assert made.taken_bids.marks == {}
    assert made.taken_asks.marks == dict(levels("101x1"))
    update = book(3, "99x1", "102x1", snapshot=True)
    made.listing.book.apply(update)
    made.forget_gone(update)
    assert made.taken_asks.marks == {}
