"""The extension that keeps a side of a book against the one in Python."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core import levels, native

needs_extension = pytest.mark.skipif(
    not native.available(), reason="the extension was not built: no C compiler"
)
# Few prices, so that levels come, go and come back; some are beyond what 64 bits hold.
PRICES = st.sampled_from([*range(1, 9), 651_000 * 10**11, 2**63 - 1, 2**63, 10**25])
CHANGES = st.lists(st.tuples(PRICES, st.integers(0, 3) | st.just(10**25)), max_size=8)


@needs_extension
@given(st.lists(CHANGES, max_size=12), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_changes_leave_the_same_levels_and_the_same_best(batches, is_bid):
    quick, careful = {}, {}
    best = 0
    for changes in batches:
        found = native.apply_levels(quick, changes, best, is_bid)
        assert found == levels.change_levels(careful, changes, best, is_bid)
        assert [*quick.items()] == [*careful.items()]
        best = found
        assert best == (max(quick, default=0) if is_bid else min(quick, default=0))


@needs_extension
@pytest.mark.parametrize("changes", [[(1,)], [[1, 2]], [(1, 2, 3)], ((1, 2),), [("a", 1), (2, 2)]])
def test_what_is_no_level_is_an_error(changes):
    with pytest.raises(TypeError):
        native.apply_levels({}, changes, 0, True)


@needs_extension
@given(
    st.dictionaries(PRICES, st.integers(1, 3) | st.just(10**26)),
    st.dictionaries(PRICES, st.integers(1, 3) | st.just(10**25)),
    CHANGES,
    st.lists(PRICES, max_size=3),
)
@settings(max_examples=300, deadline=None)
def test_the_same_marks_are_lowered_and_the_same_are_left(marks, shown, changes, unseen):
    quick, careful = dict(marks), dict(marks)
    found = native.hold_marks(quick, shown, changes, unseen)
    assert found == levels.lower_marks(careful, shown, changes, unseen)
    assert [*quick.items()] == [*careful.items()]


@needs_extension
def test_marks_of_what_is_no_level_are_an_error():
    for wrong in ([(1,)], [[1, 2]], ((1, 2),), [(1, 2), ([], 1)]):
        with pytest.raises(TypeError):
            native.hold_marks({1: 1}, {1: 1}, wrong, [])
