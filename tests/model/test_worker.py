"""The thread: order, batching, overflow, failure. Threads meet at events, never at sleeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest

from bot.core.events import (
    BookUpdate,
    Candle,
    Event,
    FeedDown,
    Prediction,
    Tick,
    Ticker,
    Trade,
)
from bot.model import Forecaster, Worker, deviation
from tests.model.builders import (
    MS,
    SYMBOL,
    analyzer,
    book_checkpoint,
    book_stream,
    budget,
    candle,
    predictor,
)

PATIENCE_S = 30.0
OTHER = "linear:ETHUSDT"


class Recorder:
    """A forecaster that notes what it is told and can be held inside ``predict``."""

    wants: ClassVar[tuple[type[Event], ...]] = (BookUpdate, Trade, FeedDown, Candle)

    def __init__(self, symbol: str = SYMBOL) -> None:
        self.symbol = symbol
        self.taken: list[tuple[Event, int]] = []
        self.log: list[str] = []
        self.entered = threading.Event()
        self.release = threading.Event()
        self.release.set()
        self.ready = False

    @property
    def tokens(self) -> int:
        return len(self.taken)

    def take(self, event: Event, position: int) -> None:
        self.taken.append((event, position))
        self.log.append("take")
        self.ready = True

    def predict(self) -> Prediction | None:
        if not self.ready:
            return None
        self.ready = False
        self.entered.set()
        assert self.release.wait(PATIENCE_S)
        event, position = self.taken[-1]
        self.log.append("predict")
        return Prediction(
            ts=event.ts,
            symbol=self.symbol,
            model="recorder",
            read_position=position,
            read_ts=event.ts,
            ready_ts=event.ts,
            price=1.0,
            horizons=(),
        )

    def lost(self) -> None:
        self.log.append("lost")


class Outbox:
    """Collects predictions and failures, and waits for what is expected."""

    def __init__(self) -> None:
        self.predictions: list[Prediction] = []
        self.failures: list[BaseException] = []
        self._changed = threading.Condition()

    def publish(self, prediction: Prediction) -> None:
        with self._changed:
            self.predictions.append(prediction)
            self._changed.notify_all()

    def failed(self, error: BaseException) -> None:
        with self._changed:
            self.failures.append(error)
            self._changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_S)

    def wait_for_position(self, position: int) -> None:
        self.wait(lambda: any(p.read_position == position for p in self.predictions))


@contextmanager
def working(*forecasters: Forecaster, inbox: int = 1000) -> Iterator[tuple[Worker, Outbox]]:
    outbox = Outbox()
    worker = Worker(
        forecasters,
        inbox=inbox,
        publish=outbox.publish,
        failed=outbox.failed,
        clock_ns=lambda: 2**62,
    )
    worker.start()
    try:
        yield worker, outbox
    finally:
        for forecaster in forecasters:
            if isinstance(forecaster, Recorder):
                forecaster.release.set()
        worker.close()


def hold(worker: Worker, recorder: Recorder) -> None:
    """Keep the thread inside ``predict`` of the event at position 0."""
    recorder.release.clear()
    worker.offer(candle(0), 0)
    assert recorder.entered.wait(PATIENCE_S)


def test_events_arrive_in_order_and_only_those_wanted() -> None:
    recorder = Recorder()
    with working(recorder) as (worker, outbox):
        for position in range(50):
            worker.offer(candle(position), position)
            worker.offer(candle(position, symbol=OTHER), 1000)
            worker.offer(Tick(position), 1000)
            worker.offer(Ticker(position, 0, SYMBOL), 1000)
        outbox.wait_for_position(49)
    assert recorder.taken == [(candle(i), i) for i in range(50)]
    assert worker.counters().tokens == 50


def test_what_waits_is_read_at_once_and_answered_once() -> None:
    recorder = Recorder()
    with working(recorder) as (worker, outbox):
        hold(worker, recorder)
        for position in range(1, 20):
            worker.offer(candle(position), position)
        assert worker.counters().inbox == 19
        recorder.release.set()
        outbox.wait_for_position(19)
    assert [p.read_position for p in outbox.predictions] == [0, 19]
    assert recorder.log == ["take", "predict", *["take"] * 19, "predict"]
    counters = worker.counters()
    assert (counters.predictions, counters.inbox, counters.overflows) == (2, 0, 0)


def test_the_clock_stamps_what_is_published_and_latency_is_counted() -> None:
    with working(Recorder()) as (worker, outbox):
        worker.offer(candle(0), 7)
        outbox.wait_for_position(7)
    prediction = outbox.predictions[0]
    assert prediction.ts == prediction.ready_ts == 2**62
    assert prediction.read_ts == candle(0).ts
    latency = 2**62 - candle(0).ts
    counters = worker.counters()
    assert latency < counters.latency_p50_ns <= counters.latency_p99_ns <= latency * 1.25


def test_an_overflow_is_told_counted_and_leaves_the_newest_state() -> None:
    recorder = Recorder()
    stream = book_stream(60)
    with working(recorder, inbox=10) as (worker, outbox):
        hold(worker, recorder)
        for position, event in enumerate(stream, 1):
            worker.offer(event, position)
        assert worker.counters().inbox == 10
        recorder.release.set()
        outbox.wait(lambda: len(outbox.predictions) == 2)
    log = recorder.log
    assert log[:2] == ["take", "predict"]
    assert log[2:12] == ["take"] * 10
    assert log[12] == "lost"
    assert log[-1] == "predict"
    last, position = recorder.taken[-1]
    newest = max(i for i, event in enumerate(stream, 1) if isinstance(event, BookUpdate))
    assert (position, last.ts) == (newest, stream[newest - 1].ts)
    counters = worker.counters()
    assert counters.overflows == 1
    assert counters.lost_events == len(stream) - (len(recorder.taken) - 1) > 0


def test_after_an_overflow_the_inbox_serves_again() -> None:
    recorder = Recorder()
    with working(recorder, inbox=3) as (worker, outbox):
        hold(worker, recorder)
        for position in range(1, 9):
            worker.offer(candle(position), position)
        recorder.release.set()
        outbox.wait_for_position(8)
        worker.offer(candle(9), 9)
        outbox.wait_for_position(9)
    assert [position for _, position in recorder.taken] == [0, 1, 2, 3, 8, 9]
    assert worker.counters().overflows == 1


def test_only_forecasters_whose_events_were_lost_are_told() -> None:
    first, second = Recorder(), Recorder(OTHER)
    with working(first, second, inbox=2) as (worker, outbox):
        hold(worker, first)
        worker.offer(candle(1, symbol=OTHER), 1)
        worker.offer(candle(2, symbol=OTHER), 2)
        worker.offer(candle(1), 3)
        worker.offer(candle(2), 4)
        worker.offer(candle(3, symbol=OTHER), 5)
        first.release.set()
        outbox.wait_for_position(5)
        outbox.wait_for_position(4)
    assert "lost" in first.log
    assert "lost" not in second.log


def test_a_real_analyzer_recovers_its_book_and_its_answers_from_an_overflow() -> None:
    stream = book_stream(400)
    recorder = Recorder("spot:HOLD")
    with working(recorder, analyzer(), inbox=20) as (worker, outbox):
        recorder.release.clear()
        worker.offer(candle(0, symbol="spot:HOLD"), 0)
        assert recorder.entered.wait(PATIENCE_S)
        for position, event in enumerate(stream[:100], 1):
            worker.offer(event, position)
        recorder.release.set()
        for position, event in enumerate(stream[100:], 101):
            worker.offer(event, position)
            if isinstance(event, BookUpdate):
                outbox.wait_for_position(position)
    assert worker.counters().overflows == 1
    answers = [p for p in outbox.predictions if p.model == "analyzer"]
    assert answers[0].rebuilt
    assert not answers[-1].rebuilt
    undisturbed = analyzer()
    for position, event in enumerate(stream, 1):
        undisturbed.take(event, position)
        if position < len(stream):
            undisturbed.predict()
    expected = undisturbed.predict()
    assert expected is not None
    card = book_checkpoint().card
    assert answers[-1].price == expected.price
    assert deviation(answers[-1], expected, card.config) < card.tolerance


def test_a_failure_reaches_the_app_and_ends_the_thread() -> None:
    class Broken(Recorder):
        def take(self, event: Event, position: int) -> None:
            raise ArithmeticError(f"broken at {position}")

    with working(Broken()) as (worker, outbox):
        worker.offer(candle(0), 3)
        outbox.wait(lambda: bool(outbox.failures))
        worker.offer(candle(1), 4)
        assert worker.counters().inbox == 0
    assert [str(error) for error in outbox.failures] == ["broken at 3"]
    assert outbox.predictions == []


def test_closing_stops_without_reading_the_rest() -> None:
    recorder = Recorder()
    with working(recorder) as (worker, outbox):
        hold(worker, recorder)
        worker.offer(candle(1), 1)
        closer = threading.Thread(target=worker.close)
        closer.start()
        recorder.release.set()
        closer.join(PATIENCE_S)
        assert not closer.is_alive()
    assert [position for _, position in recorder.taken] == [0]
    assert outbox.failures == []


def test_a_worker_that_never_started_closes() -> None:
    Worker([], inbox=1, publish=print, failed=print, clock_ns=lambda: 0).close()


def test_what_the_thread_begins_with_is_done_there_and_first() -> None:
    begun: list[int] = []
    done = threading.Event()

    def begin() -> None:
        begun.append(threading.get_ident())
        done.set()

    worker = Worker([], inbox=1, publish=print, failed=print, clock_ns=lambda: 0, begin=begin)
    worker.start()
    assert done.wait(PATIENCE_S)
    worker.close()
    assert begun != [threading.get_ident()]
    assert len(begun) == 1


def test_an_inbox_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0"):
        Worker([], inbox=0, publish=print, failed=print, clock_ns=lambda: 0)


def test_both_models_share_one_thread_and_one_budget() -> None:
    caches = budget()
    forecasters = [predictor(caches), analyzer(caches), analyzer(caches, OTHER)]
    with working(*forecasters) as (worker, outbox):
        for position, event in enumerate(book_stream(40)):
            worker.offer(event, position)
        for position, event in enumerate(book_stream(40, symbol=OTHER), 40):
            worker.offer(event, position)
        worker.offer(candle(0, late_ns=MS), 80)
        outbox.wait(lambda: len({(p.model, p.symbol) for p in outbox.predictions}) == 3)
    assert caches.metrics().sequences == 3
