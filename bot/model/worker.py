"""The inference thread beside the loop, and nothing else that knows of threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

import torch
from msgspec import Struct
from msgspec.structs import replace

from bot.core.events import Event, Prediction
from bot.core.histogram import LatencyHistogram
from bot.model.backlog import Backlog
from bot.model.forecast import Forecaster


class WorkerCounters(Struct, frozen=True):
    """Counters since the start. ``latency`` is from an event's ``ts`` to its prediction."""

    tokens: int
    predictions: int
    inbox: int
    """Events that wait now."""
    overflows: int
    """Times that the inbox was full; each time the forecasters concerned read past a hole."""
    lost_events: int
    """Events that were merged or dropped while it was full."""
    latency_p50_ns: int
    latency_p99_ns: int
    latency_buckets: list[tuple[int, int]]
    """(upper edge in ns, predictions), empty buckets left out."""


class Worker:
    """Feeds forecasters on a thread of its own and publishes what they say.

    ``offer`` is for the loop's thread alone. ``publish`` and ``failed`` are called on the worker's
    thread; after ``failed`` the thread is gone and offers are ignored.

    When events wait, all of them are read, their tokens appended in one step, and each forecaster
    predicts once. When the inbox overflows, what does not fit is folded (see ``backlog.py``): books
    stay right, the forecasters concerned are told of the hole, and their predictions say
    ``rebuilt`` until it is out of reach.
    """

    def __init__(
        self,
        forecasters: Sequence[Forecaster],
        *,
        inbox: int,
        publish: Callable[[Prediction], None],
        failed: Callable[[BaseException], None],
        clock_ns: Callable[[], int],
        threads: int = 1,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        """``begin`` is called first of all on the thread."""
        if inbox < 1:
            raise ValueError(f"inbox must hold at least one event, got {inbox}")
        self._forecasters = tuple(forecasters)
        self._limit = inbox
        self._publish = publish
        self._failed = failed
        self._clock_ns = clock_ns
        self._threads, self._begin = threads, begin
        self._wanted: dict[type, dict[str, list[Forecaster]]] = {}
        for forecaster in forecasters:
            for kind in forecaster.wants:
                by_symbol = self._wanted.setdefault(kind, {})
                by_symbol.setdefault(forecaster.symbol, []).append(forecaster)
        self._inbox: deque[tuple[Event, int]] = deque()
        self._awake = threading.Event()
        self._lock = threading.Lock()  # guards the backlog
        self._backlog: Backlog | None = None
        self._stopping = False
        self._predictions = self._overflows = self._lost = 0
        self._latency = LatencyHistogram()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)

    # --- the loop's side --------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def offer(self, event: Event, position: int) -> None:
        """Hand over an event; never blocks, and drops at once what no forecaster wants."""
        by_symbol = self._wanted.get(type(event))
        if by_symbol is None or self._stopping:
            return
        symbol: str = event.symbol  # type: ignore[union-attr] # every wanted type has one
        if symbol not in by_symbol:
            return
        if self._backlog is not None or len(self._inbox) >= self._limit:
            self._fold(event, symbol, position)
        else:
            self._inbox.append((event, position))
        if not self._awake.is_set():
            self._awake.set()

    def close(self) -> None:
        """Stop after the step in hand and wait for the thread; what waits is dropped."""
        self._stopping = True
        self._awake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def counters(self) -> WorkerCounters:
        return WorkerCounters(
            tokens=sum(forecaster.tokens for forecaster in self._forecasters),
            predictions=self._predictions,
            inbox=len(self._inbox),
            overflows=self._overflows,
            lost_events=self._lost,
            latency_p50_ns=self._latency.quantile(0.5),
            latency_p99_ns=self._latency.quantile(0.99),
            latency_buckets=self._latency.buckets(),
        )

    def drift(self) -> dict[str, float]:
        """How far each model's inputs of late are from what it learned from, the worst symbol's
        population stability index; models that cannot tell are left out."""
        found: dict[str, float] = {}
        for forecaster in self._forecasters:
            index = forecaster.drift
            if index is not None:
                found[forecaster.model] = max(index, found.get(forecaster.model, 0.0))
        return found

    def _fold(self, event: Event, symbol: str, position: int) -> None:
        with self._lock:
            if self._backlog is None:
                self._backlog = Backlog()
                self._overflows += 1
            self._backlog.fold(event, symbol, position)

    # --- the thread's side ------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._begin()
            torch.set_num_threads(self._threads)
            while True:
                self._awake.wait()
                self._awake.clear()
                if self._stopping:
                    return
                self._read_waiting()
                self._predict()
        except BaseException as error:  # noqa: BLE001 - a thread's rim: the app decides
            self._stopping = True
            self._failed(error)

    def _read_waiting(self) -> None:
        # once there is a backlog the loop adds to it alone, so the inbox is older than all of it
        overflowed = self._backlog is not None
        waiting = len(self._inbox)
        while self._inbox if overflowed else waiting:
            self._read(*self._inbox.popleft())
            waiting -= 1
        if overflowed:
            with self._lock:
                backlog, self._backlog = self._backlog, None
            assert backlog is not None
            self._lost += backlog.lost.total()
            for kind, symbol in backlog.lost:
                for forecaster in self._wanted[kind][symbol]:
                    forecaster.lost()
            for event, position in backlog.events():
                self._read(event, position)

    def _read(self, event: Event, position: int) -> None:
        symbol: str = event.symbol  # type: ignore[union-attr] # every wanted type has one
        for forecaster in self._wanted[type(event)][symbol]:
            forecaster.take(event, position)

    def _predict(self) -> None:
        for forecaster in self._forecasters:
            if self._stopping:
                return
            prediction = forecaster.predict()
            if prediction is None:
                continue
            now = max(self._clock_ns(), prediction.read_ts)
            self._latency.add(now - prediction.read_ts)
            self._predictions += 1
            self._publish(replace(prediction, ts=now, ready_ts=now))
