"""What always holds: money is conserved, nothing fills early or twice, a run can be made again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bot.core.account import Account
from bot.core.engine import Engine
from bot.core.events import (
    Accepted,
    BookUpdate,
    Cancelled,
    ClockOffset,
    Command,
    Decision,
    Event,
    Fact,
    FeedDown,
    Fill,
    FundingPaid,
    FundingRate,
    Order,
    Rejected,
    Ticker,
    Trade,
)
from bot.core.instrument import to_e12
from bot.core.latency import Latency
from bot.core.market import Market
from bot.core.matching import FillPolicy
from bot.core.risk import RiskLimits
from bot.core.strategy import Seen, View
from bot.ledger.digest import FactDigest
from bot.run import Memory, Run
from strategies.market_maker import MarketMaker
from strategies.threshold import Threshold
from tests.builders import LINEAR, MS, SPOT, book, e12, fees, prediction, rules, trade

DEPOSIT = 50_000 * 10**8
SYMBOLS = (LINEAR, SPOT)
GENERATE = [Phase.explicit, Phase.reuse, Phase.generate]


def feed(seed: int, length: int = 250) -> Iterator[Event]:
    """Two symbols whose mids wander, with gaps, late trades, funding and predictions."""
    random = Random(seed)
    for symbol in SYMBOLS:
        yield rules(symbol, qty_step="0.001", min_qty="0.001")
        yield fees(symbol, Decimal("-0.0001") if seed % 3 == 0 else Decimal("0.0002"))
    mids = dict.fromkeys(SYMBOLS, 1000)
    t, seq = 1000, 10
    for number in range(length):
        symbol = random.choice(SYMBOLS)
        t += random.randint(0, 40)
        seq += random.randint(1, 3)
        kind = random.choices("btfpgkco", (40, 40, 2, 10, 1, 4, 2, 1))[0]
        if number < 2:
            symbol, kind = SYMBOLS[number], "s"
        mid = mids[symbol] = mids[symbol] + random.choice((-1, 0, 0, 0, 1))
        if kind == "s" or (kind == "b" and random.random() < 0.1):
            yield wall(t, symbol, mid, seq, random)
        elif kind == "b":
            sizes = [f"{(mid - 1 - i) / 10:.1f}x{random.randint(0, 9)}" for i in range(2)]
            yield book(t, " ".join(sizes), seq=seq, symbol=symbol)
        elif kind == "t":
            side, late = random.choice(("Buy", "Sell")), random.choice((0, 0, 0, 3))
            price = (mid + random.choice((-1, 0, 1))) / 10
            qty = f"{random.uniform(0.1, 9):.3f}"
            yield trade(t - late, side, f"{price:.1f}", qty, seq=seq - late, symbol=symbol)
        elif kind == "f":
            rate = Decimal(random.randint(-50, 50)) / 10**5
            yield FundingRate(t * MS, t * MS, LINEAR, rate, t * MS)
        elif kind == "p":
            expected = random.uniform(-0.02, 0.02)
            model = random.choice(("predictor", "analyzer"))
            yield prediction(t, expected, model=model, symbol=symbol)
        elif kind == "g":
            yield FeedDown(t * MS, symbol, "gap")
        elif kind == "k":
            mark, rate = Decimal(mid) / 10, Decimal(random.randint(-9, 9)) / 10**5
            yield Ticker(
                t * MS, t * MS, LINEAR, mark=mark, funding_rate=rate,
                next_funding_ts=(t // 500 + 1) * 500 * MS,
            )  # fmt: skip
        elif kind == "c":
            yield ClockOffset(t * MS, random.randint(-20, 20) * MS)
        else:
            yield Command(t * MS, random.choice(("cancel_all", "pause", "resume")), "test")


def wall(t: int, symbol: str, mid: int, seq: int, random: Random) -> BookUpdate:
    sides = [
        " ".join(f"{(mid + sign * (1 + i)) / 10:.1f}x{random.randint(1, 9)}" for i in range(5))
        for sign in (-1, 1)
    ]
    return book(t, *sides, snapshot=True, seq=seq, symbol=symbol, depth=5)


class Fidget:
    """Random orders, amendments and cancels, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.state = None
        self._random = Random(seed)

    def on_event(self, event: Seen, view: View) -> Iterable[Decision] | None:
        random = self._random
        if not isinstance(event, BookUpdate | Accepted) or random.random() < 0.5:
            return None
        symbol = event.symbol
        mid = view.mid(symbol)
        if mid is None:
            return None
        orders = view.orders(symbol)
        if orders and random.random() < 0.4:
            order = random.choice(orders)
            if random.random() < 0.5:
                return [view.cancel(order)]
            return [view.amend(order, qty=random.uniform(0.1, 5), price=mid)]
        side: Any = random.choice(("Buy", "Sell"))
        if random.random() < 0.2:
            qty = random.uniform(0.1, 3)
            return [view.market(symbol, side, qty, reduce_only=random.random() < 0.3)]
        tif: Any = random.choice(("GTC", "GTC", "PostOnly", "IOC", "FOK"))
        price = mid + random.randint(-3, 3) / 10
        reduce_only = random.random() < 0.2
        qty = random.uniform(0.1, 5)
        return [view.limit(symbol, side, qty, price, tif=tif, reduce_only=reduce_only)]


