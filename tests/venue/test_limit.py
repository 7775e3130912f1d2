from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.venue.limit import RateLimit


class Clock:
    """Time that passes only when someone sleeps or a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.now_s += delay_s


@given(st.integers(1, 5), st.lists(st.floats(0, 20), max_size=40))
def test_no_window_ever_holds_more_than_its_share(most, pauses_s):
    clock = Clock()
    limit = RateLimit(most, 8.0, clock=clock, sleep=clock.sleep)
    admitted = []

    async def ask() -> None:
        for pause_s in pauses_s:
            clock.now_s += pause_s
            before_s = clock.now_s
            await limit.wait()
            recent = [stamp for stamp in admitted if stamp > before_s - 8.0]
            if len(recent) < most:
                assert clock.now_s == before_s  # nobody waits without need
            admitted.append(clock.now_s)

    asyncio.run(ask())
    for first, over in zip(admitted, admitted[most:], strict=False):
        assert over - first >= 8.0 * (1 - 1e-12)


@pytest.mark.parametrize(("most", "window_s"), [(0, 1.0), (1, 0.0)])
def test_a_limit_that_admits_nothing_is_an_error(most, window_s):
    with pytest.raises(ValueError, match="admits nothing"):
        RateLimit(most, window_s)
