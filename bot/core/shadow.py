"""A shadow account: the same orders, amendments and cancels under another fill policy.

It has its own fills, position, margin and refusals, and decides nothing. What the strategies do
follows from the fills of the trading policy alone, so a shadow says what the same orders would
have come to, not what the strategies would have done.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from bot.core.account import Account
from bot.core.events import (
    E8,
    E12,
    Amend,
    Cancel,
    Cancelled,
    Event,
    Fact,
    Fill,
    Order,
    Refusal,
    Rejected,
)
from bot.core.exchange import Exchange
from bot.core.market import Market
from bot.core.matching import FillPolicy
from bot.core.orders import OrderIds, Request

FIRST_ID = 1 << 40
"""Orders that a shadow's venue makes are numbered from here: no other order is so far."""
_REFUSALS = frozenset(("EC_PostOnlyWillTakeLiquidity", "EC_CancelForNoFullFill"))


class Shadow:
    """``facts`` are those since they were last taken away; nobody answers a strategy from here.

    ``refusals_that_differ`` counts what strategies asked for and the venue refused in one of the
    two accounts only. Exits that a venue made are that account's own and do not count.
    """

    def __init__(self, market: Market, usdt: E8, leverage: E12, policy: FillPolicy) -> None:
        self.policy = policy
        self.account = Account(market, usdt, leverage)
        self.ids = OrderIds(FIRST_ID)
        self.exchange = Exchange(market, self.account, policy, self.ids)
        self.facts: list[Fact] = []
        self.fills = 0
        self.told = 0
        self.refusals = 0
        self.refusals_that_differ = 0
        self._seen = 0
        self._asked: list[int] = []  # orders of this step
        self._exits: list[int] = []  # open ones that the trading account's venue made

    @property
    def name(self) -> str:
        return self.policy.queue

    def before(self, event: Event) -> None:
        self.exchange.before(event, self.facts)

    def after(self, event: Event) -> None:
        self.exchange.after(event, self.facts)

    def submit(self, request: Request, ts: int, trading: Exchange, *, counts: bool) -> None:
        """Take what goes to the ``trading`` account's venue, before it gets there.

        What is meant for an exit of that account's position means ours of the same kind.
        """
        if isinstance(request, Order):
            self._asked.append(request.id)
        else:
            request = self._ours(request, trading)
        self.exchange.submit(request, ts, self.facts, counts=counts)

    def _ours(self, request: Amend | Cancel, trading: Exchange) -> Amend | Cancel:
        theirs, ours = trading.orders_of(request.symbol), self.exchange.orders_of(request.symbol)
        meant = None if theirs is None else theirs.find_stop(request.order_id)
        if meant is None or meant.order.stop_type is None or ours is None:
            return request
        kind = meant.order.stop_type
        own = next((each for each in ours.exits() if each.order.stop_type == kind), None)
        return request if own is None else replace(request, order_id=own.order.id)

    def finish(self, ts: int) -> None:
        self.exchange.finish(ts, self.facts)

    def compare(self, trading: Sequence[Fact]) -> None:
        """Hold a step's facts against those of the trading account; both saw the same events."""
        ours = self.facts[self._seen :]
        self._seen = len(self.facts)
        if not ours and not trading:
            return
        self._exits += [
            fact.id
            for fact in trading
            if type(fact) is Order and fact.stop_type is not None and fact.id not in self._asked
        ]
        refused = self._refused(ours)
        self.refusals += len(refused)
        self.refusals_that_differ += len(refused ^ self._refused(trading))
        self.fills += sum(type(fact) is Fill for fact in ours)
        self._asked.clear()
        if self._exits:
            ended = {fact.order_id for fact in trading if _is_end(fact)}  # type: ignore[union-attr]
            self._exits = [order_id for order_id in self._exits if order_id not in ended]

    def take(self) -> list[Fact]:
        """The facts since the last call; ``told`` counts all that were taken."""
        facts, self.facts, self._seen = self.facts, [], 0
        self.told += len(facts)
        return facts

    def _refused(self, facts: Sequence[Fact]) -> set[tuple[int, str]]:
        """(order id, request) of what the venue did not let in, of what strategies asked for."""
        found: set[tuple[int, str]] = set()
        for fact in facts:
            if type(fact) is Rejected:
                found.add((fact.order_id, fact.request))
            elif type(fact) is Cancelled and fact.reason in _REFUSALS:
                found.add((fact.order_id, "order"))
        if not found:
            return found
        return {each for each in found if each[0] < FIRST_ID and each[0] not in self._exits}


def _is_end(fact: Fact) -> bool:
    """Whether an order is over with it."""
    kind = type(fact)
    if kind is Rejected:
        return fact.request == "order"  # type: ignore[union-attr]
    return kind is Cancelled or kind is Refusal or (kind is Fill and not fact.leaves)  # type: ignore[union-attr]
