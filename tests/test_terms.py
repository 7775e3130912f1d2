"""The venue's terms beside a run: asked for at the start and on, remembered, never an end."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from bot.core.events import ClockOffset, Fees, FundingRate, Instrument, RiskTier
from bot.core.market import Market
from bot.inbox import Inbox
from bot.ledger.instruments import kept_rules
from bot.ledger.runs import start_run
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from bot.missed_funding import GRACE_NS, MissedFunding
from bot.terms import CLOCK_EVERY_S, RULES_EVERY_S, RulesUnknown, Terms
from bot.venue.address import VenueUnreachable
from bot.venue.rest import VenueRefused
from tests.builders import LINEAR, SPOT, rules

H_NS = 3_600 * 10**9
T0 = 1_800_000_000 * 10**9 // (8 * H_NS) * (8 * H_NS)


class Venue:
    """Answers as a REST client does, until it is away."""

    def __init__(self, has_key: bool = False) -> None:
        self.has_key = has_key
        self.error: Exception | None = None
        self.tick = "0.1"
        self.asked: list[str] = []
        self.settled: list[FundingRate] = []

    def _answer(self, what: str) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    async def instruments(self, symbols):
        self._answer("rules")
        return [replace(rules(symbol), tick_size=Decimal(self.tick)) for symbol in symbols]

    async def clock_offset(self):
        self._answer("clock")
        return ClockOffset(0, 5, round_trip_ns=9)

    async def fee_rates(self, symbols):
        self._answer("fees")
        return [Fees(0, "linear", Decimal(0), Decimal("0.0001"), 0, symbols[0])]

    async def funding_between(self, symbol, start_ts, end_ts):
        self._answer(f"funding {start_ts} {end_ts}")
        return [one for one in self.settled if start_ts <= one.funding_ts < end_ts]

    async def mark_at(self, symbol, ts):
        return Decimal(100)


class Times:
    """A sleep that ends at once and moves the clock on; ``most`` of them."""

    def __init__(self, most: int = 0) -> None:
        self.now_s = 0.0
        self.left = most

    async def sleep(self, delay_s: float) -> None:
        if not self.left:
            raise TimesAreOver
        self.left -= 1
        self.now_s += delay_s


class TimesAreOver(Exception):
    """The test has seen enough."""


def terms(venue: Venue, times: Times | None = None, **more) -> tuple[Terms, Inbox]:
    times, inbox = times or Times(), Inbox(10_000)
    made = Terms(venue, inbox, (LINEAR,), sleep=times.sleep, clock=lambda: times.now_s, **more)
    return made, inbox


async def queued(inbox: Inbox) -> list:
    return await inbox.take(len(inbox)) if len(inbox) else []


async def test_a_run_begins_with_the_rules_the_clock_and_the_accounts_rates():
    made, inbox = terms(Venue(has_key=True))
    await made.open()
    found = await queued(inbox)
    assert [type(each) for each in found] == [Instrument, ClockOffset, Fees]
    assert found[1].round_trip_ns == 9
    assert [each.ts for each in found] == sorted(each.ts for each in found)
    assert found[0].ts > 0, "stamped when it is queued"


async def test_rules_come_every_day_and_the_clock_every_minute():
    venue, times = Venue(), Times(int(RULES_EVERY_S / CLOCK_EVERY_S) * 2 + 5)
    made, _ = terms(venue, times)
    await made.open()
    with pytest.raises(TimesAreOver):
        await made.keep()
    assert venue.asked.count("rules") == 3
    assert venue.asked.count("clock") == 1 + times.now_s / CLOCK_EVERY_S


async def test_a_venue_that_is_away_for_a_while_ends_nothing():
    venue, times = Venue(), Times(3)
    made, inbox = terms(venue, times)
    await made.open()
    venue.error = VenueUnreachable("http://x", "nothing there")
    with pytest.raises(TimesAreOver):
        await made.keep()
    assert venue.asked.count("clock") == 4
    assert len(await queued(inbox)) == 2


# --- without the venue ---------------------------------------------------------------------------


async def test_rules_of_an_earlier_run_open_a_run_and_are_asked_for_every_minute():
    venue, times = Venue(), Times(5)
    made, inbox = terms(venue, times)
    venue.error = VenueUnreachable("http://x", "nothing there")
    kept = replace(rules(LINEAR), ts=inbox.now() - 2 * H_NS)
    with capture_logs() as logs:
        await made.open([kept])
    (found,) = await queued(inbox)
    assert replace(found, ts=kept.ts) == kept
    (line,) = [each for each in logs if "earlier run" in each["event"]]
    assert line["age_h"] == 2.0
    with pytest.raises(TimesAreOver):
        await made.keep()
    assert venue.asked.count("rules") == 1 + 5


@pytest.mark.parametrize(
    ("kept", "error"),
    [
        ([], VenueUnreachable("http://x", "nothing there")),
        ([rules(SPOT)], VenueUnreachable("http://x", "nothing there")),
    ],
)
async def test_without_kept_rules_of_every_symbol_no_run_begins_and_it_says_of_which(kept, error):
    venue = Venue()
    made, _ = terms(venue)
    venue.error = error
    with pytest.raises(RulesUnknown) as caught:
        await made.open(kept)
    assert str(caught.value) == (
        "no rules of linear:BTCUSDT are kept from an earlier run, and "
        "http://x cannot be reached: nothing there."
    )


async def test_kept_rules_do_not_list_a_symbol_that_the_venue_does_not():
    venue = Venue()
    made, _ = terms(venue)
    venue.error = VenueRefused("http://x", 0, "linear:BTCUSDT not listed")
    with pytest.raises(VenueRefused):
        await made.open([rules(LINEAR)])


async def test_the_ledger_keeps_the_newest_rules_of_a_symbol_over_all_runs(tmp_path):
    tier = RiskTier(Decimal(500), Decimal("0.005"), Decimal("0.01"), Decimal("1.5"))
    old = replace(rules(LINEAR), ts=5, exchange_ts=5, tick_size=Decimal("0.5"))
    new = replace(rules(LINEAR), ts=9, exchange_ts=9, tiers=(tier,), price_limit_x=Decimal("0.01"))
    ledger = await open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    try:
        for run, found in (("a", new), ("b", old)):
            await start_run(ledger, run, mode="paper", instance="i", started_ts=1, config={},
                            code_version="x")  # fmt: skip
            writer = LedgerWriter(ledger, run)
            writer.add(0, found, ())
            await writer.commit(None)
        assert await kept_rules(ledger, (LINEAR, SPOT)) == [new]
    finally:
        await ledger.dispose()


# --- missed funding ------------------------------------------------------------------------------


def market(next_ns: int) -> Market:
    made = Market()
    made.apply(replace(rules(LINEAR), funding_interval_min=480))
    made.listing(LINEAR).next_funding_ns = next_ns
    return made


def settled(count: int) -> list[FundingRate]:
    stamps = [T0 + n * 8 * H_NS for n in range(count)]
    return [FundingRate(0, ts, LINEAR, Decimal("0.0001"), ts) for ts in stamps]


async def test_what_the_stream_settles_is_asked_for_once_to_stand_beside_what_was_paid():
    known, venue = market(T0), Venue()
    venue.settled = settled(5)
    missed = MissedFunding(known)
    for n in range(5):
        due_ns = T0 + n * 8 * H_NS
        assert await missed.read(venue, due_ns - 2 * GRACE_NS) == []
        known.listing(LINEAR).next_funding_ns = due_ns + 8 * H_NS
        (found,) = await missed.read(venue, due_ns + 2 * GRACE_NS)
        assert (found.funding_ts, found.mark) == (due_ns, Decimal(100))
        assert await missed.read(venue, due_ns + 3 * GRACE_NS) == []
    assert len(venue.asked) == 5


async def test_settlements_of_an_outage_are_told_once_each_at_their_mark():
    known, venue = market(T0), Venue()
    missed = MissedFunding(known)
    assert await missed.read(venue, T0 - H_NS) == []
    venue.settled = settled(3)
    found = await missed.read(venue, T0 + 20 * H_NS)
    assert [one.funding_ts for one in found] == [T0, T0 + 8 * H_NS, T0 + 16 * H_NS]
    assert {one.mark for one in found} == {Decimal(100)}
    known.listing(LINEAR).next_funding_ns = T0 + 24 * H_NS
    assert await missed.read(venue, T0 + 21 * H_NS) == []
    assert len(venue.asked) == 1


async def test_a_settlement_between_two_tickers_is_found_although_the_stream_is_back():
    known, venue = market(T0), Venue()
    missed = MissedFunding(known)
    await missed.read(venue, T0 - H_NS)
    known.listing(LINEAR).next_funding_ns = T0 + 24 * H_NS
    venue.settled = settled(3)
    assert len(await missed.read(venue, T0 + 20 * H_NS)) == 3


async def test_a_history_that_is_late_is_asked_again():
    venue = Venue()
    missed = MissedFunding(market(T0))
    await missed.read(venue, T0 - H_NS)
    assert await missed.read(venue, T0 + 2 * GRACE_NS) == []
    venue.settled = settled(1)
    assert len(await missed.read(venue, T0 + 3 * GRACE_NS)) == 1


async def test_a_symbol_without_funding_is_never_asked_for():
    venue, known = Venue(), Market()
    known.apply(rules(SPOT))
    assert await MissedFunding(known).read(venue, T0) == []
    assert venue.asked == []
