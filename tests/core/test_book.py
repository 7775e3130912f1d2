"""The book against a naive one that keeps every level in a list and recomputes all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.book import Book
from tests.builders import book, e12, levels


def shown(bids: str = "", asks: str = "", depth: int = 0) -> Book:
    made = Book()
    made.apply(book(0, bids, asks, snapshot=True, depth=depth, seq=7))
    return made


def test_an_empty_book_has_no_prices() -> None:
    empty = Book()
    assert (empty.best_bid, empty.best_ask, empty.is_crossed) == (0, 0, False)
    assert empty.displayed("Buy", e12(1)) == 0
    assert empty.displayed("Sell", e12(1)) == 0


def test_a_snapshot_replaces_and_a_delta_changes() -> None:
    made = shown("100x1 99x2", "101x1")
    made.apply(book(1, "99x0 98x4", "101x5", seq=8))
    assert made.top("Buy", 5) == levels("100x1 98x4")
    assert made.top("Sell", 5) == levels("101x5")
    assert (made.seq, made.u) == (8, 8)
    made.apply(book(2, "90x1", "91x1", snapshot=True, depth=50))
    assert (made.top("Buy", 5), made.depth) == (levels("90x1"), 50)


def test_a_delta_does_not_change_the_depth() -> None:
    made = shown("100x1", "101x1", depth=2)
    made.apply(book(1, "99x1", depth=0))
    assert made.depth == 2


def test_the_best_price_survives_its_own_deletion_and_return() -> None:
    made = shown("100x1 99x1", "101x1 102x1")
    made.apply(book(1, "100x0 100x3", "101x0 101x3"))
    assert (made.best_bid, made.best_ask) == (e12(100), e12(101))
    made.apply(book(2, "100.5x1 100.5x0", "100.7x1 100.7x0"))
    assert (made.best_bid, made.best_ask) == (e12(100), e12(101))


def test_deleting_an_absent_level_changes_nothing() -> None:
    made = shown("100x1", "101x1")
    made.apply(book(1, "100.5x0", "100.6x0"))
    assert (made.top("Buy", 9), made.top("Sell", 9)) == (levels("100x1"), levels("101x1"))


@pytest.mark.parametrize(
    ("bids", "asks", "crossed"),
    [("100x1", "101x1", False), ("100x1", "100x1", False), ("100x1", "99x1", True),
     ("100x1", "", False), ("", "99x1", False)],
)  # fmt: skip
def test_only_a_bid_above_the_ask_is_crossed(bids: str, asks: str, crossed: bool) -> None:
    assert shown(bids, asks).is_crossed is crossed


@pytest.mark.parametrize(
    ("side", "price", "qty"),
    [("Buy", 100, 1), ("Buy", 99.5, 0), ("Buy", 100.5, 0), ("Buy", 98, None),
     ("Sell", 101, 1), ("Sell", 101.5, 0), ("Sell", 100.9, 0), ("Sell", 103, None)],
)  # fmt: skip
def test_beyond_a_full_depth_a_level_is_unknown(side: str, price: float, qty: int | None) -> None:
    displayed = shown("100x1 99x2", "101x1 102x2", depth=2).displayed(side, e12(price))
    assert displayed == (None if qty is None else e12(qty))


def test_a_side_that_is_not_full_shows_every_price() -> None:
    made = shown("100x1", "101x1", depth=2)
    assert made.displayed("Buy", e12(1)) == 0
    assert made.displayed("Sell", e12(1_000_000)) == 0


# --- against the naive book -----------------------------------------------------------------------

PRICES = st.integers(95, 105)
LEVELS = st.lists(st.tuples(PRICES, st.integers(0, 3)), max_size=6)


class NaiveSide:
    """Every level ever named, in a list; what holds is what was said last."""

    def __init__(self, sign: int) -> None:
        self.said: list[tuple[int, int]] = []
        self.sign = sign

    def levels(self) -> list[tuple[int, int]]:
        prices = {price for price, _ in self.said}
        last = {price: [q for p, q in self.said if p == price][-1] for price in prices}
        return sorted(
            ((p, q) for p, q in last.items() if q), key=lambda level: level[0] * self.sign
        )

    def displayed(self, price: int, depth: int) -> int | None:
        for level, qty in self.levels():
            if level == price:
                return qty
        full = depth and len(self.levels()) >= depth
        is_beyond = full and price * self.sign > self.levels()[-1][0] * self.sign
        return None if is_beyond else 0


@given(
    st.lists(st.tuples(st.booleans(), LEVELS, LEVELS), min_size=1, max_size=12),
    st.integers(0, 4),
)
def test_the_book_is_what_a_naive_one_says(
    updates: list[tuple[bool, list[tuple[int, int]], list[tuple[int, int]]]], depth: int
) -> None:
    made = Book()
    bids, asks = NaiveSide(-1), NaiveSide(1)
    for number, (snapshot, bid_levels, ask_levels) in enumerate(updates):
        is_snapshot = snapshot or not number
        if is_snapshot:
            bids, asks = NaiveSide(-1), NaiveSide(1)
        bids.said += bid_levels
        asks.said += ask_levels
        update = book(number, snapshot=is_snapshot, depth=depth)
        update.bids.extend(bid_levels)
        update.asks.extend(ask_levels)
        made.apply(update)
        assert made.top("Buy", 99) == bids.levels()
        assert made.top("Sell", 99) == asks.levels()
        assert made.best_bid == (bids.levels() or [(0, 0)])[0][0]
        assert made.best_ask == (asks.levels() or [(0, 0)])[0][0]
        for price in range(94, 107):
            assert made.displayed("Buy", price) == bids.displayed(price, depth)
            assert made.displayed("Sell", price) == asks.displayed(price, depth)
