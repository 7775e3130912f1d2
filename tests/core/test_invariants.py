"""What always holds: money is conserved, nothing fills early or twice, a run can be made again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bot.core.account import Account
from bot.core.events import (
    Accepted,
    Cancelled,
    Event,
    Fact,
    Fill,
    FundingPaid,
    Liquidated,
    Order,
    Rejected,
    Trade,
    Triggered,
)
from bot.core.exchange import Exchange
from bot.core.instrument import to_e12
from bot.core.market import Market
from bot.ledger.digest import FactDigest
from bot.run import Memory, Run
from tests.builders import LINEAR, SPOT, e12
from tests.core.lives import DEPOSIT, SYMBOLS, engine, feed
from tests.shards import shards

GENERATE = [Phase.explicit, Phase.reuse, Phase.generate]


# --- what holds after every step ------------------------------------------------------------------


def check_money(account: Account) -> None:
    coins = sum(p.cost for s, p in account.positions.items() if s == SPOT)
    paid = account.fees + account.funding + coins
    assert account.wallet == DEPOSIT + account.realized - paid
    assert account.qty(SPOT) >= 0
    for position in account.positions.values():
        assert (position.cost > 0) == (position.qty != 0)


def check_queues(exchange: Exchange) -> None:
    for orders in exchange._symbols.values():
        current = orders.listing.book
        for side in (orders.buys, orders.sells):
            prices = [r.price if r.order.side == "Sell" else -r.price for r in side]
            assert prices == sorted(prices)
            for resting in side:
                assert 0 < resting.leaves <= resting.qty
                shown = current.displayed(resting.order.side, resting.price)
                if resting.ahead is not None:
                    assert resting.ahead >= 0
                    if shown is not None and orders.listing.is_live:
                        assert resting.ahead <= shown
        for taken in (orders.taken_bids, orders.taken_asks):
            for price, qty in taken.marks.items():
                shown = current.displayed(taken._side, price)
                assert qty > 0
                assert shown is None or qty <= shown or not orders.listing.is_live


class Told:
    """The facts of one account so far, and the laws that hold after every step."""

    def __init__(self, exchange: Exchange, account: Account) -> None:
        self.facts: list[Fact] = []
        self._exchange, self._account = exchange, account
        self._arrived: dict[int, int] = {}

    def take(self, event: Event, facts: list[Fact], market: Market) -> None:
        """No fill before arrival, across a gap, or beyond what one trade brought."""
        self.facts += facts
        for fact in facts:
            if type(fact) is Accepted:
                self._arrived.setdefault(fact.order_id, fact.exchange_ts)
            elif type(fact) is Fill:
                assert fact.exchange_ts >= self._arrived[fact.order_id]
                assert market.listing(fact.symbol).is_live or fact.cause == "take"
        if type(event) is Trade:
            lots = [
                to_e12(fact.qty)
                for fact in facts
                if type(fact) is Fill and fact.cause in ("queue", "through")
            ]
            most = event.qty if self._exchange._policy.through == "traded" else 10**30
            assert sum(lots) <= most
        check_money(self._account)
        check_queues(self._exchange)


def check_orders(sent: dict[int, Order], facts: list[Fact]) -> None:
    """Every order has one beginning and one end, never fills more than it is, and stays ended."""
    story: dict[int, list[Any]] = defaultdict(list)
    for fact in facts:
        if type(fact) in (Accepted, Triggered, Fill, Cancelled) or (
            type(fact) is Rejected and fact.request == "order"
        ):
            story[fact.order_id].append(fact)  # type: ignore[union-attr]
    for order_id, told in story.items():
        assert [fact.answer_ts for fact in told] == sorted(fact.answer_ts for fact in told)
        is_over = [type(f) in (Cancelled, Rejected) or (type(f) is Fill and not f.leaves)
                   for f in told]  # fmt: skip
        assert True not in is_over[:-1]
        check_story(sent[order_id], told)


def check_story(order: Order, told: list[Any]) -> None:
    qty = filled = Fraction(0)
    limit: Decimal | None = None
    is_waiting = order.trigger_price is not None
    for number, fact in enumerate(told):
        if type(fact) is Accepted:
            qty, limit = Fraction(fact.qty), fact.price
        elif type(fact) is Triggered:
            assert is_waiting
            is_waiting = False
        elif type(fact) is Fill:
            assert number
            assert not is_waiting
            filled += Fraction(fact.qty)
            assert Fraction(fact.leaves) == qty - filled >= 0
            if fact.maker:
                assert fact.price == limit
            elif limit is not None:
                assert fact.price <= limit if fact.side == "Buy" else fact.price >= limit


def check_ledger(facts: list[Fact], account: Account) -> None:
    """The facts alone add up to the account."""
    fills = [fact for fact in facts if type(fact) is Fill]
    assert [fill.id for fill in fills] == list(range(1, len(fills) + 1))
    lost = sum(Fraction(fact.loss) for fact in facts if type(fact) is Liquidated)
    realized = sum(Fraction(fill.realized_pnl) for fill in fills)
    assert (realized - lost) * 10**8 == account.realized
    paid = sum(Fraction(fact.amount) for fact in facts if type(fact) is FundingPaid)
    assert paid * 10**8 == account.funding
    for symbol in SYMBOLS:
        size = Fraction(0)
        for fact in facts:
            if type(fact) is Liquidated and fact.symbol == symbol:
                assert Fraction(fact.position) == size
                size = Fraction(0)
            elif type(fact) is Fill and fact.symbol == symbol:
                size += Fraction(fact.qty) * (1 if fact.side == "Buy" else -1)
                if fact.fee_coin == "BTC":
                    size -= Fraction(fact.fee)
                assert Fraction(fact.position) == size
        assert size * 10**12 == account.qty(symbol)
    settled = [(f.symbol, f.funding_ts) for f in facts if type(f) is FundingPaid]
    assert len(settled) == len(set(settled))
    assert all(a < b for a, b in pairwise(settled))


def live_through(seed: int) -> list[list[Fact]]:
    """A life under every law: the facts of the account that trades, then of each shadow."""
    made = engine(seed)
    trading = Told(made.exchange, made.account)
    shadows = [(each, Told(each.exchange, each.account)) for each in made.shadows]
    for event in feed(seed):
        trading.take(event, made.step(event), made.market)
        for shadow, told in shadows:
            told.take(event, shadow.take(), made.market)
    trading.facts += made.finish()
    for shadow, told in shadows:
        told.facts += shadow.take()
    sent = {fact.id: fact for fact in trading.facts if type(fact) is Order}
    for told in (trading, *(told for _, told in shadows)):
        own = {fact.id: fact for fact in told.facts if type(fact) is Order}
        check_money(told._account)
        check_orders(sent | own, told.facts)
        check_ledger(told.facts, told._account)
    return [trading.facts, *(told.facts for _, told in shadows)]


@settings(max_examples=100, deadline=None, phases=GENERATE)
@given(st.integers(0, 2**40))
def test_a_random_life_breaks_no_law(seed: int) -> None:
    live_through(seed)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@shards(5000, parts=10)
def test_a_random_life_breaks_no_law_all_night(seeds: range) -> None:
    for seed in seeds:
        try:
            live_through(seed)
        except (AssertionError, LookupError) as error:
            raise AssertionError(f"seed {seed}") from error


def test_the_random_lives_are_full_of_events() -> None:
    lives = [live_through(seed) for seed in range(12)]
    facts = [fact for trading, *_ in lives for fact in trading]
    shadowed = [fact for _, *shadows in lives for shadow in shadows for fact in shadow]
    kinds = {"Order", "Amend", "Cancel", "Refusal", "Accepted", "Rejected", "Fill", "Cancelled",
             "FundingPaid", "Signal", "Triggered", "Liquidated"}  # fmt: skip
    assert {type(fact).__name__ for fact in facts} == kinds
    assert {type(fact).__name__ for fact in shadowed} >= {
        "Accepted", "Rejected", "Fill", "Cancelled", "FundingPaid", "Triggered", "Liquidated"
    }  # fmt: skip
    fills = [fact for fact in facts if type(fact) is Fill]
    assert {fill.cause for fill in fills} == {"take", "queue", "through", "cross"}
    assert {fill.symbol for fill in fills} == set(SYMBOLS)
    exits = {fact.stop_type for fact in facts if type(fact) is Order}
    assert exits == {None, "TakeProfit", "StopLoss"}


# --- the money of any series of executions, recomputed --------------------------------------------

EXECUTIONS = st.lists(
    st.tuples(
        st.sampled_from(["Buy", "Sell", "fund"]),
        st.integers(1, 10**17),
        st.integers(1, 10**14),
        st.integers(-(10**9), 10**9),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(EXECUTIONS)
def test_any_executions_and_settlements_add_up(
    executions: list[tuple[str, int, int, int]],
) -> None:
    """Cash flows exactly: what was paid and received, and the cost of what is still open."""
    market = Market()
    account = Account(market, DEPOSIT, e12(1))
    listing = market.listing(LINEAR)
    size, flows, charges, volume = 0, Fraction(0), 0, 0
    for number, (kind, price, qty, rate) in enumerate(executions, 1):
        exact = Fraction(price * qty, 10**16)
        if kind == "fund":
            fact = account.pay_funding(listing, 0, rate, price, number)
            due = round(Fraction(price * size, 10**16) * Fraction(rate, 10**12))
            assert (fact is None) == (size == 0)
            charges += due
            continue
        side: Any = kind
        settled = account.settle(listing, side, price, qty, rate, 0)
        assert settled.fee == round(exact * Fraction(rate, 10**12))
        charges += settled.fee
        size += qty if kind == "Buy" else -qty
        flows += -exact if kind == "Buy" else exact
        volume += 1
        assert settled.position == account.qty(LINEAR) == size
    assert account.fees + account.funding == charges
    assert account.wallet == DEPOSIT + account.realized - charges
    cost = account.positions[LINEAR].cost if account.positions else 0
    value = cost if size > 0 else -cost
    # Realized profit is the cash that flowed and the cost of what is open, up to one rounding of
    # half a unit for each part of an execution.
    assert abs(account.realized - (flows + value)) <= volume
    assert cost >= 0
    assert size != 0 or cost == 0


# --- the same again -------------------------------------------------------------------------------


def digest_of(seed: int) -> str:
    made = engine(seed)
    digest = FactDigest()
    for event in feed(seed):
        for fact in made.step(event):
            digest.update(fact)
    for fact in made.finish():
        digest.update(fact)
    return digest.hexdigest()


def test_the_same_events_give_the_same_digest_however_they_are_fed() -> None:
    for seed in range(5):
        sink = Memory()
        run = Run(engine(seed), sink)
        for event in feed(seed):
            run.take(event)
        run.finish()
        assert sink.digest.hexdigest() == digest_of(seed)
        assert sink.digest.hexdigest() != digest_of(seed + 100)


def test_two_processes_with_other_hash_seeds_give_the_same_digest() -> None:
    code = "from tests.core.test_invariants import digest_of; print([digest_of(n) for n in (1, 2)])"
    root = Path(__file__).parents[2]
    told = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        told.add(done.stdout)
    assert told == {f"{[digest_of(1), digest_of(2)]}\n"}
