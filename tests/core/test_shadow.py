"""Shadow accounts: the same orders, other fills, and no influence on what is traded."""

from __future__ import annotations

import pytest

from bot.core.engine import Engine
from bot.core.events import Fact, Order
from bot.core.latency import Latency
from bot.core.matching import FillPolicy
from bot.core.risk import RiskLimits
from bot.core.shadow import FIRST_ID
from bot.ledger.digest import FactDigest
from strategies.market_maker import MarketMaker
from tests.builders import LINEAR, MS, e12
from tests.core.lives import DEPOSIT, SYMBOLS, Fidget, feed
from tests.core.test_invariants import check_money


def engine(seed: int, trading: str, *shadows: str) -> Engine:
    def policy(queue: str) -> FillPolicy:
        return FillPolicy(
            queue=queue,  # type: ignore[arg-type]
            order_latency=Latency(10 * MS, 3 * MS, seed),
            response_latency=Latency(10 * MS, 3 * MS, seed + 1),
        )

    return Engine(
        [
            ("fidget", SYMBOLS, Fidget(seed)),
            ("maker", (LINEAR,), MarketMaker((LINEAR,), half_spread=0.0002, requote_ms=5)),
        ],
        usdt=DEPOSIT,
        leverage=e12(5),
        policy=policy(trading),
        limits=RiskLimits(10**13, 10**12, 10**13, 100, 50),
        shadows=[policy(queue) for queue in shadows],
    )


def live_through(made: Engine, seed: int) -> tuple[str, list[list[Fact]]]:
    digest = FactDigest()
    told: list[list[Fact]] = [[] for _ in made.shadows]
    for event in feed(seed):
        for fact in made.step(event):
            digest.update(fact)
        made.market.notices.clear()
        for shadow, facts in zip(made.shadows, told, strict=True):
            facts.extend(shadow.take())
            check_money(shadow.account)
    for fact in made.finish():
        digest.update(fact)
    for shadow, facts in zip(made.shadows, told, strict=True):
        facts.extend(shadow.take())
    return digest.hexdigest(), told


@pytest.mark.parametrize("seed", range(8))
def test_shadows_change_nothing_of_what_is_traded(seed: int) -> None:
    alone, _ = live_through(engine(seed, "conservative"), seed)
    beside, _ = live_through(engine(seed, "conservative", "probabilistic", "none"), seed)
    assert alone == beside


@pytest.mark.parametrize("seed", range(8))
def test_a_shadow_of_the_trading_policy_gets_the_same(seed: int) -> None:
    made = engine(seed, "probabilistic", "probabilistic")
    live_through(made, seed)
    (shadow,) = made.shadows
    ours, theirs = made.account, shadow.account
    assert (theirs.wallet, theirs.positions) == (ours.wallet, ours.positions)
    assert shadow.refusals_that_differ == 0


def test_policies_differ_somewhere_and_their_facts_are_numbered() -> None:
    differs = 0
    for seed in range(8):
        made = engine(seed, "conservative", "none")
        _, (told,) = live_through(made, seed)
        (shadow,) = made.shadows
        differs += shadow.account.wallet != made.account.wallet
        assert shadow.told == len(told)
        own = {fact.id for fact in told if type(fact) is Order}
        assert min(own, default=FIRST_ID) >= FIRST_ID
        told_of = {getattr(fact, "order_id", 0) for fact in told}
        assert {order_id for order_id in told_of if order_id >= FIRST_ID} <= own
    assert differs > 4
