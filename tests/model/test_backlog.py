"""Folding keeps books right and counts the rest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.core.events import BookUpdate, Event, FeedDown, Trade
from bot.model.backlog import Backlog
from bot.model.levels import Levels
from tests.model.builders import SYMBOL, book_stream, candle, snapshot


def fold(events: list[Event]) -> Backlog:
    backlog = Backlog()
    for position, event in enumerate(events):
        backlog.fold(event, SYMBOL, position)
    return backlog


def book_after(events: list[Event]) -> tuple[bool, object, object]:
    book = Levels()
    book.apply(snapshot(seed=99))
    for event in events:
        match event:
            case BookUpdate():
                book.apply(event)
            case FeedDown():
                book.forget()
            case _:
                pass
    return book.known, book.bids.best(99), book.asks.best(99)


@given(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=30))
def test_a_folded_stream_leaves_the_same_book(seed: int, choices: list[int]) -> None:
    stream = iter(book_stream(60, seed=seed)[1:])
    events: list[Event] = []
    for choice in choices:
        if choice == 0:
            events.append(FeedDown(0, SYMBOL, "test"))
        elif choice == 1:
            events.append(snapshot(seed=choice))
        else:
            events.append(next(stream))
    folded = fold(events)
    kept = [event for event, _ in folded.events()]
    assert book_after(kept) == book_after(events)
    assert len(kept) <= 2
    assert folded.lost.total() == len(events) - len(kept)


def test_events_come_back_in_order_with_the_newest_position() -> None:
    deltas = [event for event in book_stream(20) if isinstance(event, BookUpdate)][1:4]
    backlog = fold([deltas[0], candle(0), deltas[1], candle(1), deltas[2]])
    (bar, bar_position), (book, book_position) = backlog.events()
    assert (bar, bar_position) == (candle(1), 3)
    assert isinstance(book, BookUpdate)
    assert (book.ts, book.u, book_position) == (deltas[2].ts, deltas[2].u, 4)


def test_trades_are_counted_and_dropped() -> None:
    trade = Trade(1, 1, SYMBOL, 1, "Buy", 1, 1)
    backlog = fold([trade, trade])
    assert backlog.events() == []
    assert backlog.lost == {(Trade, SYMBOL): 2}
