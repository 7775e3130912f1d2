"""The sorted book view against a plain dict."""

from hypothesis import given
from hypothesis import strategies as st

from bot.core.events import BookUpdate
from bot.model.levels import BookSide, Levels

LEVELS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5)), max_size=12)


@given(st.booleans(), st.lists(LEVELS, max_size=8))
def test_a_side_is_a_sorted_dict(bids: bool, batches: list[list[tuple[int, int]]]) -> None:
    side = BookSide(bids=bids)
    plain: dict[int, int] = {}
    for batch in batches:
        side.update(batch, 0)
        plain.update(batch)
        plain = {price: qty for price, qty in plain.items() if qty}
        assert side.best(100) == sorted(plain.items(), reverse=bids)


def test_levels_beyond_the_depth_are_forgotten() -> None:
    side = BookSide(bids=True)
    side.update([(price, 1) for price in range(1, 8)], 3)
    assert side.best(9) == [(7, 1), (6, 1), (5, 1)]
    side.update([(7, 0)], 3)
    assert side.best(9) == [(6, 1), (5, 1)]


def update(*, snapshot: bool, bids: list[tuple[int, int]]) -> BookUpdate:
    return BookUpdate(0, 0, "linear:X", 50, 1, 1, snapshot, bids, [(100, 1)])


def test_deltas_of_an_unknown_book_are_ignored_until_a_snapshot() -> None:
    book = Levels()
    book.apply(update(snapshot=False, bids=[(5, 1)]))
    assert book.bids.best(9) == []
    book.apply(update(snapshot=True, bids=[(6, 1), (5, 1)]))
    book.apply(update(snapshot=False, bids=[(6, 0)]))
    assert book.bids.best(9) == [(5, 1)]
    book.apply(update(snapshot=True, bids=[(4, 2)]))
    assert book.bids.best(9) == [(4, 2)]
    book.forget()
    assert not book.known
