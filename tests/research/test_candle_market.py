"""Bars into events, and the fills that the one exchange makes of them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from bot.core.engine import Engine
from bot.core.events import (
    BookUpdate,
    Candle,
    Fact,
    FeedDown,
    FeedUp,
    Fees,
    Fill,
    Order,
    Prediction,
    Trade,
)
from bot.core.instrument import to_e8, to_e12
from bot.core.latency import Latency
from bot.core.matching import FillPolicy
from bot.research.bar_path import WorstPaths
from bot.research.candle_market import CandleMarket, guessed_rules
from tests.builders import LINEAR, NO_LIMITS, Script, rules

MINUTE = 60 * 10**9
D = Decimal


def bar(number: int, opened: str, high: str, low: str, close: str, symbol: str = LINEAR) -> Candle:
    start = number * MINUTE
    return Candle(start + MINUTE, start + MINUTE, symbol, "1", start, D(opened), D(high), D(low),
                  D(close), D("1.25"), D(0))  # fmt: skip


def events(*bars: Candle, spread: str = "0.002") -> list:
    symbols = {each.symbol: ("1", MINUTE) for each in bars}
    return [*CandleMarket(bars, symbols, spread=to_e12(D(spread)))]


OPENING = [rules(LINEAR, qty_step="0.001", min_qty="0.001"), Fees(0, "linear", D(0), D(0))]


def engine_of(strategy: Callable) -> Engine:
    return Engine(
        [("script", (LINEAR,), Script(strategy))], usdt=to_e8(D(1_000_000)), leverage=10**13,
        policy=FillPolicy(order_latency=Latency(1_000_000)), limits=NO_LIMITS,
    )  # fmt: skip


def run(strategy: Callable, bars: list[Candle], spread: str = "0.002") -> list[Fact]:
    engine, made = engine_of(strategy), []
    inputs = [*OPENING, *events(*bars, spread=spread)]
    for event in WorstPaths(inputs, engine, frozenset([LINEAR]), to_e12(D(spread))):
        made += engine.step(event)
    return made


def flat(number: int) -> Candle:
    return bar(number, "100", "100.5", "99.5", "100")


def fills(facts: list[Fact]) -> list[Fill]:
    return [fact for fact in facts if type(fact) is Fill]


def on_close(number: int, decide: Callable) -> Callable:
    """A decision on the close of one bar."""

    def on_event(event, view):
        if isinstance(event, Candle) and event.open_ts == number * MINUTE:
            return [decide(view)]
        return None

    return on_event


BARS = [bar(1, "100", "101", "99", "100"), bar(2, "102", "104", "97", "103"),
        bar(3, "103", "105", "101", "104")]  # fmt: skip


def test_a_market_order_fills_at_the_next_open_plus_or_minus_half_the_spread():
    bought = fills(run(on_close(1, lambda view: view.market(LINEAR, "Buy", 1)), BARS))
    sold = fills(run(on_close(1, lambda view: view.market(LINEAR, "Sell", 1)), BARS))
    assert [(f.price, f.qty, f.maker) for f in bought] == [(D("102.102"), 1, False)]
    assert [(f.price, f.qty, f.maker) for f in sold] == [(D("101.898"), 1, False)]


def limit(side: str, price: float) -> list[Fill]:
    decide = on_close(1, lambda view: view.limit(LINEAR, side, 1, price))
    return fills(run(decide, BARS[:2], spread="0"))


def test_a_limit_order_fills_only_where_the_bar_trades_strictly_through_it():
    assert [(f.price, f.maker) for f in limit("Buy", 97.1)] == [(D("97.1"), True)]
    assert limit("Buy", 97.0) == []
    assert [(f.price, f.maker) for f in limit("Sell", 103.9)] == [(D("103.9"), True)]
    assert limit("Sell", 104.0) == []


def test_a_touch_at_the_next_open_is_no_fill_without_a_spread():
    bars = [BARS[0], bar(2, "98", "99", "97", "98"), bar(3, "96", "97", "96", "97")]
    decide = on_close(1, lambda view: view.limit(LINEAR, "Buy", 1, 96))
    assert fills(run(decide, bars, spread="0")) == []


def test_events_are_in_the_order_of_exchange_time_and_closes_come_before_opens():
    other = [bar(n, "10", "11", "9", "10", "linear:ETHUSDT") for n in (1, 2, 3)]
    mixed = [each for pair in zip(BARS, other, strict=True) for each in pair]
    made = events(*mixed)
    stamps = [event.exchange_ts for event in made]
    assert stamps == sorted(stamps)
    at_close = [event for event in made if 2 * MINUTE <= event.exchange_ts <= 2 * MINUTE + 1]
    assert [type(event) for event in at_close] == [
        Candle,
        Candle,
        Trade,
        BookUpdate,
        Trade,
        BookUpdate,
    ]


def test_no_event_before_a_bars_end_tells_of_the_bar_but_its_open():
    one = events(BARS[0], BARS[1])
    other = events(BARS[0], bar(2, "102", "200", "1", "7"))
    before = [e for e in one if e.exchange_ts < 3 * MINUTE - 5_000_000]
    assert before == [e for e in other if e.exchange_ts < 3 * MINUTE - 5_000_000]


def test_a_missing_bar_takes_the_market_down_until_the_next_opens():
    made = events(BARS[0], BARS[2])
    downs = [(type(e), e.exchange_ts) for e in made if isinstance(e, FeedDown | FeedUp)]
    assert downs == [(FeedUp, MINUTE + 1), (FeedDown, 2 * MINUTE + 2), (FeedUp, 3 * MINUTE + 1)]


def test_a_flat_bar_trades_through_nothing():
    assert not [e for e in events(bar(1, "5", "5", "5", "5")) if isinstance(e, Trade) and e.qty]


def test_guessed_rules_are_the_grid_on_which_bars_are_written():
    found = guessed_rules([bar(1, "100.05", "101", "99.5", "100")])
    assert (found.tick_size, found.qty_step, found.base) == (D("0.01"), D("0.01"), "BTC")


# --- stops and targets ------------------------------------------------------------------------

BRACKETS = [  # side, stop, target, the bar after the entry at 100, what fills and at what
    ("Buy", 98, 103, ("100", "104", "97", "103.5"), ("StopLoss", "98")),
    ("Sell", 102, 97, ("100", "103", "96", "96.5"), ("StopLoss", "102")),
    ("Buy", 98, 103, ("100", "104", "99", "101"), ("TakeProfit", "103")),
    ("Sell", 102, 97, ("100", "101", "96", "99"), ("TakeProfit", "97")),
    ("Buy", 98, 103, ("100", "101", "98", "101"), ("StopLoss", "98")),  # touched is met
    ("Buy", 98, 103, ("96", "104", "95", "101"), ("StopLoss", "96")),  # at the open beyond it
    ("Sell", 102, 97, ("95", "103", "94", "101"), ("TakeProfit", "95")),
    ("Buy", 98, 103, ("100", "102.9", "98.1", "99"), None),
]


@pytest.mark.parametrize(("side", "stop", "target", "next_", "expected"), BRACKETS)
def test_a_bar_meets_exits_at_their_price_and_the_stop_before_the_target(
    side, stop, target, next_, expected
):
    def decide(view):
        return view.market(LINEAR, side, 1, stop_loss=stop, take_profit=target)

    made = run(on_close(1, decide), [flat(1), flat(2), bar(3, *next_), flat(4)], spread="0")
    tags = {fact.id: fact.tag for fact in made if type(fact) is Order}
    got = [(tags[fill.order_id], fill.price) for fill in fills(made)[1:]]
    if expected is None:
        assert got == []
    else:
        ((tag, price),) = got
        assert (tag, round(price, 6)) == (expected[0], D(expected[1]))


def test_a_stop_order_goes_before_a_limit_order_that_takes_the_profit():
    def decide(view):
        yield view.market(LINEAR, "Sell", 1)
        yield view.stop(LINEAR, "Buy", 1, 102, reduce_only=True)
        yield view.limit(LINEAR, "Buy", 1, 97, reduce_only=True)

    def on_event(event, view):
        return decide(view) if isinstance(event, Candle) and event.open_ts == MINUTE else None

    wild = bar(3, "100", "103", "96", "96.5")
    made = fills(run(on_event, [flat(1), flat(2), wild, flat(4)], spread="0.002"))
    assert [(f.side, f.price) for f in made] == [("Sell", D("99.9")), ("Buy", D("102.102"))]


def test_the_exit_of_an_order_that_a_bar_fills_is_met_in_the_same_bar():
    decide = on_close(1, lambda view: view.limit(LINEAR, "Buy", 1, 99, stop_loss=98))
    made = fills(run(decide, [flat(1), bar(2, "100", "101", "97", "100")], spread="0"))
    assert [(f.side, round(f.price, 6)) for f in made] == [("Buy", 99), ("Sell", 98)]


def test_a_trigger_watches_the_close_and_not_the_last_extreme():
    asked = []

    def on_event(event, view):
        if isinstance(event, Candle) and event.open_ts == MINUTE:
            asked.append(view.stop(LINEAR, "Buy", 1, 102))
            return asked
        return None

    wild = bar(1, "100", "105", "95", "100")
    made = run(on_event, [wild, flat(2), bar(3, "100", "103", "99", "100")], spread="0")
    assert asked[0].trigger_direction == "rise"
    assert [round(f.price, 6) for f in fills(made)] == [102]


def test_what_is_put_between_counts_in_what_a_prediction_has_read():
    said = [Prediction(3 * MINUTE + 9, LINEAR, "m", position, 0, 0, 100.0, ()) for position in
            (3, 9, 11)]  # fmt: skip
    decide = on_close(1, lambda view: view.market(LINEAR, "Buy", 1, stop_loss=98))
    engine = engine_of(decide)
    source = [*OPENING, *events(flat(1), flat(2), bar(3, "100", "101", "97", "100"))]
    got = []
    for event in WorstPaths([*source, *said], engine, frozenset([LINEAR]), 0):
        got.append(event)
        engine.step(event)
    assert len(got) == len(source) + len(said) + 2
    places = [next(n for n, each in enumerate(got) if each is event) for event in source]
    assert [each.read_position for each in got[-3:]] == [3, places[9], places[11]]
