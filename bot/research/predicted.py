"""A recorded market with its predictions in their places, as a live run would have queued them.

Inputs are read some thousands ahead, so that models take their tokens in pieces. What a prediction
knows is not changed by that: it stands behind everything that it has read, at the time at which it
is ready, and a token never depends on a later one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from msgspec import Struct
from msgspec.structs import replace

from bot.core.events import (
    BookUpdate,
    Candle,
    Command,
    Event,
    FeedDown,
    Horizon,
    Input,
    Prediction,
    Tick,
    Trade,
)
from bot.core.market import Market
from bot.model import Card, ChunkedStream, Forecaster
from bot.run import WARMUP
from bot.venue.wire import Codec

AHEAD_INPUTS = 65_536
"""Inputs that are read ahead at most."""
_FIRST_INPUTS = AHEAD_INPUTS // 16
"""Inputs of the first piece, which nothing is stepped beside; each later one has twice as many."""


class Reader(Struct, frozen=True):
    """A forecaster over a ``ChunkedStream``, its model's card, and the time that it takes."""

    forecaster: Forecaster
    stream: ChunkedStream
    card: Card
    latency_ns: int


class _Mark(Struct, gc=False):
    """What one event did to one reader. ``token`` is -1 where it completed none."""

    reader: int
    token: int
    is_ready: bool
    price: float


class _Read(Struct):
    """Inputs that have been read, and what some of them, by their place here, did."""

    items: list[Input] = []
    marks: dict[int, list[_Mark]] = {}


class _Piece(Struct):
    """What has been read, and each reader's predictions under way."""

    read: _Read
    horizons: list[Future[list[tuple[Horizon, ...]]]]


class _Said(Struct):
    """A reader's newest token that has been read, and the last event's place."""

    token: int = -1
    is_ready: bool = False
    price: float = 0.0
    position: int = 0
    ts: int = 0


