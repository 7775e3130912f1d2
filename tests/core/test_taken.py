"""What we took of the displayed book, level by level."""

from __future__ import annotations

import pytest

from bot.core.book import Book
from bot.core.taken import UNSEEN_MAX, Taken
from tests.builders import book, e12, levels


def shown(bids: str = "", asks: str = "", depth: int = 0) -> Book:
    made = Book()
    made.apply(book(0, bids, asks, snapshot=True, depth=depth))
    return made


def change(held: Book, taken: Taken, text: str) -> None:
    side = "bids" if taken._side == "Buy" else "asks"
    held.apply(book(1, **{side: text}))
    taken.after_delta(held, levels(text))


def test_a_mark_grows_with_every_take() -> None:
    taken = Taken("Sell")
    taken.add(e12(100), e12(1))
    taken.add(e12(100), e12(2))
    assert taken.marks == {e12(100): e12(3)}


def test_a_mark_shrinks_with_its_level_and_does_not_grow_with_it() -> None:
    held, taken = shown(asks="100x5"), Taken("Sell")
    taken.add(e12(100), e12(4))
    change(held, taken, "100x3")
    assert taken.marks == {e12(100): e12(3)}
    change(held, taken, "100x9 101x5")
    assert taken.marks == {e12(100): e12(3)}


def test_a_level_that_is_gone_is_forgotten() -> None:
    held, taken = shown(bids="100x5 99x5"), Taken("Buy")
    taken.add(e12(100), e12(4))
    change(held, taken, "100x0")
    assert taken.marks == {}


@pytest.mark.parametrize(
    ("side", "start", "leave", "back"),
    [
        ("Buy", "100x5 99x5", "101x5 99x0", "101x0 99x5"),
        ("Sell", "100x5 101x5", "99x5 101x0", "99x0 101x5"),
    ],
)
def test_a_level_that_leaves_the_view_keeps_its_mark_until_it_is_seen_again(
    side: str, start: str, leave: str, back: str
) -> None:
    key = "bids" if side == "Buy" else "asks"
    held = shown(**{key: start}, depth=2)
    taken = Taken(side)
    price = e12(99 if side == "Buy" else 101)
    taken.add(price, e12(4))
    change(held, taken, leave)
    assert taken.marks == {price: e12(4)}
    change(held, taken, back)
    assert taken.marks == {price: e12(4)}


@pytest.mark.parametrize(
    ("side", "start", "leave", "look"),
    [
        ("Buy", "100x5 99x5", "101x5 99x0", "101x0 98x5"),
        ("Sell", "100x5 101x5", "99x5 101x0", "99x0 102x5"),
    ],
)
def test_a_level_that_comes_into_view_empty_is_forgotten(
    side: str, start: str, leave: str, look: str
) -> None:
    key = "bids" if side == "Buy" else "asks"
    held = shown(**{key: start}, depth=2)
    taken = Taken(side)
    taken.add(e12(99 if side == "Buy" else 101), e12(4))
    change(held, taken, leave)
    change(held, taken, look)
    assert taken.marks == {}


def test_a_deletion_of_a_level_that_was_out_of_view_forgets_it_once() -> None:
    held, taken = shown(bids="100x5 99x5", depth=2), Taken("Buy")
    taken.add(e12(99), e12(4))
    change(held, taken, "101x5 99x0")
    change(held, taken, "101x0 98x1 99x0")
    assert taken.marks == {}
    change(held, taken, "98x2")
    assert taken.marks == {}


def test_a_level_that_is_gone_and_back_in_one_update_was_never_gone() -> None:
    held, taken = shown(asks="100x5"), Taken("Sell")
    taken.add(e12(100), e12(4))
    change(held, taken, "100x0 100x3")
    assert taken.marks == {e12(100): e12(3)}


def test_a_snapshot_is_held_against_every_mark() -> None:
    held, taken = shown(bids="100x5 99x5", depth=2), Taken("Buy")
    for price in (100, 99, 98):
        taken.add(e12(price), e12(4))
    held.apply(book(1, "100x3 98.5x1", snapshot=True, depth=2))
    taken.after_snapshot(held)
    assert taken.marks == {e12(100): e12(3), e12(98): e12(4)}


def test_marks_beyond_the_view_are_bounded_and_those_near_the_touch_stay() -> None:
    held, taken = shown(bids="100x5 99x5", depth=2), Taken("Buy")
    for i in range(10 * UNSEEN_MAX):
        price = e12(98 - i * 0.1)
        taken.add(price, e12(1))
        taken._leave_view(price)
        assert len(taken.marks) <= UNSEEN_MAX
    assert e12(98) in taken.marks
    assert taken._unseen == sorted(taken.marks)
    held.apply(book(1, "98x1 97x1", snapshot=True, depth=2))
    taken.after_snapshot(held)
    assert taken.marks[e12(98)] == e12(1)
