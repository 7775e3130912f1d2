"""Exact numbers, and a venue's rules."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core import instrument
from bot.core.instrument import (
    E12_OF_TEXT,
    NumberError,
    Rules,
    amount,
    div_half_even,
    fee_of,
    parse_e12,
    to_decimal,
    to_e8,
    to_e12,
    value_of,
)
from tests.builders import LINEAR, SPOT, Paper, e12, rules

E12S = st.integers(-(10**24), 10**24)


@given(E12S)
def test_every_e12_goes_to_a_decimal_and_back(value: int) -> None:
    number = to_decimal(value)
    assert Fraction(number) == Fraction(value, 10**12)
    assert to_e12(number) == value
    assert str(number) == str(number.normalize()) or "E+" in str(number.normalize())


@given(st.integers(0, 10**24))
def test_text_is_parsed_as_written(value: int) -> None:
    text = f"{to_decimal(value):f}"
    assert parse_e12(text) == value
    assert E12_OF_TEXT[text] == value
    assert parse_e12(text + ("0" if "." in text else ".000")) == value


@pytest.mark.parametrize(
    "text",
    ["", ".5", "-1", "+1", "1e3", "1,5", "1.2.3", " 1", "1_000", "٣", "nan", "0.0000000000001",
     "1" * 41, "1." + "0" * 11 + "01"],
)  # fmt: skip
def test_what_is_not_a_plain_number_is_refused(text: str) -> None:
    with pytest.raises(NumberError):
        parse_e12(text)
    with pytest.raises(NumberError):
        E12_OF_TEXT[text]


def test_trailing_zeros_beyond_twelve_decimals_are_nothing() -> None:
    assert parse_e12("1.00000000000100") == 10**12 + 1
    assert parse_e12("5.") == 5 * 10**12


@pytest.mark.parametrize("text", ["0.0000000000001", "12345678901234567.1234567890123"])
def test_more_decimals_than_can_be_kept_are_refused(text: str) -> None:
    with pytest.raises(NumberError, match="more than 12 decimals"):
        to_e12(Decimal(text))


def test_the_memory_of_texts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = instrument._ParsedNumbers()
    monkeypatch.setattr(instrument._ParsedNumbers, "_MAX", 100)
    for value in range(1000):
        assert numbers[str(value)] == value * 10**12
        assert len(numbers) <= 100


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**20))
def test_division_rounds_half_to_even(numerator: int, denominator: int) -> None:
    assert div_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@given(st.integers(0, 10**19), E12S, st.integers(-(10**10), 10**10))
def test_amounts_are_rounded_once(price: int, qty: int, rate: int) -> None:
    exact = Fraction(price, 10**12) * Fraction(qty, 10**12)
    assert value_of(price, qty) == round(exact * 10**8)
    assert fee_of(price, qty, rate) == round(exact * Fraction(rate, 10**12) * 10**8)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=0, max_value=10**22))
def test_a_deposit_is_rounded_half_even_to_1e_8(number: Decimal) -> None:
    assert to_e8(number) == round(Fraction(number) * 10**8)


def test_an_amount_is_written_plainly() -> None:
    assert [f"{amount(value):f}" for value in (0, 1, -150_000_000, 100 * 10**8)] == [
        "0", "0.00000001", "-1.5", "100",
    ]  # fmt: skip


# --- the grid -------------------------------------------------------------------------------------

TICKS = st.sampled_from(["0.1", "0.01", "0.5", "0.0001", "1", "0.00005"])


@given(st.integers(1, 10**7), TICKS, st.floats(-0.49, 0.49))
def test_a_price_goes_to_the_nearest_tick(count: int, tick: str, off: float) -> None:
    made = Rules(rules(tick_size=tick))
    number = float(Decimal(tick)) * (count + off)
    if abs(off) > 0.48:
        assert to_e12(made.price(number)) % e12(tick) == 0
    else:
        assert made.price(number) == count * Decimal(tick)


@given(st.integers(0, 10**6), st.floats(0, 0.99))
def test_a_quantity_goes_down_to_the_step(count: int, more: float) -> None:
    made = Rules(rules(qty_step="0.001"))
    assert made.qty((count + more) * 0.001) == count * Decimal("0.001")


@pytest.mark.parametrize(("number", "qty"), [(0.1 + 0.2, "0.3"), (0.7 - 0.4, "0.3"), (0.29, "0.2"),
                                             (0.0, "0"), (0.09, "0")])  # fmt: skip
def test_the_dust_of_floats_costs_no_step(number: float, qty: str) -> None:
    assert Rules(rules(qty_step="0.1")).qty(number) == Decimal(qty)


# --- what the venue refuses -----------------------------------------------------------------------

LIMITS = {"min_qty": 2, "max_limit_qty": 100, "max_market_qty": 50, "min_notional": 300}


@pytest.mark.parametrize(
    ("qty", "price", "linear", "spot"),
    [
        (3, "100.0", None, None),
        (0, "100.0", "10001", "170136"),
        (-3, "100.0", "10001", "170136"),
        ("3.5", "100.0", "10001", "170136"),
        (1, "100.0", "10001", "170136"),
        (101, "100.0", "10001", "170135"),
        (100, "100.0", None, None),
        (51, None, "10001", "170135"),
        (50, None, None, None),
        (3, "100.05", "10001", "170134"),
        (3, "0", "10001", "170134"),
        (3, "-0.1", "10001", "170134"),
        (3, "99.9", "110094", "170140"),
        (2, None, "110094", "170140"),
    ],
)
def test_an_order_off_the_rules_has_bybits_code(
    qty: object, price: str | None, linear: str | None, spot: str | None
) -> None:
    for symbol, code in ((LINEAR, linear), (SPOT, spot)):
        order = Paper(symbol=symbol, start=None).order(0, "Buy", qty, price)
        assert Rules(rules(symbol, **LIMITS)).refuse(order, e12(100)) == code


def test_reducing_orders_and_unpriced_ones_have_no_minimum_notional() -> None:
    paper = Paper(start=None)
    made = Rules(rules(**LIMITS))
    assert made.refuse(paper.order(0, "Buy", 2, "0.1", reduce_only=True), e12(100)) is None
    assert made.refuse(paper.order(0, "Buy", 2), 0) is None


@pytest.mark.parametrize("name", ["tick_size", "qty_step"])
def test_a_grid_must_be_positive(name: str) -> None:
    with pytest.raises(NumberError, match=LINEAR):
        Rules(rules(**{name: 0}))