class PredictedFeed:
    """Inputs in, inputs with predictions out.

    ``begin`` gives readers that have read nothing: at the start, and where a recording's process
    started anew. ``is_recorded``: the input has predictions; each keeps its times and its read
    position, and gets the values that these models say there. Otherwise one inference thread is
    modelled: it reads all that waits, then every reader with something new answers in turn, each
    taking its time; what comes meanwhile waits. ``ahead_tokens`` of one sequence are read at once.
    """

    def __init__(
        self,
        inputs: Iterable[Input],
        begin: Callable[[], Sequence[Reader]],
        *,
        is_recorded: bool = False,
        ahead_tokens: int,
    ) -> None:
        self._inputs = inputs
        self._begin = begin
        self._is_recorded = is_recorded
        self._ahead_tokens = ahead_tokens
        self._ahead_inputs = _FIRST_INPUTS
        self._events = _Events()
        self._readers: Sequence[Reader] = ()
        self._placer: _Placer | None = None
        self.tokens = 0

    def __iter__(self) -> Iterator[Input]:
        """One piece is read and its predictions are begun while the piece before is stepped."""
        with ThreadPoolExecutor(1, "inference") as thread:
            ahead, begun = _Read(), None
            self._start()
            for item in self._inputs:
                if type(item) is Command and self._has_begun_anew(item):
                    yield from self._placed(begun)
                    yield from self._placed(self._predict(ahead, thread))
                    ahead, begun = _Read(), None
                    self._start()
                if self._take(item, ahead):
                    piece = self._predict(ahead, thread)
                    yield from self._placed(begun)
                    ahead, begun = _Read(), piece
                    self._ahead_inputs = min(2 * self._ahead_inputs, AHEAD_INPUTS)
            piece = self._predict(ahead, thread)
            yield from self._placed(begun)
            yield from self._placed(piece)
            assert self._placer is not None
            yield from self._placer.rest()

    def _take(self, item: Input, ahead: _Read) -> bool:
        """Read one input; whether that is enough for a piece."""
        items = ahead.items
        items.append(item)
        if type(item) not in self._unread:
            marks = self._read(item)
            if marks:
                ahead.marks[len(items) - 1] = marks
                if self._is_full(marks):
                    return True
        return len(items) >= self._ahead_inputs

    def _is_full(self, marks: list[_Mark]) -> bool:
        """Whether one of the readers that were just given something has enough to read."""
        readers, most = self._readers, self._ahead_tokens
        return any(readers[mark.reader].stream.waiting >= most for mark in marks)

    def _has_begun_anew(self, item: Command) -> bool:
        is_start = (item.name, item.source) == ("pause", WARMUP)
        return is_start and any(reader.stream.tokens for reader in self._readers)

    def _start(self) -> None:
        self._readers = self._begin()
        position = self._placer.position if self._placer is not None else 0
        kind = _RecordedPlaces if self._is_recorded else _Placer
        self._placer = kind(self._readers, position)
        self._wanted: dict[tuple[type, str], list[int]] = {}
        for index, reader in enumerate(self._readers):
            for wanted in reader.forecaster.wants:
                key = (wanted, reader.forecaster.symbol)
                self._wanted.setdefault(key, []).append(index)
        wanted_types = {wanted for wanted, _ in self._wanted}
        self._unread = _TOLD_AS_THEY_ARE - wanted_types
        if not wanted_types & {BookUpdate, FeedDown}:
            self._unread |= {BookUpdate}  # nobody hears of the gaps that follow from them

    def _read(self, item: Input) -> list[_Mark]:
        marks: list[_Mark] = []
        for event in self._events.of(item):
            symbol = getattr(event, "symbol", "")
            for index in self._wanted.get((type(event), symbol), ()):
                forecaster = self._readers[index].forecaster
                before = forecaster.tokens
                forecaster.take(event, 0)
                token = before if forecaster.tokens > before else -1
                marks.append(_Mark(index, token, forecaster.ready, forecaster.price))
        return marks

    def _predict(self, ahead: _Read, thread: ThreadPoolExecutor) -> _Piece:
        """Begin the predictions of what has been read."""
        made = []
        for reader in self._readers:
            tokens = reader.stream.collect()
            self.tokens += len(tokens)
            made.append(thread.submit(reader.stream.advance, tokens))
        return _Piece(ahead, made)

    def _placed(self, piece: _Piece | None) -> Iterator[Input]:
        placer = self._placer
        assert placer is not None
        if piece is None:
            return
        for index, horizons in enumerate(piece.horizons):
            placer.learn(index, horizons.result())
        yield from placer.place(piece.read)


_TOLD_AS_THEY_ARE: frozenset[type] = frozenset((Trade, Candle, Tick))
"""Events that no frame hides and no gap follows from."""


class _Events:
    """The events of an input as a run's watchers see them, the gaps found by the market too."""

    def __init__(self) -> None:
        self._codec = Codec()
        self._market = Market()

    def of(self, item: Input) -> Sequence[Event]:
        if type(item) in _TOLD_AS_THEY_ARE:
            return (item,)  # type: ignore[return-value]
        events = self._codec.decode(item)
        self._codec.problems.clear()
        notices = self._market.notices
        seen: list[Event] = []
        for event in events:
            if type(event) is BookUpdate:
                self._market.apply_book(event)
            elif type(event) is FeedDown:
                self._market.apply(event)
            seen.append(event)
            seen += notices
            notices.clear()
        return seen


