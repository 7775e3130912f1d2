"""The venue's terms, read through REST into the one queue: clock, rules, fee rates, funding.

A run and a recording begin with them and keep them current beside themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import structlog
from msgspec.structs import replace

from bot.core.errors import PlainError
from bot.core.events import FundingRate, Instrument
from bot.inbox import Inbox
from bot.venue.address import VenueUnreachable
from bot.venue.answers import MalformedAnswer
from bot.venue.rest import Rest, VenueRefused

log = structlog.get_logger()

CLOCK_EVERY_S = 60.0
RULES_EVERY_S = 86_400.0
OLD_RULES_EVERY_S = 60.0
"""How often rules that are only remembered are asked for again."""
NO_ANSWER = (VenueUnreachable, VenueRefused, MalformedAnswer)
"""What the venue's REST may do instead of answering."""
_NOT_LISTED = 0

T = TypeVar("T")


class RulesUnknown(PlainError):
    """The venue's REST does not answer, and no earlier run kept the rules of a symbol."""


class Terms:
    """What the venue says of ``symbols``. ``funding`` reads settlements that were missed."""

    def __init__(
        self,
        rest: Rest,
        inbox: Inbox,
        symbols: Sequence[str],
        *,
        funding: Callable[[Rest, int], Awaitable[list[FundingRate]]] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rest = rest
        self._inbox = inbox
        self._symbols = tuple(symbols)
        self._funding = funding
        self._sleep = sleep
        self._clock = clock
        self._rules: dict[str, Instrument] = {}
        self._rules_due_s = clock()

    async def open(self, kept: Sequence[Instrument] = ()) -> None:
        """Queue what must be known before the first frame.

        Where REST does not answer, the rules are those ``kept`` from earlier runs, if there are
        any for every symbol. Raises RulesUnknown, or VenueRefused for a symbol that is not listed.
        """
        try:
            await self.rules()
        except NO_ANSWER as error:
            self._remember(kept, error)
        await self._clock_and_funding()
        await answered(self._fee_rates(), "fee rates")

    async def keep(self) -> None:
        """The clock and missed settlements every minute, the rules and fee rates every day."""
        while True:
            await self._sleep(CLOCK_EVERY_S)
            await self._clock_and_funding()
            if self._clock() >= self._rules_due_s:
                await answered(self.rules(), "rules")
                await answered(self._fee_rates(), "fee rates")

    async def _clock_and_funding(self) -> None:
        await answered(self._measure_clock(), "clock")
        await answered(self._missed_funding(), "funding history")

    async def rules(self) -> None:
        """Read the rules and queue them. Raises VenueUnreachable, VenueRefused, MalformedAnswer."""
        self._rules_due_s = self._clock() + OLD_RULES_EVERY_S
        for rules in await self._rest.instruments(self._symbols):
            before = self._rules.get(rules.symbol)
            if before is not None and _timeless(before) != _timeless(rules):
                log.info("the venue changed its rules", symbol=rules.symbol)
            self._rules[rules.symbol] = rules
            self._put(rules)
        self._rules_due_s = self._clock() + RULES_EVERY_S

    def _remember(self, kept: Sequence[Instrument], error: Exception) -> None:
        """Queue the rules of earlier runs. Raises as ``open``."""
        if isinstance(error, VenueRefused) and error.code == _NOT_LISTED:
            raise error
        found = {rules.symbol: rules for rules in kept}
        missing = [symbol for symbol in self._symbols if symbol not in found]
        if missing:
            names = ", ".join(missing)
            raise RulesUnknown(
                f"no rules of {names} are kept from an earlier run, and {error}"
            ) from error
        oldest_ns = min(found[symbol].ts for symbol in self._symbols)
        log.warning(
            "the venue's rules are those of an earlier run; they are asked for every minute",
            age_h=round((self._inbox.now() - oldest_ns) / 3.6e12, 1),
            cause=str(error),
        )
        for symbol in self._symbols:
            self._rules[symbol] = found[symbol]
            self._put(found[symbol])

    async def _measure_clock(self) -> None:
        self._put(await self._rest.clock_offset())

    async def _fee_rates(self) -> None:
        if self._rest.has_key:
            for rates in await self._rest.fee_rates(self._symbols):
                self._put(rates)

    async def _missed_funding(self) -> None:
        if self._funding is None:
            return
        for rate in await self._funding(self._rest, self._inbox.now()):
            log.info(
                "funding settled, as the venue's history has it", symbol=rate.symbol,
                funding_ts=rate.funding_ts, rate=str(rate.rate),
            )  # fmt: skip
            self._put(rate)

    def _put(self, event: Any) -> None:
        """Stamped when it is queued: what came in since the answer goes before it."""
        self._inbox.put(replace(event, ts=self._inbox.now()))


async def answered(reading: Awaitable[T], what: str) -> T | None:
    """What was read, or None and a line in the log where the venue's REST did not answer."""
    try:
        return await reading
    except NO_ANSWER as error:
        log.warning("the venue's terms were not read", what=what, error=str(error))
        return None


def _timeless(rules: Instrument) -> Instrument:
    return replace(rules, ts=0, exchange_ts=0)
