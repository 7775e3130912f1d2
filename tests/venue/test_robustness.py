"""The client side under every fault alone and under mixes: right, or marked down, and back soon."""

from __future__ import annotations

from statistics import median

import pytest

from bot.venue.emulator.control import MIXED
from tests.venue.storm import SYMBOLS, Storm, storm

LASTS_S = 0.2
"""How long faults that last do so."""
UNSEEN = {"gap"}
"""Faults whose loss of a print nobody can see: prints carry no number without gaps."""


async def weather_it(weather: Storm, events: int, limit_s: float) -> None:
    believer = weather.believer
    goal = believer.events + events
    await weather.until(lambda: believer.events >= goal, limit_s)
    # What lasts ends first; the back-off itself takes no time here (``Naps``), the rest has 2 s.
    await weather.calm(LASTS_S + 2.0)


def check(weather: Storm, names: set[str]) -> None:
    believer = weather.believer
    assert not weather.loop_errors
    assert not any(stream.counters.faults for stream in believer.streams)
    if not names & UNSEEN:
        for symbol in SYMBOLS:
            assert believer.unexplained_trades(symbol) == []
    # Bounded: what the codec remembers does not grow with what goes wrong.
    assert len(believer.codec.problems) <= 100
    assert sum(len(topics) for topics in believer.codec._topics.values()) <= 4
    if believer.recoveries_s:
        # Struck again on its way back, a book may take longer, but never for long.
        assert median(believer.recoveries_s) < 1.0
        assert max(believer.recoveries_s) < 10.0


async def one_fault(fault: str, events: int, limit_s: float) -> None:
    rate = 0.02 if MIXED[fault] >= 0.3 else 0.01
    async with storm() as weather:
        weather.cause(fault="mix", seed=5, rate=rate, only=[fault], seconds=LASTS_S)
        await weather_it(weather, events, limit_s)
        assert weather.venue.hub.counts.faults >= 1
        check(weather, {fault})


async def a_mix(seed: int, events: int, limit_s: float) -> None:
    """Odd seeds mix every fault; even ones leave out what loses prints unseen, and check prints."""
    names = sorted(MIXED if seed % 2 else set(MIXED) - UNSEEN)
    async with storm(seed) as weather:
        weather.cause(fault="mix", seed=seed, rate=0.02, seconds=LASTS_S, only=names)
        await weather_it(weather, events, limit_s)
        assert weather.venue.hub.counts.faults >= 1
        check(weather, set(names))


@pytest.mark.parametrize("fault", sorted(MIXED))
async def test_the_book_is_right_or_marked_down_under_one_fault(fault):
    await one_fault(fault, 600, 30.0)


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_book_is_right_or_marked_down_under_a_mix(seed):
    await a_mix(seed, 2000, 60.0)


@pytest.mark.nightly
@pytest.mark.parametrize("fault", sorted(MIXED))
async def test_ten_thousand_events_under_one_fault(fault):
    await one_fault(fault, 10_000, 250.0)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 7))
async def test_ten_thousand_events_under_a_mix(seed):
    await a_mix(seed, 10_000, 250.0)


async def test_a_wrong_book_does_not_pass_unseen():
    """The check itself: a level that the venue never had is found."""
    async with storm() as weather:
        believer = weather.believer
        levels = believer.market.listings[SYMBOLS[0]].book.bids
        wrong = min(levels) - 10**12
        levels[wrong] = 1
        with pytest.raises(AssertionError, match="bids"):
            believer.compare(SYMBOLS[0])
        del levels[wrong]
        believer.compare(SYMBOLS[0])
