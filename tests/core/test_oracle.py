"""The engine against the reference, on random markets with random orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bot.core.events import Amend, BookUpdate, Cancel, Cancelled, FeedDown, Fill, Rejected, Trade
from tests.builders import LINEAR, MS, Paper
from tests.core.reference import DEPOSIT, Reference
from tests.shards import shards

UNIT = 10**12


def market(seed: int) -> Iterator[tuple[Any, ...]]:
    """What happens in one random market: prices are ticks from 0 to 9, the touch is at 4 and 5."""
    random = Random(seed)
    wild = random.random() < 0.3

    def tick(side: str) -> int:
        if random.random() < (0.3 if wild else 0.05):
            return random.randint(0, 9)
        return (
            random.choice((4, 4, 4, 3, 3, 2)) if side == "Buy" else random.choice((5, 5, 5, 6, 7))
        )

    def changes(side: str) -> list[tuple[int, int]]:
        return [(tick(side), random.randint(0, 9)) for _ in range(random.randint(0, 3))]

    for _ in range(random.randint(20, 90)):
        step, side = random.randint(0, 2), random.choice(("Buy", "Sell"))
        kind = random.choices(
            ("book", "trade", "place", "amend", "cancel", "snapshot", "gap", "tidy"),
            (25, 30, 20, 8, 5, 3, 2, 7),
        )[0]
        if kind == "book":
            yield kind, step, changes("Buy"), changes("Sell")
        elif kind == "trade":
            late = random.random() < 0.2
            seq, back = (random.randint(1, 6), random.randint(0, 4)) if late else (0, 0)
            at = tick("Sell" if side == "Buy" else "Buy")
            yield kind, step, side, at, random.randint(1, 12), seq, back
        elif kind == "place":
            tif = random.choice(("GTC", "GTC", "PostOnly", "PostOnly", "IOC", "FOK"))
            at = None if random.random() < 0.15 else tick(side)
            reduce_only = random.random() < 0.2
            yield kind, step, side, tif, at, random.randint(1, 9), reduce_only
        elif kind == "amend":
            at = random.choice((None, tick(side)))
            yield kind, step, random.randint(1, 5), at, random.choice((None, random.randint(1, 9)))
        elif kind == "cancel":
            yield kind, step, random.randint(1, 5)
        else:
            yield kind, step


SNAPSHOT = ([(t, 5) for t in (4, 3, 2)], [(t, 5) for t in (5, 6, 7)])


def price_of(tick: int) -> Fraction:
    return 100 + Fraction(tick, 10)


class Both:
    """The engine and the reference, told the same."""

    def __init__(self, queue: str, through: str, latency: int, depth: int) -> None:
        self.paper = Paper(
            queue=queue, through=through, latency_ms=latency, start=None, usdt=DEPOSIT
        )
        self.reference = Reference(queue, through, latency, depth)
        self.depth = depth
        self.now = self.seq = 10
        self.placed: list[int] = []
        self.book(True, *SNAPSHOT)

    def do(self, action: tuple[Any, ...]) -> None:
        kind, step, *rest = action
        self.now += step
        if kind == "gap":
            self.paper.step(FeedDown(self.now * MS, LINEAR, "gap"))
            self.reference.gap()
        elif kind == "snapshot":
            self.book(True, *SNAPSHOT)
        elif kind == "tidy":
            self.tidy()
        elif kind == "book":
            self.book(False, *rest)
        elif kind == "trade":
            self.trade(*rest)
        elif kind == "place":
            self.place(*rest)
        elif self.placed:
            self.change(kind, self.placed[-rest[0] :][0], *rest[1:])

    def tidy(self) -> None:
        """Clear the middle of the book, so that markets do not end up crossed for good."""
        bids = [(t, 0) for t in range(5, 10)] + [(4, 3), (3, 7)]
        asks = [(t, 0) for t in range(5)] + [(5, 3), (6, 7)]
        self.book(False, bids, asks)

    def book(self, snapshot: bool, bids: Any, asks: Any) -> None:
        self.seq += 2
        levels = [
            [(int(price_of(tick) * UNIT), qty * UNIT) for tick, qty in side]
            for side in (bids, asks)
        ]
        self.paper.step(
            BookUpdate(
                self.now * MS, self.now * MS, LINEAR, self.depth, self.seq, self.seq, snapshot,
                *levels,
            )
        )  # fmt: skip
        exact = [[(price_of(tick), Fraction(qty)) for tick, qty in side] for side in (bids, asks)]
        changes = dict(zip(("Buy", "Sell"), exact, strict=True))
        self.reference.book(self.now, self.seq, snapshot, changes)

    def trade(self, side: str, tick: int, qty: int, late: int, back: int) -> None:
        self.seq += 2
        seq, stamp = self.seq - late, self.now - back
        price = int(price_of(tick) * UNIT)
        self.paper.step(
            Trade(self.now * MS, stamp * MS, LINEAR, seq, side, price, qty * UNIT)  # type: ignore[arg-type]
        )
        self.reference.trade(stamp, seq, side, price_of(tick), Fraction(qty))

    def place(self, side: str, tif: str, tick: int | None, qty: int, reduce_only: bool) -> None:
        if tick is None and tif != "FOK":
            tif = "IOC"
        price = None if tick is None else f"{float(price_of(tick)):.1f}"
        order = self.paper.order(self.now, side, qty, price, tif, reduce_only=reduce_only)
        self.placed.append(order.id)
        self.paper.send(self.now, order)
        exact = None if tick is None else price_of(tick)
        request = ("place", order.id, side, tif, exact, Fraction(qty), reduce_only)
        self.reference.submit(self.now, request)

    def change(self, kind: str, order_id: int, tick: Any = None, qty: Any = None) -> None:
        if kind == "cancel":
            self.paper.send(self.now, Cancel(self.now * MS, order_id, LINEAR))
            self.reference.submit(self.now, ("cancel", order_id))
            return
        price = None if tick is None else Decimal(f"{float(price_of(tick)):.1f}")
        total = None if qty is None else Decimal(qty)
        self.paper.send(self.now, Amend(self.now * MS, order_id, LINEAR, price, total))
        exact = None if tick is None else price_of(tick)
        self.reference.submit(
            self.now, ("amend", order_id, exact, None if qty is None else Fraction(qty))
        )

    def compare(self) -> None:
        paper, reference = self.paper, self.reference
        fills = [
            (f.exchange_ts // MS, f.order_id, f.side, Fraction(f.price), Fraction(f.qty), f.cause,
             Fraction(f.leaves))
            for f in paper.facts if type(f) is Fill
        ]  # fmt: skip
        assert fills == reference.fills
        ends = [
            (type(f).__name__, f.exchange_ts // MS, f.order_id, f.reason)
            for f in paper.facts
            if type(f) in (Rejected, Cancelled)
        ]
        assert ends == reference.ends
        held = paper.engine.exchange._symbols.get(LINEAR)
        resting = [] if held is None else [*held.buys, *held.sells]
        ours = [
            (order.id, order.leaves, order.ahead)
            for side in ("Buy", "Sell")
            for order in reference.ours(side)
        ]
        assert [
            (
                r.order.id,
                Fraction(r.leaves, UNIT),
                None if r.ahead is None else Fraction(r.ahead, UNIT),
            )
            for r in resting
        ] == ours
        account = paper.account
        assert (account.realized, account.fees, account.wallet) == reference.money()
        assert Fraction(account.qty(LINEAR), UNIT) == reference.position()
        for side, marks in (("Buy", "taken_bids"), ("Sell", "taken_asks")):
            taken = {} if held is None else getattr(held, marks).marks
            assert {Fraction(p, UNIT): Fraction(q, UNIT) for p, q in taken.items()} == {
                price: qty for price, qty in reference.taken[side].items() if qty
            }


def agree(seed: int) -> Both:
    random = Random(seed)
    policy = random.choice(("conservative", "conservative", "none"))
    through, depth = random.choice(("traded", "full")), random.choice((0, 0, 3))
    both = Both(policy, through, random.randint(0, 4), depth)
    for action in market(seed):
        both.do(action)
        both.compare()
    both.paper.finish()
    if both.reference.live:
        both.reference.arrive(10**9)
        both.compare()
    return both


@settings(max_examples=300, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.integers(0, 2**40))
def test_the_engine_is_what_the_rules_say(seed: int) -> None:
    agree(seed)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@shards(20_000, parts=10)
def test_the_engine_is_what_the_rules_say_all_night(seeds: range) -> None:
    for seed in seeds:
        try:
            agree(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error


def test_the_random_markets_show_every_kind_of_fill_and_end() -> None:
    seen: Counter[str] = Counter()
    for seed in range(300):
        reference = agree(seed).reference
        seen.update(fill[5] for fill in reference.fills)
        seen.update(end[3] for end in reference.ends)
    assert set(seen) == {
        "take", "queue", "through", "cross", "110001", "110017", "10001", "CancelByReduceOnly",
        "EC_NoImmediateQtyToFill", "EC_PerCancelRequest", "EC_PostOnlyWillTakeLiquidity",
        "EC_CancelForNoFullFill",
    }  # fmt: skip
    assert min(seen.values()) >= 3
