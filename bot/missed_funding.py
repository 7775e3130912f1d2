"""Funding settlements as the venue's history has them, read as events.

They pay what the stream slept through, and stand in the ledger beside what it settled.
"""

from __future__ import annotations

from msgspec.structs import replace

from bot.core.events import FundingRate
from bot.core.market import Listing, Market
from bot.venue.rest import Rest

_MINUTE_NS = 60 * 10**9
GRACE_NS = _MINUTE_NS
"""How long after a settlement the stream, or the venue's history, may take to tell of it."""


class MissedFunding:
    """Remembers each perpetual's next settlement, and asks for it once it is past.

    The stream settles one funding time, at the rate that it last told, when it speaks of a later
    one; of what lies between the two nobody tells it. What core has paid already it pays no more,
    so a settlement may be told twice: the ledger then has the venue's rate beside the one paid.
    """

    def __init__(self, market: Market) -> None:
        self._market = market
        self._due_ns: dict[str, int] = {}

    async def read(self, rest: Rest, now_ns: int) -> list[FundingRate]:
        """The settlements past by ``now_ns`` (local), each at its mark. Raises as ``Rest``."""
        venue_ns = now_ns - self._market.offset_ns
        found: list[FundingRate] = []
        for listing in list(self._market.listings.values()):
            due_ns = self._due_ns.setdefault(listing.symbol, listing.next_funding_ns)
            if not due_ns:
                self._due_ns[listing.symbol] = listing.next_funding_ns
            elif venue_ns >= due_ns + GRACE_NS:
                found += await self._settled(rest, listing, due_ns, venue_ns)
        return found

    async def _settled(
        self, rest: Rest, listing: Listing, due_ns: int, venue_ns: int
    ) -> list[FundingRate]:
        """What was settled from ``due_ns`` on; nothing while the history does not tell it."""
        symbol, next_ns = listing.symbol, listing.next_funding_ns
        interval_ns = _interval_ns(listing)
        rates = [
            replace(rate, mark=await rest.mark_at(symbol, rate.funding_ts))
            for rate in await rest.funding_between(symbol, due_ns, venue_ns)
        ]
        if rates:
            self._due_ns[symbol] = max(next_ns, rates[-1].funding_ts + max(interval_ns, 1))
        return rates


def _interval_ns(listing: Listing) -> int:
    """0 where the rules do not tell it."""
    return listing.rules.instrument.funding_interval_min * _MINUTE_NS if listing.rules else 0
