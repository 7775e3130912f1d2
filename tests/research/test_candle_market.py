"""Bars into events, and the fills that the one exchange makes of them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from bot.core.engine import Engine
from bot.core.events import BookUpdate, Candle, Fact, FeedDown, FeedUp, Fees, Fill, Trade
from bot.core.instrument import to_e8, to_e12
from bot.core.latency import Latency
from bot.core.matching import FillPolicy
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


def run(strategy: Callable, bars: list[Candle], spread: str = "0.002") -> list[Fact]:
    engine = Engine(
        [("script", (LINEAR,), Script(strategy))], usdt=to_e8(D(1_000_000)), leverage=10**13,
        policy=FillPolicy(order_latency=Latency(1_000_000)), limits=NO_LIMITS,
    )  # fmt: skip
    made: list[Fact] = []
    opening = [rules(LINEAR, qty_step="0.001", min_qty="0.001"), Fees(0, "linear", D(0), D(0))]
    for event in [*opening, *events(*bars, spread=spread)]:
        made += engine.step(event)
    return made


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
    assert [type(event) for event in at_close] == [Candle, Candle, BookUpdate, BookUpdate]


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
    assert not [e for e in events(bar(1, "5", "5", "5", "5")) if isinstance(e, Trade)]


def test_guessed_rules_are_the_grid_on_which_bars_are_written():
    found = guessed_rules([bar(1, "100.05", "101", "99.5", "100")])
    assert (found.tick_size, found.qty_step, found.base) == (D("0.01"), D("0.01"), "BTC")
