"""One event in, facts out: who hears what and when, commands, the end."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import pytest

from bot.core.engine import COMMANDER, Engine
from bot.core.events import (
    Accepted,
    Amend,
    BookUpdate,
    Cancel,
    Cancelled,
    ClockOffset,
    Decision,
    FeedDown,
    FeedUp,
    Fill,
    Order,
    Refusal,
    Rejected,
    Signal,
    Tick,
    Trade,
)
from bot.core.matching import FillPolicy
from bot.core.risk import RiskLimits
from bot.core.strategy import Seen, View
from tests.builders import (
    LINEAR,
    MS,
    NO_LIMITS,
    SPOT,
    TOUCH,
    Paper,
    Script,
    book,
    e12,
    fees,
    prediction,
    rules,
    trade,
)

# --- a book that crosses ---------------------------------------------------------------------


def test_a_strategy_hears_of_a_crossed_book_before_the_book_and_of_its_return() -> None:
    heard: list[str] = []

    class Listener:
        state = None

        def on_event(self, event: Seen, view: View) -> Iterable[Decision]:
            heard.append(type(event).__name__)
            if type(event) is FeedDown:
                assert view.mid(LINEAR) is None
            return ()

    engine = Engine(
        [("listener", (LINEAR,), Listener())],
        usdt=10**12, leverage=10**12, policy=FillPolicy(), limits=NO_LIMITS,
    )  # fmt: skip
    engine.step(book(1, "100.0x1", "100.1x1", snapshot=True))
    engine.step(book(2, "100.2x1"))
    engine.step(book(3, "100.2x2"))
    engine.step(book(4, "100.0x1", "100.1x1", snapshot=True))
    assert heard == [
        "BookUpdate", "FeedDown", "BookUpdate", "BookUpdate", "FeedUp", "BookUpdate",
    ]  # fmt: skip


# --- when answers are heard -----------------------------------------------------------------------


def test_without_latency_an_answer_is_heard_at_the_next_event() -> None:
    paper = Paper()
    paper.place(1, "Buy", 5, "100.1", "IOC")
    assert paper.script.answers() == []
    paper.book(2)
    assert paper.script.answers() == [(2, "Accepted"), (2, "Fill")]


def test_an_answer_is_heard_before_the_event_that_lets_it_be_heard() -> None:
    paper = Paper()
    paper.place(1, "Buy", 5, "100.0")
    paper.book(2)
    assert [type(event) for _, event in paper.script.heard[-2:]] == [Accepted, BookUpdate]


def test_an_answer_is_heard_after_the_response_latency_in_local_time() -> None:
    paper = Paper(latency_ms=10, response_ms=7)
    paper.place(1, "Buy", 5, "100.1", "IOC")
    for t in (11, 17.9, 18, 30):
        paper.book(t)
    assert paper.script.answers() == [(18, "Accepted"), (18, "Fill")]
    assert paper.made(Fill)[0].answer_ts == 18 * MS


def test_an_event_of_this_step_fills_and_is_heard_in_this_step() -> None:
    paper = Paper(queue="none")
    paper.place(1, "Buy", 5, "100.0")
    paper.trade(2, "Sell", "100.0", 5)
    assert [type(event) for _, event in paper.script.heard[-3:]] == [Accepted, Fill, Trade]


def test_a_strategy_sees_only_its_symbols_and_what_has_none() -> None:
    paper = Paper()
    paper.script.heard.clear()
    paper.step(trade(1, "Buy", "5", 1, symbol="linear:ETHUSDT"))
    paper.step(Tick(2 * MS))
    paper.step(FeedUp(3 * MS, LINEAR))
    paper.step(prediction(4, 0.1))
    assert [type(event).__name__ for _, event in paper.script.heard] == [
        "Tick",
        "FeedUp",
        "Prediction",
    ]


def test_one_orders_answers_come_in_order_when_the_clock_is_corrected() -> None:
    paper = Paper(queue="none", response_ms=5)
    paper.step(ClockOffset(0, 50 * MS))
    order = paper.place(60, "Buy", 5, "100.0")
    paper.trade(61, "Sell", "100.0", 2)
    paper.step(ClockOffset(61 * MS, 0))
    paper.cancel(62, order)
    for t in range(63, 130, 5):
        paper.book(t)
    assert [kind for _, kind in paper.script.answers()] == ["Accepted", "Fill", "Cancelled"]
    assert paper.view.position(LINEAR) == 2
    assert paper.view.orders(LINEAR) == []


# --- a strategy that answers answers --------------------------------------------------------------


def stubborn(event: Seen, view: View) -> Iterable[Decision] | None:
    """Sends the same hopeless order again whenever it fails."""
    if isinstance(event, Refusal | Rejected | Cancelled):
        return (view.limit(LINEAR, "Buy", 1e9, 100.0, tif="FOK"),)
    return None


@pytest.mark.parametrize("limits", [NO_LIMITS, RiskLimits(1, 1, 1, 10**9, 10**9)])
def test_a_strategy_that_never_gives_up_gets_one_answer_a_step(limits: RiskLimits) -> None:
    paper = Paper(script=Script(stubborn), limits=limits)
    paper.place(1, "Buy", 10**9, "100.0", "FOK")
    for t in range(2, 6):
        paper.book(t)
    assert len(paper.made(Order)) == 5


def test_a_refusal_is_heard_at_the_next_event() -> None:
    paper = Paper()
    paper.place(1, "Buy", 0, "100.0")
    assert [type(fact) for fact in paper.facts] == [Order, Refusal]
    assert paper.script.answers() == []
    paper.book(2)
    assert paper.script.answers() == [(2, "Refusal")]
    assert paper.engine._desk_of_order == {}


def test_decisions_pass_in_the_order_in_which_they_are_made() -> None:
    paper = Paper()
    first, second = paper.order(1, "Buy", 5, "100.0"), paper.order(1, "Sell", 5, "100.1")
    signal = Signal(1 * MS, "script", LINEAR, 1.0, "why not")
    facts = paper.say(1, signal, first, second, Cancel(1 * MS, first.id, LINEAR))
    assert [type(fact).__name__ for fact in facts] == [
        "Signal", "Order", "Accepted", "Order", "Accepted", "Cancel", "Cancelled",
    ]  # fmt: skip


def test_a_second_cancel_is_rejected_and_nobody_forgets() -> None:
    paper = Paper(latency_ms=10)
    order = paper.place(1, "Buy", 5, "100.0")
    paper.book(11)
    paper.cancel(12, order)
    paper.cancel(13, order)
    paper.book(30)
    assert paper.ends() == [
        ("Cancelled", 22, order, "EC_PerCancelRequest"),
        ("Rejected", 23, order, "110001"),
    ]
    paper.book(31)
    assert paper.engine._desk_of_order == {}


@pytest.mark.parametrize("change", ["amend", "cancel"])
def test_a_change_that_came_too_late_is_heard_of(change: str) -> None:
    paper = Paper(latency_ms=10, queue="none")
    order = paper.place(1, "Buy", 5, "100.0")
    paper.book(11)
    if change == "amend":
        paper.amend(12, order, qty=3)
    else:
        paper.cancel(12, order)
    paper.trade(13, "Sell", "100.0", 5)
    paper.book(30)
    paper.book(31)
    assert [kind for _, kind in paper.script.answers()] == ["Accepted", "Fill", "Rejected"]
    assert paper.engine._desk_of_order == {}
    assert paper.view.orders(LINEAR) == []


def test_an_amendment_that_was_taken_leaves_nothing_behind() -> None:
    paper = Paper(latency_ms=10, queue="none")
    order = paper.place(1, "Buy", 5, "100.0")
    paper.book(11)
    paper.amend(12, order, qty=3)
    paper.book(30)
    assert [(o.leaves, o.is_amending) for o in paper.view.orders(LINEAR)] == [(3, False)]
    paper.trade(31, "Sell", "100.0", 5)
    paper.book(32)
    assert paper.engine._desk_of_order == {}


# --- two strategies -------------------------------------------------------------------------------


def test_each_strategy_hears_of_its_own_orders_only() -> None:
    scripts = Script(), Script()
    engine = Engine(
        [("one", (LINEAR,), scripts[0]), ("two", (LINEAR,), scripts[1])],
        usdt=10**14,
        leverage=e12(10),
        policy=FillPolicy(queue="none"),
        limits=NO_LIMITS,
    )
    for event in (rules(), fees(), book(0, *TOUCH, snapshot=True)):
        engine.step(event)
    sides = ("Buy", "Sell")
    for script, side, desked in zip(scripts, sides, engine.desked, strict=True):
        desked.view.ts = MS
        script.lines = [desked.view.limit(LINEAR, side, 5, 100 if side == "Buy" else 100.1)]
    engine.step(Tick(MS, MS))
    engine.step(trade(2, "Sell", "100.0", 5, seq=9))
    assert scripts[0].answers() == [(2, "Accepted"), (2, "Fill")]
    assert scripts[1].answers() == [(2, "Accepted")]
    positions = [desked.view.position(LINEAR) for desked in engine.desked]
    assert (positions, engine.account.qty(LINEAR)) == ([5, 0], e12(5))


# --- commands -------------------------------------------------------------------------------------


def with_orders(**how: object) -> Paper:
    paper = Paper(**how)
    paper.place(1, "Buy", 10)
    paper.place(2, "Buy", 5, "99.0")
    paper.place(3, "Sell", 5, "101.0")
    paper.book(4)
    return paper


@pytest.mark.parametrize(
    ("name", "cancels", "closes", "state"),
    [("pause", 0, 0, "reducing"), ("resume", 0, 0, "active"), ("cancel_all", 2, 0, "active"),
     ("stop", 2, 0, "reducing"), ("halt", 2, 0, "halted"), ("flatten", 2, 1, "halted")],
)  # fmt: skip
def test_a_command_does_what_it_says(name: str, cancels: int, closes: int, state: str) -> None:
    paper = with_orders()
    facts = paper.command(5, name)
    assert sum(type(fact) is Cancelled for fact in facts) == cancels
    closing = [fact for fact in facts if type(fact) is Order]
    assert len(closing) == closes
    assert paper.engine.risk.state == state
    assert paper.account.qty(LINEAR) == (0 if closes else e12(10))
    for order in closing:
        assert (order.strategy, order.reduce_only, order.tag) == (COMMANDER, True, "flatten")
    paper.book(6)
    assert paper.view.orders(LINEAR) == [] or not cancels


def test_an_order_already_on_its_way_out_is_not_cancelled_twice() -> None:
    paper = with_orders(latency_ms=10)
    paper.book(20)
    paper.command(21, "cancel_all")
    facts = paper.command(22, "halt")
    assert facts == []


def test_a_flattened_short_is_bought_back() -> None:
    paper = Paper()
    paper.place(1, "Sell", 10)
    facts = paper.command(2, "flatten")
    assert [fact.side for fact in facts if type(fact) is Order] == ["Buy"]
    assert paper.account.qty(LINEAR) == 0
    paper.book(3)
    assert paper.engine._desk_of_order == {}
    assert paper.engine._commander.desk.orders == {}


def test_flattened_coins_are_sold_in_whole_steps() -> None:
    paper = Paper(symbol=SPOT, instrument=rules(SPOT, qty_step="0.01", min_qty="0.01"))
    paper.place(1, "Buy", 10, "100.1", "IOC")
    facts = paper.command(2, "flatten")
    assert [fact.qty for fact in facts if type(fact) is Order] == [Decimal("9.99")]
    assert paper.account.qty(SPOT) == e12("0.0045")
    assert paper.command(3, "flatten") == []


def test_a_command_reaches_the_strategies_first() -> None:
    paper = with_orders()
    paper.command(5, "pause")
    assert type(paper.script.heard[-1][1]).__name__ == "Command"


# --- the end, and memory --------------------------------------------------------------------------


def test_the_end_of_input_lets_everything_arrive() -> None:
    paper = Paper(latency_ms=100)
    order = paper.place(1, "Buy", 5, "100.1", "IOC")
    facts = paper.finish()
    assert [(type(f).__name__, f.order_id) for f in facts] == [("Accepted", order), ("Fill", order)]
    assert paper.finish() == []


def test_memory_does_not_grow_with_the_orders_that_are_done() -> None:
    paper = Paper(latency_ms=1, response_ms=1)
    t = 1.0
    for number in range(10_000):
        t += 10
        kind = number % 5
        if kind == 0:
            paper.place(t, "Buy", 1, "100.1", "IOC")
        elif kind == 1:
            paper.place(t, "Sell", 1, "100.0", "IOC")
        elif kind == 2:
            paper.place(t, "Buy", 0, "100.0")
        elif kind == 3:
            order = paper.place(t, "Buy", 1, "100.0")
            paper.tick(t + 3)
            paper.say(t + 4, Amend(round((t + 4) * MS), order, LINEAR, Decimal("99.9")))
            paper.cancel(t + 5, order)
            paper.cancel(t + 5, order)
        else:
            paper.place(t, "Buy", 1, "100.1", "PostOnly")
        if number % 100 == 0:
            paper.book(t + 8, "100.0x0", "100.1x0")
            paper.book(t + 9, *TOUCH, snapshot=True)
        paper.facts.clear()
        paper.script.heard.clear()
    paper.tick(t + 20)
    engine = paper.engine
    (orders,) = engine.exchange._symbols.values()
    assert engine._desk_of_order == {}
    assert engine._answers == []
    assert orders.pending == orders.buys == orders.sells == []
    assert paper.view.desk.orders == {}
    assert len(engine.risk.total._sent_ns) < 1000
    assert len(orders.taken_asks.marks) + len(orders.taken_bids.marks) <= 4
    assert list(engine.account.positions) == [LINEAR]
