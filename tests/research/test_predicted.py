"""Predictions made in pieces against the streaming ones, decisions included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import pairwise

import pytest
from msgspec.structs import replace

from bot.core.engine import Engine
from bot.core.events import Event, Input, Prediction, Tick
from bot.core.instrument import to_e8, to_e12
from bot.core.matching import FillPolicy
from bot.model import (
    Checkpoint,
    ChunkedStream,
    RealTimePricePredictor,
    StreamingOrderBookAnalyzer,
    TokenStream,
    deviation,
)
from bot.research.candle_market import CandleMarket
from bot.research.predicted import PredictedFeed, Reader
from bot.run import Memory, Run
from strategies.threshold import Threshold
from tests.builders import NO_LIMITS, fees, rules
from tests.model.builders import (
    MINUTE,
    MS,
    SYMBOL,
    book_checkpoint,
    book_stream,
    budget,
    candle,
    candle_checkpoint,
)

LATENCY = 2 * MS
BARS = [*CandleMarket(
    [candle(index, late_ns=0) for index in range(150)], {SYMBOL: ("1", MINUTE)},
    spread=to_e12(Decimal("0.0002")),
)]  # fmt: skip
BOOKS = book_stream(400)


def forecaster(checkpoint: Checkpoint, stream: type[TokenStream]):
    if checkpoint.card.name == "predictor":
        return RealTimePricePredictor(checkpoint, budget(), SYMBOL, stream=stream)
    return StreamingOrderBookAnalyzer(checkpoint, budget(), SYMBOL, depth=50, stream=stream)


def streamed(inputs: Sequence[Event], checkpoint: Checkpoint) -> list[Input]:
    """What a live run would have queued, its thread taking LATENCY and never behind."""
    model = forecaster(checkpoint, TokenStream)
    made: list[Input] = []
    coming: list[Prediction] = []
    for item in inputs:
        while coming and coming[0].ts < item.ts:
            made.append(coming.pop(0))
        position = len(made)
        made.append(item)
        if isinstance(item, model.wants):
            model.take(item, position)
            said = model.predict()
            if said is not None:
                coming.append(replace(said, ts=item.ts + LATENCY, ready_ts=item.ts + LATENCY))
    return made + coming


def chunked(
    inputs: Sequence[Input],
    checkpoint: Checkpoint,
    *,
    latency: int = LATENCY,
    ahead_tokens: int = 4096,
    is_recorded: bool = False,
) -> list[Input]:
    def begin() -> list[Reader]:
        model = forecaster(checkpoint, ChunkedStream)
        return [Reader(model, model.stream, checkpoint.card, latency)]

    return [*PredictedFeed(inputs, begin, is_recorded=is_recorded, ahead_tokens=ahead_tokens)]


def digest(inputs: Sequence[Input], model: str) -> tuple[str, int]:
    strategy = Threshold((SYMBOL,), model=model, edge=-1.0)
    engine = Engine(
        [("threshold", (SYMBOL,), strategy)], usdt=to_e8(Decimal(10**6)), leverage=10**13,
        policy=FillPolicy(), limits=NO_LIMITS,
    )  # fmt: skip
    run = Run(engine, sink := Memory())
    for item in [rules(SYMBOL, qty_step="0.001", min_qty="0.001"), fees(SYMBOL), *inputs]:
        run.take(item)
    return sink.digest.hexdigest(), run.counts["orders"]


CASES = [(BARS, candle_checkpoint()), (BOOKS, book_checkpoint())]


@pytest.mark.parametrize(("inputs", "checkpoint"), CASES, ids=["candles", "books"])
@pytest.mark.parametrize("ahead_tokens", [1, 7, 4096])
def test_predictions_in_pieces_are_the_streaming_ones_and_so_are_the_decisions(
    inputs, checkpoint, ahead_tokens
):
    one, other = streamed(inputs, checkpoint), chunked(inputs, checkpoint,
                                                       ahead_tokens=ahead_tokens)  # fmt: skip
    assert len(one) == len(other) > len(inputs) + 100
    for ours, theirs in zip(one, other, strict=True):
        if not isinstance(ours, Prediction):
            assert ours == theirs
            continue
        assert deviation(ours, theirs, checkpoint.card.config) <= checkpoint.card.tolerance
        assert replace(ours, horizons=()) == replace(theirs, horizons=())
    decided = digest(one, checkpoint.card.name)
    assert decided == digest(other, checkpoint.card.name)
    assert decided[1] > 0


def test_little_is_read_before_the_first_input_comes_out_and_then_twice_as_much_each_time():
    read = 0

    def source() -> Iterator[Input]:
        nonlocal read
        for ts in range(1, 40_000):
            read = ts
            yield Tick(ts)

    given: dict[int, int] = {}
    for number, item in enumerate(PredictedFeed(source(), list, ahead_tokens=4096), 1):
        assert item == Tick(number)
        given.setdefault(read, number)
    assert [*given.items()] == [(3 * 4096, 1), (7 * 4096, 4097), (39_999, 3 * 4096 + 1)]


def test_a_thread_that_is_behind_reads_all_that_waits_and_answers_once():
    made = chunked(BOOKS, book_checkpoint(), latency=110 * MS)
    said = [item for item in made if isinstance(item, Prediction)]
    assert 0 < len(said) < 100
    for prediction in said:
        assert prediction.ts == prediction.ready_ts >= prediction.read_ts + 110 * MS
    for before, after in pairwise(said):
        assert after.ready_ts - before.ready_ts >= 110 * MS
    stamps = [item.ts for item in made]
    assert stamps == sorted(stamps)
    for position, item in enumerate(made):
        if isinstance(item, Prediction):
            assert item.read_position < position
            assert made[item.read_position].ts == item.read_ts


def test_recorded_predictions_keep_their_places_and_get_these_models_values():
    recorded = streamed(BOOKS, book_checkpoint())
    blank = [replace(item, horizons=()) if isinstance(item, Prediction) else item
             for item in recorded]  # fmt: skip
    made = chunked(blank, book_checkpoint(), is_recorded=True, ahead_tokens=50)
    config = book_checkpoint().card.config
    assert len(made) == len(recorded)
    for ours, theirs in zip(recorded, made, strict=True):
        if isinstance(ours, Prediction):
            assert ours.ready_ts == theirs.ready_ts
            assert deviation(ours, theirs, config) <= book_checkpoint().card.tolerance
        else:
            assert ours == theirs


def test_the_future_changes_no_prediction_before_it():
    def some() -> Iterator[Input]:
        yield from BARS[:300]

    whole = chunked(BARS, candle_checkpoint())
    cut = chunked([*some()], candle_checkpoint())
    end = BARS[300].ts
    ones, others = ([item for item in made if item.ts < end] for made in (whole, cut))
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        if isinstance(one, Prediction):
            # a product of other rows beside it: the last bits of float32 may differ
            assert deviation(one, other, candle_checkpoint().card.config) < 1e-6
            one, other = replace(one, horizons=()), replace(other, horizons=())  # noqa: PLW2901
        assert one == other
