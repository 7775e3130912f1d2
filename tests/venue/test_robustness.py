"""The client side under every fault alone and under mixes: right, or marked down, and back soon."""

from __future__ import annotations

import pytest

from bot.venue.emulator.control import MIXED
from tests.venue.storm import LASTS_S, SYMBOLS, Storm, storm
from tests.virtual_time import run_virtually

UNSEEN = {"gap"}
"""Faults whose loss of a print nobody can see: prints carry no number without gaps."""


def check(weather: Storm, names: set[str]) -> None:
    believer = weather.believer
    assert weather.venue.hub.counts.faults >= 1
    assert not weather.loop_errors
    assert not any(stream.counters.faults for stream in believer.streams)
    if not names & UNSEEN:
        for symbol in SYMBOLS:
            assert believer.unexplained_trades(symbol) == []
    assert weather.late_recoveries() == []
    # Bounded: what is remembered does not grow with what goes wrong.
    assert weather.most_waiting < 1_000
    assert len(believer.codec.problems) <= 100
    assert sum(len(topics) for topics in believer.codec._topics.values()) <= 4


async def weather_it(seed: int, names: list[str], rate: float, events: int) -> None:
    async with storm(seed) as weather:
        believer = weather.believer
        weather.cause(fault="mix", seed=seed, rate=rate, only=names, seconds=LASTS_S)
        goal = believer.events + events
        await weather.until(lambda: believer.events >= goal, 10.0 * events)
        await weather.calm()
        check(weather, set(names))


def one_fault(fault: str, events: int) -> None:
    rate = 0.02 if MIXED[fault] >= 0.3 else 0.01
    run_virtually(weather_it(5, [fault], rate, events))


def a_mix(seed: int, events: int) -> None:
    """Odd seeds mix every fault; even ones leave out what loses prints unseen, and check prints.

    A silence while only the book's frames are held back loses prints, too, and no update.
    """
    names = sorted(MIXED if seed % 2 else set(MIXED) - UNSEEN - {"delay"})
    run_virtually(weather_it(seed, names, 0.02, events))


@pytest.mark.parametrize("fault", sorted(MIXED))
def test_the_book_is_right_or_marked_down_under_one_fault(fault):
    one_fault(fault, 600)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_book_is_right_or_marked_down_under_a_mix(seed):
    a_mix(seed, 2000)


@pytest.mark.nightly
@pytest.mark.parametrize("fault", sorted(MIXED))
def test_ten_thousand_events_under_one_fault(fault):
    one_fault(fault, 10_000)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 21))
def test_ten_thousand_events_under_a_mix(seed):
    a_mix(seed, 10_000)


async def _a_wrong_book() -> None:
    async with storm() as weather:
        believer = weather.believer
        levels = believer.market.listings[SYMBOLS[0]].book.bids
        wrong = min(levels) - 10**12
        levels[wrong] = 1
        with pytest.raises(AssertionError, match="bids"):
            believer.compare(SYMBOLS[0])
        del levels[wrong]
        believer.compare(SYMBOLS[0])


def test_a_wrong_book_does_not_pass_unseen():
    """The check itself: a level that the venue never had is found."""
    run_virtually(_a_wrong_book())


async def _a_late_book() -> None:
    async with storm() as weather:
        (stream, _) = weather.believer.streams
        renew = stream.resubscribe
        stream.resubscribe = lambda topic: weather._loop.call_later(2.5, renew, topic)
        weather.cause(fault="gap", topic="linear:orderbook.50.BTCUSDT")
        await weather.until(lambda: not weather.believer.is_live(), 5.0)
        await weather.until(weather.believer.is_live, 5.0)
        ((down, took_s),) = weather.late_recoveries()
        assert down.symbol == SYMBOLS[0]
        assert 2.5 < took_s < 2.6


def test_a_book_that_is_late_does_not_pass_unseen():
    """The check itself: a fresh snapshot asked for 2.5 s after the gap is found."""
    run_virtually(_a_late_book())
