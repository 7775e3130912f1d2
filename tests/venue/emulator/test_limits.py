"""The rolling limits and the ban, with time as a number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.venue.emulator.limits import AddressGuard, RollingLimits

CREATE = "/v5/order/create"


def test_ten_orders_a_second_pass_and_the_eleventh_waits_for_the_first_to_age():
    limits = RollingLimits()
    lefts = [limits.take("k", CREATE, "linear", 1000 + n).left for n in range(10)]
    assert lefts == list(range(9, -1, -1))
    refused = limits.take("k", CREATE, "linear", 1500)
    assert not refused.ok
    assert refused.headers() == {
        "X-Bapi-Limit": "10",
        "X-Bapi-Limit-Status": "0",
        "X-Bapi-Limit-Reset-Timestamp": "2000",
    }
    assert not limits.take("k", CREATE, "linear", 1999).ok
    assert limits.take("k", CREATE, "linear", 2000).ok


def test_the_reset_is_never_so_close_that_a_sleeping_client_finds_it_past():
    limits = RollingLimits()
    for _ in range(10):
        limits.take("k", CREATE, "linear", 1000)
    assert limits.take("k", CREATE, "linear", 1999).reset_ms == 2099


def test_keys_paths_and_categories_are_counted_apart():
    limits = RollingLimits()
    for _ in range(10):
        assert limits.take("k", CREATE, "linear", 0).ok
    assert not limits.take("k", CREATE, "linear", 0).ok
    assert limits.take("other", CREATE, "linear", 0).ok
    assert limits.take("k", "/v5/order/cancel", "linear", 0).ok
    assert limits.take("k", CREATE, "spot", 0).limit == 20
    assert limits.take("k", "/v5/position/list", "linear", 0).limit == 50
    assert limits.take("k", "/v5/account/fee-rate", "linear", 0).limit == 5


@given(st.lists(st.integers(0, 400), min_size=1, max_size=80))
def test_no_second_ever_sees_more_than_the_limit(gaps):
    limits = RollingLimits()
    now, passed = 0, []
    for gap in gaps:
        now += gap
        if limits.take("k", CREATE, "linear", now).ok:
            passed.append(now)
    for at in passed:
        assert sum(at - 1000 < other <= at for other in passed) <= 10


def test_six_hundred_requests_in_five_seconds_pass_and_one_more_bans_for_ten_minutes():
    guard = AddressGuard()
    assert all(guard.admits("a", n * 8) for n in range(600))
    assert not guard.admits("a", 4999)
    assert not guard.admits("a", 4999 + 599_999)
    assert guard.admits("b", 5000)
    assert guard.admits("a", 4999 + 600_000)


def test_a_request_every_ten_milliseconds_goes_on_for_ever():
    guard = AddressGuard()
    assert all(guard.admits("a", n * 10) for n in range(3000))


def test_a_pardon_lets_everybody_in():
    guard = AddressGuard()
    guard.ban("a", 0)
    assert not guard.admits("a", 1)
    assert guard.pardon() == 1
    assert guard.admits("a", 2)
