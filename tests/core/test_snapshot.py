"""A state saved and put into a fresh engine: nothing that follows may differ."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core import snapshot
from bot.core.engine import Engine
from bot.core.events import Accepted, BookUpdate, Decision, Fact, Fill
from bot.core.latency import Latency
from bot.core.matching import FillPolicy
from bot.core.risk import RiskLimits
from bot.core.snapshot import SAVED, WIRING, SavedEngine, SnapshotError, encoded_state
from bot.core.strategy import Seen, View
from strategies.market_maker import MarketMaker
from strategies.threshold import Threshold
from tests.builders import LINEAR, MS, Script, e12
from tests.core.lives import DEPOSIT, SYMBOLS, feed
from tests.core.test_invariants import GENERATE


class Dice:
    """Random orders, amendments and cancels; the last throw is all that it remembers."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def on_event(self, event: Seen, view: View) -> Iterator[Decision]:
        if not isinstance(event, BookUpdate | Accepted):
            return
        random = Random(self.state)
        self.state = random.getrandbits(60)
        mid, orders = view.mid(event.symbol), view.orders(event.symbol)
        if mid is None or random.random() < 0.4:
            return
        if orders and random.random() < 0.4:
            order = random.choice(orders)
            if random.random() < 0.5:
                yield view.cancel(order)
            else:
                yield view.amend(order, qty=random.uniform(0.1, 5), price=mid)
            return
        side: Any = random.choice(("Buy", "Sell"))
        tif: Any = random.choice(("GTC", "GTC", "PostOnly", "IOC", "FOK"))
        price, only = mid + random.randint(-3, 3) / 10, random.random() < 0.2
        yield view.limit(
            event.symbol, side, random.uniform(0.1, 5), price, tif=tif, reduce_only=only
        )


def engine(seed: int) -> Engine:
    random = Random(seed)
    jitter, latency = random.choice((0, 3)) * MS, random.choice((0, 10)) * MS
    return Engine(
        [
            ("dice", SYMBOLS, Dice(seed)),
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


def saved(made: Engine) -> bytes:
    return msgspec.json.encode(snapshot.save(made))


def continued(seed: int, body: bytes) -> Engine:
    made = engine(seed)
    snapshot.restore(made, msgspec.json.decode(body, type=SavedEngine))
    return made


@settings(max_examples=60, deadline=None, phases=GENERATE)
@given(st.integers(0, 2**40), st.integers(0, 253), st.integers(0, 253))
def test_what_follows_a_snapshot_is_what_would_have_followed(
    seed: int, place: int, later: int
) -> None:
    first, second = sorted((place, later))
    whole, resumed = engine(seed), None
    one: list[Fact] = []
    other: list[Fact] = []
    for number, event in enumerate(feed(seed)):
        if number == first:
            resumed = continued(seed, saved(whole))
            assert saved(resumed) == saved(whole)
        facts = whole.step(event)
        whole.market.notices.clear()
        if resumed is not None:
            one += facts
            other += resumed.step(event)
            resumed.market.notices.clear()
            if number == second:
                assert saved(resumed) == saved(whole)
    assert resumed is not None
    assert other + resumed.finish() == one + whole.finish()
    assert saved(resumed) == saved(whole)


def test_the_lives_that_are_saved_rest_travel_and_wait_for_answers() -> None:
    seen: set[str] = set()
    for seed in range(12):
        made = engine(seed)
        for event in feed(seed):
            facts = made.step(event)
            made.market.notices.clear()
            orders = made.exchange._symbols.values()
            seen |= {type(fact).__name__ for fact in facts}
            seen |= {"resting"} if any(each.buys or each.sells for each in orders) else set()
            seen |= {"travelling"} if any(each.pending for each in orders) else set()
            seen |= {"taken"} if any(each.taken_asks.marks for each in orders) else set()
            seen |= {"answer"} if made._answers else set()
            seen |= {"down"} if not made.market.listing(LINEAR).is_live else set()
    assert seen >= {"resting", "travelling", "taken", "answer", "down", "Fill", "Amend",
                    "FundingPaid", "Cancelled", "Refusal", "Signal"}  # fmt: skip


def parts(value: object, found: dict[type, object]) -> None:
    """Every object of a core class that is no struct, one of each class."""
    kind = type(value)
    if isinstance(value, dict):
        for inner in value.values():
            parts(inner, found)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            parts(inner, found)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            parts(getattr(value, name), found)
    elif kind.__module__.startswith("bot.core") and kind not in found:
        found[kind] = value
        for name in attributes(value):
            parts(getattr(value, name), found)


def attributes(value: object) -> set[str]:
    slots = {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())}
    return slots | set(getattr(value, "__dict__", ()))


def test_every_attribute_of_the_engine_is_saved_or_named_as_wiring() -> None:
    made = engine(4)
    fills = 0
    for event in feed(4):
        fills += sum(type(fact) is Fill for fact in made.step(event))
    assert fills
    found: dict[type, object] = {}
    parts(made, found)
    assert len(found) >= len(SAVED)
    for kind, value in found.items():
        held = set(SAVED[kind].__struct_fields__) if kind in SAVED else set()
        assert attributes(value) == held | WIRING.get(kind, frozenset()), (
            f"{kind.__name__} has state that a snapshot does not hold: add it to "
            "bot/core/snapshot.py"
        )


def test_a_strategy_whose_state_does_not_come_back_is_named() -> None:
    script = Script()
    for state in (float("nan"), {1: 2}, [(1, 2)], object()):
        script.state = state
        with pytest.raises(SnapshotError, match=r"strategy 'dip': `state` (is not|cannot be)"):
            encoded_state("dip", script)
    script.state = {"linear:BTCUSDT": 0.1}
    assert encoded_state("dip", script) == b'{"linear:BTCUSDT":0.1}'


def test_a_snapshot_of_other_strategies_does_not_fit() -> None:
    made = engine(1)
    body = snapshot.save(made)
    body.desked["other"] = body.desked.pop("dice")
    with pytest.raises(SnapshotError, match=r"strategies \['maker', 'other', 'taker'\] were saved"):
        snapshot.restore(engine(1), body)