def engine(seed: int) -> Engine:
    random = Random(seed)
    jitter = random.choice((0, 3)) * MS
    latency = random.choice((0, 10)) * MS
    return Engine(
        [
            ("fidget", SYMBOLS, Fidget(seed)),
            ("maker", (LINEAR,), MarketMaker((LINEAR,), half_spread=0.0002, requote_ms=5)),
            ("taker", SYMBOLS, Threshold(SYMBOLS, edge=0.0)),
        ],
        usdt=DEPOSIT,
        leverage=e12(5),
        policy=FillPolicy(
            queue=random.choice(("conservative", "probabilistic", "none")),
            order_latency=Latency(latency, jitter, seed),
            response_latency=Latency(latency, jitter, seed + 1),
        ),
        limits=RiskLimits(10**13, 10**12, 10**13, 100, 50),
    )


# --- what holds after every step ------------------------------------------------------------------


def check_money(account: Account) -> None:
    coins = sum(p.cost for s, p in account.positions.items() if s == SPOT)
    paid = account.fees + account.funding + coins
    assert account.wallet == DEPOSIT + account.realized - paid
    assert account.qty(SPOT) >= 0
    for position in account.positions.values():
        assert (position.cost > 0) == (position.qty != 0)


def check_queues(made: Engine) -> None:
    for orders in made.exchange._symbols.values():
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


def check_step(event: Event, facts: list[Fact], known: dict[int, int], made: Engine) -> None:
    """No fill before arrival, across a gap, or beyond what one trade brought."""
    fills = [fact for fact in facts if type(fact) is Fill]
    for fact in facts:
        if type(fact) is Accepted:
            known.setdefault(fact.order_id, fact.exchange_ts)
    for fill in fills:
        assert fill.exchange_ts >= known[fill.order_id]
        assert made.market.listing(fill.symbol).is_live or fill.cause == "take"
    if type(event) is Trade:
        lots = [to_e12(fill.qty) for fill in fills if fill.cause in ("queue", "through")]
        assert sum(lots) <= event.qty


def check_orders(facts: list[Fact]) -> None:
    """Every order has one beginning and one end, never fills more than it is, and stays ended."""
    sent = {fact.id: fact for fact in facts if type(fact) is Order}
    story: dict[int, list[Any]] = defaultdict(list)
    for fact in facts:
        if type(fact) in (Accepted, Fill, Cancelled) or (
            type(fact) is Rejected and fact.request == "order"
        ):
            story[fact.order_id].append(fact)  # type: ignore[union-attr]
    for order_id, told in story.items():
        assert [fact.answer_ts for fact in told] == sorted(fact.answer_ts for fact in told)
        is_over = [type(f) in (Cancelled, Rejected) or (type(f) is Fill and not f.leaves)
                   for f in told]  # fmt: skip
        assert True not in is_over[:-1]
        assert type(told[0]) is not Fill
        assert order_id in sent
        qty = filled = Fraction(0)
        limit: Decimal | None = None
        for fact in told:
            if type(fact) is Accepted:
                qty, limit = Fraction(fact.qty), fact.price
            elif type(fact) is Fill:
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
    assert sum(Fraction(fill.realized_pnl) for fill in fills) * 10**8 == account.realized
    paid = sum(Fraction(fact.amount) for fact in facts if type(fact) is FundingPaid)
    assert paid * 10**8 == account.funding
    for symbol in SYMBOLS:
        size = Fraction(0)
        for fill in (fill for fill in fills if fill.symbol == symbol):
            size += Fraction(fill.qty) * (1 if fill.side == "Buy" else -1)
            if fill.fee_coin == "BTC":
                size -= Fraction(fill.fee)
            assert Fraction(fill.position) == size
        assert size * 10**12 == account.qty(symbol)
    settled = [(f.symbol, f.funding_ts) for f in facts if type(f) is FundingPaid]
    assert len(settled) == len(set(settled))
    assert all(a < b for a, b in pairwise(settled))


def live_through(seed: int) -> list[Fact]:
    made = engine(seed)
    facts: list[Fact] = []
    known: dict[int, int] = {}
    for event in feed(seed):
        step = made.step(event)
        facts += step
        check_step(event, step, known, made)
        check_money(made.account)
        check_queues(made)
    facts += made.finish()
    check_money(made.account)
    check_orders(facts)
    check_ledger(facts, made.account)
    return facts


@settings(max_examples=100, deadline=None, phases=GENERATE)
@given(st.integers(0, 2**40))
def test_a_random_life_breaks_no_law(seed: int) -> None:
    live_through(seed)


@pytest.mark.nightly
def test_a_random_life_breaks_no_law_all_night() -> None:
    for seed in range(3000):
        live_through(seed)


def test_the_random_lives_are_full_of_events() -> None:
    facts = [fact for seed in range(10) for fact in live_through(seed)]
    kinds = {type(fact).__name__ for fact in facts}
    assert kinds >= {"Order", "Amend", "Cancel", "Refusal", "Accepted", "Rejected", "Fill",
                     "Cancelled", "FundingPaid", "Signal"}  # fmt: skip
    fills = [fact for fact in facts if type(fact) is Fill]
    assert {fill.cause for fill in fills} == {"take", "queue", "through", "cross"}
    assert {fill.symbol for fill in fills} == set(SYMBOLS)


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
