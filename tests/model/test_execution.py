"""The same predictions from every way to run a model."""

from __future__ import annotations

import pytest
import torch

from bot import inference
from bot.config import parse
from bot.core.events import Event, Prediction
from bot.kvcache import KVCacheManager, native
from bot.model import RealTimePricePredictor, deviation, execution
from bot.model.execution import Decode
from bot.model.native import NativeDecoder, WeightDtype, rounded
from bot.model.transformer import CausalTransformer
from tests.kvcache.native.builders import needs_native
from tests.model.builders import SYMBOL, budget, candle, candle_checkpoint

CANDLES: list[Event] = [candle(index) for index in range(90)]
CHECKPOINT = candle_checkpoint()


def chosen(decode: Decode, weight_dtype: WeightDtype, **changes: object) -> object:
    spec = CHECKPOINT.card.config.cache_spec(**{"kv_cache_dtype": "int8", **changes})  # type: ignore[arg-type]
    return execution(CHECKPOINT.model, spec, decode=decode, weight_dtype=weight_dtype, threads=1)


def run(
    decode: Decode, weight_dtype: WeightDtype, caches: KVCacheManager | None = None, chunk: int = 1
) -> list[Prediction]:
    steps = chosen(decode, weight_dtype)
    forecaster = RealTimePricePredictor(
        CHECKPOINT,
        caches or budget(),
        SYMBOL,
        execution=steps,  # type: ignore[arg-type]
    )
    found = []
    for position, event in enumerate(CANDLES):
        forecaster.take(event, position)
        if (position + 1) % chunk == 0 and (prediction := forecaster.predict()):
            found.append(prediction)
    return found


@needs_native
@pytest.mark.parametrize("weight_dtype", ["float32", "int8"])
def test_native_and_torch_predict_within_the_tolerance_of_the_card(
    weight_dtype: WeightDtype,
) -> None:
    ours, theirs = run("native", weight_dtype), run("torch", weight_dtype)
    assert len(ours) == len(theirs) == len(CANDLES)
    config, tolerance = CHECKPOINT.card.config, CHECKPOINT.card.tolerance
    worst = max(deviation(a, b, config) for a, b in zip(ours, theirs, strict=True))
    assert 0 < worst < tolerance
    assert deviation(ours[0], ours[-1], config) > tolerance


@needs_native
@pytest.mark.parametrize("chunk", [3, 9])
def test_native_predictions_do_not_depend_on_how_tokens_waited(chunk: int) -> None:
    assert run("native", "int8", chunk=chunk) == run("native", "int8")[chunk - 1 :: chunk]


@needs_native
def test_a_native_stream_is_rebuilt_to_the_same_bits_after_an_eviction() -> None:
    roomy = run("native", "int8")
    caches = KVCacheManager(6 * 1920, slab_bytes=1920)
    steps = chosen("native", "int8")
    crowd = [
        RealTimePricePredictor(CHECKPOINT, caches, f"linear:{name}USDT", execution=steps)  # type: ignore[arg-type]
        for name in ("BTC", "ETH", "SOL", "XRP")
    ]
    for position, event in enumerate(CANDLES):
        for forecaster in crowd:
            named = candle(position, symbol=forecaster.symbol)
            forecaster.take(named if forecaster.symbol != SYMBOL else event, position)
            prediction = forecaster.predict()
            assert prediction is not None
            if forecaster.symbol == SYMBOL:
                assert prediction == roomy[position]
    assert caches.metrics().evictions > len(CANDLES)


def test_auto_is_torch_for_a_cache_that_the_kernels_cannot_read() -> None:
    assert isinstance(chosen("auto", "float32", kv_cache_dtype="int4"), CausalTransformer)
    with pytest.raises(native.NativeUnavailable, match="cannot read kv_cache_dtype int4"):
        chosen("native", "float32", kv_cache_dtype="int4")


@needs_native
def test_auto_is_native_where_it_can_be() -> None:
    assert isinstance(chosen("auto", "int8"), NativeDecoder)


def test_torch_with_int8_weights_has_rounded_weights() -> None:
    model = CHECKPOINT.model
    twin = rounded(model, "int8")
    assert rounded(model, "float32") is model
    up, rough = model.blocks[0].up, twin.blocks[0].up
    step = up.abs().amax(1, keepdim=True) / 127
    assert ((up - rough).abs() <= step / 2 * 1.001).all()
    assert not torch.equal(up, rough)
    assert torch.equal(model.embed, twin.embed)


def test_the_settings_decide() -> None:
    for decode, kind in (("torch", CausalTransformer), ("auto", object)):
        settings = parse({"models": {"decode": decode, "weight_dtype": "int8"}}, "test")
        made, _ = inference.forecasters(settings, inference.checkpoints(settings))
        for forecaster in made.values():
            assert isinstance(forecaster.stream._execution, kind)  # type: ignore[attr-defined]
            if decode == "auto" and native.available():
                assert isinstance(forecaster.stream._execution, NativeDecoder)  # type: ignore[attr-defined]