class _Placer:
    """One inference thread, modelled. ``position`` counts the inputs that were given on."""

    def __init__(self, readers: Sequence[Reader], position: int) -> None:
        self._readers = readers
        self.position = position
        self._horizons: list[tuple[int, list[tuple[Horizon, ...]]]] = [(0, []) for _ in readers]
        self._said = [_Said() for _ in readers]
        self._waiting: list[tuple[int, int, list[_Mark]]] = []
        self._coming: deque[Prediction] = deque()
        self._busy_until = 0

    def learn(self, index: int, horizons: list[tuple[Horizon, ...]]) -> None:
        """Take in what a reader says of its next tokens; older than its last said are dropped."""
        first, known = self._horizons[index]
        dropped = max(0, self._said[index].token - first)
        self._horizons[index] = (first + dropped, known[dropped:] + horizons)

    def place(self, read: _Read) -> Iterator[Input]:
        """Each input behind the predictions that were ready before it."""
        waiting, coming, marks = self._waiting, self._coming, read.marks
        for number, item in enumerate(read.items):
            ts = item.ts
            if (coming and coming[0].ts < ts) or (waiting and self._busy_until < ts):
                yield from self._before(ts)
            yield item
            if number in marks:
                waiting.append((self.position, ts, marks[number]))
            self.position += 1
            if waiting and self._busy_until <= ts:
                self._infer(ts)

    def rest(self) -> Iterator[Input]:
        """What becomes ready after the last input."""
        while self._waiting or self._coming:
            yield from self._before(self._busy_until + 1)

    def _before(self, ts: int) -> Iterator[Input]:
        while True:
            while self._coming and self._coming[0].ts < ts:
                yield self._coming.popleft()
                self.position += 1
            if not self._waiting or self._busy_until >= ts:
                return
            self._infer(self._busy_until)

    def _infer(self, now: int) -> None:
        for position, ts, marks in self._waiting:
            for mark in marks:
                _hear(self._said[mark.reader], mark, position, ts)
        self._waiting.clear()
        for index, said in enumerate(self._said):
            if said.is_ready:
                said.is_ready = False
                now += self._readers[index].latency_ns
                self._coming.append(self._prediction(index, said, now))
        self._busy_until = now

    def _prediction(self, index: int, said: _Said, ready_ts: int) -> Prediction:
        reader = self._readers[index]
        return Prediction(
            ts=ready_ts,
            symbol=reader.forecaster.symbol,
            model=reader.card.name,
            read_position=said.position,
            read_ts=said.ts,
            ready_ts=ready_ts,
            price=said.price,
            horizons=self._horizons_at(index, said.token),
            trained=reader.card.trained,
        )

    def _horizons_at(self, index: int, token: int) -> tuple[Horizon, ...]:
        first, known = self._horizons[index]
        return known[token - first]


class _RecordedPlaces(_Placer):
    """Predictions at the places and times at which a run had them."""

    def __init__(self, readers: Sequence[Reader], position: int) -> None:
        super().__init__(readers, position)
        self._index: Mapping[tuple[str, str], int] = {
            (reader.card.name, reader.forecaster.symbol): index
            for index, reader in enumerate(readers)
        }
        self._unread: list[deque[tuple[int, int, _Mark]]] = [deque() for _ in readers]

    def place(self, read: _Read) -> Iterator[Input]:
        for number, item in enumerate(read.items):
            for mark in read.marks.get(number, ()):
                self._unread[mark.reader].append((self.position, item.ts, mark))
            self.position += 1
            yield self._again(item) if isinstance(item, Prediction) else item

    def rest(self) -> Iterator[Input]:
        return iter(())

    def _again(self, recorded: Prediction) -> Prediction:
        index = self._index.get((recorded.model, recorded.symbol))
        if index is None:
            return recorded
        unread, said = self._unread[index], self._said[index]
        while unread and unread[0][0] <= recorded.read_position:
            position, ts, mark = unread.popleft()
            _hear(said, mark, position, ts)
        first, known = self._horizons[index]
        if not first <= said.token < first + len(known):
            return recorded
        return replace(
            recorded,
            price=said.price,
            horizons=known[said.token - first],
            trained=self._readers[index].card.trained,
        )


def _hear(said: _Said, mark: _Mark, position: int, ts: int) -> None:
    said.position, said.ts = position, ts
    if mark.token >= 0:
        said.token, said.is_ready, said.price = mark.token, mark.is_ready, mark.price
    else:
        said.is_ready = said.is_ready and mark.is_ready
