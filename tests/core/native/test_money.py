"""The extension's rounded products against the arithmetic in Python, for integers of any size."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core import native
from bot.core.instrument import exact_value
from bot.core.margin import exact_initial

needs_extension = pytest.mark.skipif(
    not native.available(), reason="the extension was not built: no C compiler"
)
ROUND = st.builds(lambda n, e: n * 10**e, st.integers(-50, 50), st.integers(0, 30))
"""Many of their products lie halfway between two amounts."""
NEAR_64_BITS = st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63)])
NUMBERS = st.integers(-(2**70), 2**70) | st.integers(0, 10**18) | ROUND | NEAR_64_BITS


@needs_extension
@given(NUMBERS, NUMBERS)
@settings(max_examples=500, deadline=None)
def test_any_price_and_quantity_have_the_same_value(price, qty):
    assert native.value_of(price, qty) == exact_value(price, qty)


@needs_extension
@given(NUMBERS, NUMBERS.filter(lambda leverage: leverage > 0))
@settings(max_examples=500, deadline=None)
def test_any_value_and_leverage_have_the_same_margin(value, leverage):
    assert native.initial(value, leverage) == exact_initial(value, leverage)


@needs_extension
def test_halves_go_to_the_even_neighbour():
    half = 5 * 10**15
    found = [native.value_of(times, half) for times in range(8)]
    assert found == [0, 0, 1, 2, 2, 2, 3, 4]


@needs_extension
@pytest.mark.parametrize("args", [(1,), (1, 2, 3), (1.0, 2), (1, "2")])
def test_what_is_no_integer_is_an_error(args):
    with pytest.raises(TypeError):
        native.value_of(*args)
    with pytest.raises(TypeError):
        native.initial(*args)


@needs_extension
def test_no_leverage_is_an_error():
    with pytest.raises(ZeroDivisionError):
        native.initial(1, 0)
