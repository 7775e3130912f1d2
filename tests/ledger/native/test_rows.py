"""The extension that writes facts against the writing in Python: same bytes, same values."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core import events
from bot.core.events import Amend, Cancel, Order, Signal
from bot.ledger import native
from bot.ledger.digest import FIELDS, LATER, decimal_fields, encode, plain, write, write_step
from tests.ledger.samples import FACTS
from tests.ledger.strategies import of
from tests.memory import kept_bytes

needs_extension = pytest.mark.skipif(
    not native.available(), reason="the extension was not built: no C compiler"
)
HEAD = ("run", 7, 9)


def shape_of(kind):
    decimals, later = decimal_fields(kind), LATER.get(kind, ())
    return native.Shape(kind.__name__, FIELDS[kind], decimals, later, plain, encode)


def agree(fact):
    """Both writings of a fact, behind bytes that are already there."""
    fast, slow = bytearray(b"before\n"), bytearray(b"before\n")
    quick, careful = shape_of(type(fact)).row(fact, HEAD, fast), write(fact, HEAD, slow)
    assert [*map(repr, quick)] == [*map(repr, careful)]
    assert fast == slow


@needs_extension
@pytest.mark.parametrize("kind", get_args(events.Fact), ids=lambda kind: kind.__name__)
def test_any_fact_is_written_as_python_writes_it(kind):
    @settings(max_examples=60, deadline=None)
    @given(of(kind))
    def check(fact):
        agree(fact)

    check()


@needs_extension
@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: type(fact).__name__)
def test_the_facts_of_a_run_are_written_as_python_writes_them(fact):
    agree(fact)


@needs_extension
@pytest.mark.parametrize(
    "text",
    ["0", "-0", "0.0", "-0.00", "10", "100", "1E+2", "1E-7", "0E-20", "1.50", "-1.5", "0.00000001",
     "99999999999999999999.000000000001", "-10", "1.0E+30"],
)  # fmt: skip
def test_a_decimal_is_written_in_the_same_one_way(text):
    agree(Order(1, 2, "s", "linear:X", "Buy", "Limit", "GTC", Decimal(text), Decimal(text)))
    agree(Amend(1, 2, "linear:X", None, Decimal(text)))


@needs_extension
@given(st.text(max_size=20), st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=100, deadline=None)
def test_text_and_floats_are_written_as_the_encoder_does(text, number):
    agree(Signal(1, text, "linear:X", number, text))
    agree(Cancel(-(2**63), 2**63 - 1, text))


@needs_extension
def test_what_cannot_be_written_leaves_no_half_a_line():
    class Odd:
        ts, order_id, symbol = 1, 2, object()

    lines = bytearray(b"whole\n")
    with pytest.raises(TypeError):
        shape_of(Cancel).row(Odd(), HEAD, lines)
    with pytest.raises(AttributeError):
        shape_of(Order).row(Odd(), HEAD, lines)
    assert bytes(lines) == b"whole\n"


@needs_extension
def test_writing_keeps_no_memory():
    shape, fact, lines = shape_of(Cancel), Cancel(3, 1, "linear:X"), bytearray()

    def many():
        for _ in range(2000):
            shape.row(fact, HEAD, lines)
            lines.clear()

    assert kept_bytes(many) < 2_000


ALL_SHAPES = {kind: shape_of(kind) for kind in get_args(events.Fact)} if native.available() else {}
NAMED = frozenset((Cancel, events.Accepted))


@needs_extension
@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(FACTS), max_size=4).map(tuple), max_size=4),
    st.integers(-1, 2**62),
)
def test_the_facts_of_steps_become_the_same_rows(steps, first):
    quick, careful, fast, slow = {}, {}, bytearray(), bytearray()
    for position, facts in enumerate(steps):
        place = ("run", first, position)
        native.take_step(ALL_SHAPES, NAMED, facts, place, fast, quick)
        write_step(NAMED, facts, place, slow, careful)
    assert repr(quick) == repr(careful)
    assert fast == slow


@needs_extension
def test_a_number_met_again_among_many_is_written_the_same():
    numbers = [Decimal(n) / 1000 for n in range(-600, 600)] + [Decimal("1E+3"), Decimal("0E-9")]
    for number in numbers * 2 + numbers[::-1]:
        agree(Amend(1, 2, "linear:X", number, number))


@needs_extension
def test_what_is_no_fact_of_a_step_is_an_error():
    place, lines, rows = ("run", 1, 2), bytearray(), {}
    with pytest.raises(TypeError, match="is no kind of fact"):
        native.take_step(ALL_SHAPES, NAMED, (object(),), place, lines, rows)
    with pytest.raises(TypeError, match="take_step"):
        native.take_step(ALL_SHAPES, NAMED, [], place, lines, rows)
    with pytest.raises(TypeError, match="take_step"):
        native.take_step(ALL_SHAPES, NAMED, (), place[:2], lines, rows)
    with pytest.raises(TypeError, match="rows are in lists"):
        native.take_step(ALL_SHAPES, NAMED, (FACTS[0],), place, lines, {type(FACTS[0]): ()})
    assert not rows


@needs_extension
def test_rows_of_steps_keep_no_memory():
    lines, place = bytearray(), ("run", 2**40, 3)
    facts = (*FACTS, Amend(1, 2, "linear:X", Decimal("1.25"), None))

    def many():
        for _ in range(1000):
            native.take_step(ALL_SHAPES, NAMED, facts, place, lines, {})
            lines.clear()

    assert (
        kept_bytes(many) < 10_000
    )  # the texts of the numbers written last; an object a step is 28,000
