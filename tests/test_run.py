"""The path of one message: input to events to step to facts, and what is counted on the way."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from bot import build
from bot.config import Settings
from bot.core.events import (
    Accepted,
    BookUpdate,
    Command,
    Connected,
    Event,
    Fact,
    FeedDown,
    FeedUp,
    Frame,
    Horizon,
    Instrument,
    Order,
    Prediction,
    Tick,
    Trade,
)
from bot.run import EQUITY_EVERY_NS, Memory, Run, Sink, money
from bot.scoring import Scored
from tests.venue.feed import CONN, T0_MS, book, snapshot, text_of, trade

SYMBOL = "linear:BTCUSDT"
T0 = T0_MS * 1_000_000
S = 10**9


class Rows:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, Event | None, list[Fact]]] = []
        self.equity: list[tuple[int, int, Decimal, Decimal]] = []
        self.scores: list[tuple[int, Scored]] = []

    def add(self, position: int, event: Event | None, facts: Sequence[Fact]) -> None:
        self.steps.append((position, event, list(facts)))

    def add_equity(self, position: int, ts: int, equity: Decimal, wallet: Decimal) -> None:
        self.equity.append((position, ts, equity, wallet))

    def add_scores(self, position: int, scored: Sequence[Scored]) -> None:
        self.scores += [(position, one) for one in scored]

    @property
    def facts(self) -> list[Fact]:
        return [fact for _, _, facts in self.steps for fact in facts]


def run_of(*strategies: dict[str, Any], sink: Sink | None = None, **more: Any) -> tuple[Run, Rows]:
    """A run whose symbol has its rules, its fees and a connection."""
    settings = Settings(symbols=(SYMBOL,), strategies=strategies)
    rows = Rows()
    run = Run(build.engine(settings), sink or rows, **more)
    number = Decimal
    run.take(Instrument(T0, T0, SYMBOL, "BTC", "USDT", number("0.1"), number("0.001"),
                        number("0.001"), number(5)))  # fmt: skip
    for fees in build.fees(settings, T0):
        run.take(fees)
    run.take(Connected(T0, CONN, "linear"))
    return run, rows


def frame(body: dict | bytes, after_s: float = 0.0) -> Frame:
    data = body if isinstance(body, bytes) else text_of(body)
    return Frame(T0 + round(after_s * S), CONN, data)


MAKER = {"use": "strategies.market_maker.MarketMaker", "params": {"requote_ms": 0}}


def test_a_position_counts_inputs_and_every_event_is_stepped():
    run, _ = run_of()
    assert (run.position, run.events) == (4, 3)
    run.take(frame(snapshot()))
    assert (run.position, run.events, run.frames) == (5, 5, 1)
    run.take(frame(b"junk"))
    assert (run.position, run.events, run.frames, run.skipped) == (6, 5, 2, 1)


def test_facts_stand_at_the_position_of_their_cause_and_frequent_events_alone_at_none():
    run, rows = run_of(MAKER)
    run.take(frame(snapshot()))
    run.take(frame(trade()))
    run.take(frame(book(11)))
    kinds = [(position, type(event)) for position, event, _ in rows.steps[3:]]
    assert kinds[:2] == [(4, FeedUp), (4, BookUpdate)]
    assert (5, Trade) not in kinds
    assert [type(fact) for fact in rows.steps[4][2]] == [Order, Order]
    assert run.counts["orders"] == 2
    assert run.counts["facts"] == len(rows.facts)


def test_a_gap_counts_once_its_book_was_live():
    run, rows = run_of()
    run.take(FeedDown(T0, SYMBOL, "never seen"))
    assert run.counts["gaps"] == 0
    run.take(frame(snapshot(10)))
    run.take(frame(book(12)))
    run.take(frame(book(13)))
    run.take(frame(snapshot(20)))
    assert run.counts["gaps"] == 1
    told = [event for _, event, _ in rows.steps if isinstance(event, FeedDown | FeedUp)]
    assert [type(event) for event in told] == [FeedDown, FeedUp, FeedDown, FeedUp]


def test_a_book_that_crosses_is_a_gap_for_sink_and_watchers_until_a_snapshot():
    seen: list[Event] = []
    run, rows = run_of()
    run.watchers.append(lambda position, event, facts: seen.append(event))
    run.take(frame(snapshot(10)))
    run.take(frame(book(11, [("65114.90", "1")])))
    run.take(frame(book(12)))
    run.take(frame(snapshot(20)))
    told = [event for _, event, _ in rows.steps if isinstance(event, FeedDown | FeedUp)]
    assert [(type(event), getattr(event, "reason", "")) for event in told] == [
        (FeedUp, ""), (FeedDown, "best bid above best ask"), (FeedUp, ""),
    ]  # fmt: skip
    assert [event for event in seen if isinstance(event, FeedDown | FeedUp)] == told
    assert run.counts["gaps"] == 1


def test_a_watcher_sees_every_event_after_its_step_with_its_facts():
    seen: list[tuple[int, type, int]] = []
    run, _ = run_of(MAKER)
    run.watchers.append(
        lambda position, event, facts: seen.append((position, type(event), len(facts)))
    )
    run.take(frame(snapshot()))
    run.take(frame(trade()))
    assert seen == [(4, FeedUp, 0), (4, BookUpdate, 2), (5, Trade, 0)]


def test_a_problem_is_told_in_one_line_each_and_once():
    lines: list[str] = []
    run, _ = run_of(warn=lines.append)
    run.take(frame(b"junk"))
    run.take(frame({"topic": "mystery", "data": 1}))
    run.take(frame(snapshot()))
    assert len(lines) == 2
    assert lines[0].startswith("linear.1: skipped a frame (malformed): ")
    assert lines[1] == "linear.1: skipped a frame (unknown topic): 'mystery'"


def test_predictions_are_counted_and_untrained_models_named():
    run, rows = run_of()
    horizons = (Horizon(S, 0.0, 0.5, 0.0),)
    for model, trained in (("analyzer", False), ("predictor", True), ("analyzer", False)):
        run.take(Prediction(T0, SYMBOL, model, 3, T0, T0, 1.0, horizons, trained=trained))
    assert run.counts["predictions"] == 3
    assert run.untrained == {"analyzer"}
    assert sum(isinstance(event, Prediction) for _, event, _ in rows.steps) == 3


def test_equity_is_kept_every_10_s_and_at_the_end():
    run, rows = run_of()
    for second in range(25):
        run.take(Tick(T0 + second * S))
    run.finish()
    assert EQUITY_EVERY_NS == 10 * S
    stamps = [(ts - T0) / S for _, ts, _, _ in rows.equity]
    assert stamps[:3] == [0, 10, 20]
    assert len(stamps) == 4
    assert rows.equity[-1][2:] == (Decimal(10_000), Decimal(10_000))


def test_what_still_travels_at_the_end_of_the_input_arrives():
    run, rows = run_of(MAKER)
    run.take(frame(snapshot()))
    assert not [fact for fact in rows.facts if isinstance(fact, Accepted)]
    run.finish()
    position, event, facts = rows.steps[-1]
    assert (position, event) == (4, None)
    assert [type(fact) for fact in facts] == [Accepted, Accepted]


def test_only_a_stop_ends_a_run():
    run, _ = run_of()
    for name in ("pause", "resume", "cancel_all"):
        run.take(Command(T0, name, "test"))
        assert not run.has_ended
    run.take(Command(T0, "stop", "test"))
    assert run.has_ended


def test_the_same_inputs_give_the_same_digest_and_exact_money():
    def once() -> tuple[str, dict[str, Decimal]]:
        memory = Memory()
        run, _ = run_of(MAKER, sink=memory)
        run.take(frame(snapshot()))
        for number in range(50):
            hit = trade("65100.00", "1", seq=8000 + number, T=T0_MS + number * 1000)
            run.take(frame(hit, number))
        run.finish()
        assert run.counts["fills"] > 0
        return memory.digest.hexdigest(), money(run)

    digest, amounts = once()
    assert once() == (digest, amounts)
    # 0.003 BTC at 65107.7, a half spread below the mid, at the maker's rate
    assert amounts["fees"] == Decimal("0.03906462")
    assert (amounts["realized_pnl"], amounts["funding"]) == (0, 0)
