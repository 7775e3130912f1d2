"""The synchronous part: events in, predictions out, the same in any chunking."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from bot.core.events import BookUpdate, Event, FeedDown, Prediction, Ticker
from bot.kvcache import KVCacheManager
from bot.model import (
    CANDLE_TOKENS,
    Forecaster,
    RealTimePricePredictor,
    analyzer_config,
    deviation,
    predictor_config,
    seeded,
)
from bot.model.forecast import all_horizons_of, horizons_of
from bot.model.tokens import CANDLE_FEATURES, CandleTokens
from bot.model.transformer import CausalTransformer
from tests.model.builders import (
    MINUTE,
    SYMBOL,
    analyzer,
    book_checkpoint,
    book_stream,
    budget,
    candle,
    candle_checkpoint,
    predictor,
    small_config,
)

CANDLES: list[Event] = [candle(index) for index in range(90)]
BOOKS = book_stream(150)
while not isinstance(BOOKS[-1], BookUpdate):
    BOOKS.pop()
TOLERANCE = candle_checkpoint().card.tolerance
BOTH = pytest.mark.parametrize(
    ("build", "events", "checkpoint"),
    [(predictor, CANDLES, candle_checkpoint()), (analyzer, BOOKS, book_checkpoint())],
    ids=["predictor", "analyzer"],
)


def run(forecaster: Forecaster, events: list[Event], chunk: int = 1) -> dict[int, Prediction]:
    """Predictions by read position, asking after every ``chunk`` events."""
    found = {}
    for position, event in enumerate(events):
        forecaster.take(event, position)
        if (position + 1) % chunk == 0 and (prediction := forecaster.predict()):
            found[prediction.read_position] = prediction
    return found


@BOTH
@pytest.mark.parametrize("chunk", [2, 7, 10_000])
def test_chunks_change_predictions_by_less_than_the_tolerance(
    build: Callable[[], Forecaster], events: list[Event], checkpoint: object, chunk: int
) -> None:
    one_by_one = run(build(), events)
    card = checkpoint.card  # type: ignore[attr-defined]
    chunk = min(chunk, len(events))
    chunked = run(build(), events, chunk)
    common = one_by_one.keys() & chunked.keys()
    assert common
    worst = max(deviation(one_by_one[p], chunked[p], card.config) for p in common)
    assert worst < card.tolerance
    first, *_, last = sorted(one_by_one)
    assert deviation(one_by_one[first], one_by_one[last], card.config) > card.tolerance


def test_a_prediction_is_the_forward_over_its_tokens() -> None:
    checkpoint = candle_checkpoint()
    got = run(predictor(), CANDLES)[len(CANDLES) - 1]
    reader = CandleTokens(SYMBOL, "1")
    tokens = np.array([reader.read(event) for event in CANDLES])
    with torch.inference_mode():
        raw = checkpoint.model(torch.from_numpy(tokens))[-1]
    outputs = checkpoint.model.outputs(raw)
    for index, horizon in enumerate(got.horizons):
        scale = checkpoint.card.config.return_scale[index]
        # the forward keeps full-precision keys and values, the cache int8 ones
        assert horizon.expected_return / scale == pytest.approx(
            outputs.mean[index].item(), abs=0.02
        )
        assert horizon.up_probability == pytest.approx(
            torch.sigmoid(outputs.up_logit[index]).item(), abs=0.02
        )
        assert np.allclose(
            np.array(horizon.quantiles) / scale, outputs.quantiles[index].numpy(), atol=0.02
        )
        assert horizon.horizon_ns == checkpoint.card.config.horizons_ns[index]


@pytest.mark.parametrize("scaled", [False, True])
def test_horizons_are_the_models_outputs_to_the_last_digits(scaled: bool) -> None:
    config = replace(candle_checkpoint().card.config, volatility_scaled=scaled)
    model = CausalTransformer(config)
    generator = torch.Generator().manual_seed(3)
    heads = torch.randn(200, model.head_bias.shape[0], generator=generator) * 12
    heads[0] = 800.0  # where exp overflows
    heads[1] = -800.0
    volatility = torch.rand(200, generator=generator, dtype=torch.float64) * 1e-3
    scale = torch.tensor(config.return_scale, dtype=torch.float64)
    scale = scale * volatility[:, None] if scaled else scale.expand(200, -1)
    expected = model.outputs(heads.double())
    got = all_horizons_of(model, heads, volatility.tolist())
    means = np.array([[each.expected_return for each in row] for row in got])
    chances = np.array([[each.up_probability for each in row] for row in got])
    quantiles = np.array([[each.quantiles for each in row] for row in got])
    assert np.array_equal(means, (expected.mean * scale).numpy())
    assert np.allclose(chances, torch.sigmoid(expected.up_logit).numpy(), rtol=0, atol=1e-15)
    # torch takes softplus for the identity from 20 on, which leaves 2e-9 out
    assert np.allclose(quantiles, (expected.quantiles * scale[..., None]).numpy(), rtol=1e-8)
    alone = [horizons_of(model, row, v) for row, v in zip(heads, volatility.tolist(), strict=True)]
    assert alone == got


@BOTH
def test_a_prediction_says_what_it_read(
    build: Callable[[], Forecaster], events: list[Event], checkpoint: object
) -> None:
    del checkpoint
    forecaster = build()
    for position, event in enumerate(events):
        forecaster.take(event, 1000 + position)
    prediction = forecaster.predict()
    assert prediction is not None
    assert prediction.read_position == 1000 + len(events) - 1
    assert prediction.read_ts == prediction.ts == prediction.ready_ts == events[-1].ts
    assert prediction.symbol == SYMBOL
    assert (prediction.trained, prediction.rebuilt) == (False, False)
    assert 99_000 <= prediction.price <= 101_000
    assert forecaster.predict() is None


def test_a_book_that_went_down_is_not_answered() -> None:
    forecaster = analyzer()
    forecaster.take(BOOKS[0], 0)
    forecaster.take(FeedDown(BOOKS[0].ts, SYMBOL, "test"), 1)
    assert forecaster.predict() is None
    forecaster.take(BOOKS[0], 2)
    assert forecaster.predict() is not None


def test_history_is_read_but_not_answered_before_a_current_candle() -> None:
    forecaster = predictor()
    for index in range(10):
        forecaster.take(candle(index, late_ns=(10 - index) * MINUTE + 1), index)
        assert forecaster.predict() is None
    forecaster.take(candle(10), 10)
    prediction = forecaster.predict()
    assert prediction is not None
    assert forecaster.tokens == 11
    live = run(predictor(), CANDLES[:11])[10]
    assert deviation(prediction, live, candle_checkpoint().card.config) < TOLERANCE


def test_an_event_without_a_token_moves_only_the_read_position() -> None:
    forecaster = predictor()
    forecaster.take(candle(0), 5)
    forecaster.take(Ticker(candle(0).ts + 9, 0, SYMBOL), 8)
    prediction = forecaster.predict()
    assert prediction is not None
    assert (prediction.read_position, prediction.read_ts) == (8, candle(0).ts + 9)
    forecaster.take(Ticker(candle(0).ts + 10, 0, SYMBOL), 9)
    assert not forecaster.ready
    assert forecaster.predict() is None


def test_an_evicted_sequence_is_rebuilt_to_the_same_answers() -> None:
    # six blocks, two to four a sequence: each step evicts one that is soon needed
    caches = KVCacheManager(6 * 1920, slab_bytes=1920)
    crowd = [predictor(caches, f"linear:{name}USDT") for name in ("BTC", "ETH", "SOL", "XRP")]
    roomy = run(predictor(), CANDLES)
    for position, event in enumerate(CANDLES):
        for forecaster in crowd:
            forecaster.take(event, position)
            prediction = forecaster.predict()
            assert prediction is not None
            assert not prediction.rebuilt
            difference = deviation(prediction, roomy[position], candle_checkpoint().card.config)
            assert difference < TOLERANCE
    assert caches.metrics().evictions > len(CANDLES)


def test_more_waiting_tokens_than_the_reach_are_skipped_without_a_trace() -> None:
    events: list[Event] = [candle(index) for index in range(3 * 34 + 5)]
    forecaster = predictor()
    run(forecaster, events[:3])
    last = run(forecaster, events[3:], len(events) - 3)[len(events) - 4]
    lived = run(predictor(), events)[len(events) - 1]
    assert deviation(last, lived, candle_checkpoint().card.config) < TOLERANCE


def test_predictions_after_a_loss_say_rebuilt_until_the_hole_is_out_of_reach() -> None:
    forecaster = analyzer()
    books = [event for event in book_stream(160) if isinstance(event, BookUpdate)]
    run(forecaster, list(books[:20]))
    forecaster.lost()
    after = run(forecaster, list(books[25:]))
    reach = book_checkpoint().card.config.reach
    flags = [after[position].rebuilt for position in sorted(after)]
    assert flags == [True] * (reach - 1) + [False] * (len(flags) - reach + 1)
    assert len(flags) > reach


@pytest.mark.parametrize(
    ("options", "sink_tokens"),
    [
        ({"kind": "standard"}, 0),
        ({"kind": "quantized+prefix", "kv_cache_dtype": "k8v4"}, 0),
        ({"kind": "standard", "kv_cache_dtype": "float32"}, 5),
        ({"kind": "paged", "kv_cache_dtype": "float32", "block_size": 3}, 5),
    ],
)
@pytest.mark.parametrize("evict_after", [3, 40, 80])
def test_a_forecaster_over_any_kind_survives_an_eviction_exactly(
    options: dict[str, object], sink_tokens: int, evict_after: int
) -> None:
    config = small_config(CANDLE_FEATURES, sink_tokens=sink_tokens)
    checkpoint = seeded(config, 3, name="predictor", tokens=CANDLE_TOKENS, interval="1")
    forecasters = [
        RealTimePricePredictor(checkpoint, caches, SYMBOL, **options)
        for caches in (budget(), budget())
    ]
    lived = run(forecasters[0], CANDLES)
    first, rest = CANDLES[:evict_after], CANDLES[evict_after:]
    again = run(forecasters[1], first)
    forecasters[1].stream._cache.surrender()
    again |= {p + len(first): q for p, q in run(forecasters[1], rest).items()}
    for position, prediction in lived.items():
        assert deviation(prediction, again[position], config) < TOLERANCE
        assert not again[position].rebuilt


def test_a_selective_forecaster_says_when_it_had_to_be_rebuilt() -> None:
    config = small_config(CANDLE_FEATURES, window=40, layers=1)
    checkpoint = seeded(config, 3, name="predictor", tokens=CANDLE_TOKENS, interval="1")
    forecaster = RealTimePricePredictor(
        checkpoint, budget(), SYMBOL, kind="selective", block_size=2, retain=16
    )
    before = run(forecaster, CANDLES[:30])
    assert not any(prediction.rebuilt for prediction in before.values())
    forecaster.stream._cache.surrender()
    after = run(forecaster, CANDLES[30:])
    flags = [after[position].rebuilt for position in sorted(after)]
    assert flags == [True] * config.reach + [False] * (len(flags) - config.reach)


def test_the_same_events_give_the_same_bits() -> None:
    assert run(analyzer(), BOOKS) == run(analyzer(), BOOKS)


def test_an_answer_that_is_no_number_is_an_error() -> None:
    checkpoint = candle_checkpoint()
    checkpoint.model.head.fill_(float("nan"))
    forecaster = type(predictor())(checkpoint, budget(), SYMBOL)
    forecaster.take(candle(0), 0)
    with pytest.raises(
        FloatingPointError, match=r"model 'predictor' answers .*nan.* for linear:BTCUSDT"
    ):
        forecaster.predict()


def test_keys_that_are_no_numbers_are_an_error() -> None:
    checkpoint = candle_checkpoint()
    checkpoint.model.embed.fill_(float("nan"))
    forecaster = type(predictor())(checkpoint, budget(), SYMBOL)
    forecaster.take(candle(0), 0)
    with pytest.raises(FloatingPointError, match="keys of layer 0 at position 0 reach nan"):
        forecaster.predict()


def test_the_default_shapes_fit_the_default_budget() -> None:
    bars = predictor_config(interval="5", window=512)
    assert bars.horizons_ns[:3] == (5 * MINUTE, 10 * MINUTE, 20 * MINUTE)
    assert (bars.volatility_scaled, bars.return_scale[:3]) == (True, (1, 2**0.5, 2))
    assert analyzer_config(window=128).window == 128
