"""Settings to the models and their worker. Importing this loads torch."""

from __future__ import annotations

from collections.abc import Callable

from bot.config import ConfigError, Model, Settings
from bot.core.events import Prediction
from bot.kvcache import KVCacheManager, OutOfBlocks
from bot.kvcache.native import NativeUnavailable
from bot.model import (
    ANALYZER,
    BOOK_TOKENS,
    CANDLE_TOKENS,
    PREDICTOR,
    Checkpoint,
    CheckpointError,
    Execution,
    Forecaster,
    RealTimePricePredictor,
    StreamingOrderBookAnalyzer,
    Worker,
    analyzer_config,
    at_interval,
    execution,
    load,
    predictor_config,
    seeded,
)
from bot.operate import state

_MIB = 1 << 20


def checkpoints(settings: Settings) -> dict[str, Checkpoint]:
    """The models in use by role: their files', else untrained ones from their seeds.

    Raises CheckpointError.
    """
    models = settings.models
    interval = settings.feed.interval
    found: dict[str, Checkpoint] = {}
    if models.predictor.enabled:
        config = predictor_config(interval=interval, window=models.predictor.window)
        given = _given(PREDICTOR, models.predictor)
        found[PREDICTOR] = (
            at_interval(given, interval)
            if given
            else seeded(
                config,
                models.predictor.seed,
                name=PREDICTOR,
                tokens=CANDLE_TOKENS,
                interval=interval,
            )
        )
    if models.analyzer.enabled:
        found[ANALYZER] = _given(ANALYZER, models.analyzer) or seeded(
            analyzer_config(window=models.analyzer.window),
            models.analyzer.seed,
            name=ANALYZER,
            tokens=BOOK_TOKENS,
        )
    return found


def _given(role: str, model: Model) -> Checkpoint | None:
    if model.checkpoint is None:
        return None
    try:
        return load(model.checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"models.{role}.checkpoint: {error}") from error


def forecasters(
    settings: Settings, models: dict[str, Checkpoint]
) -> tuple[dict[tuple[str, str], Forecaster], KVCacheManager]:
    """A forecaster per (model's name, symbol), all over one cache budget.

    Raises ConfigError where the budget is too small, the cache's settings do not go together or
    `models.decode: native` cannot be had, CheckpointError for a model that reads something else.
    """
    cache = settings.models.cache
    caches = KVCacheManager(round(cache.budget_mb * _MIB), when_full=cache.when_full)
    try:
        return _forecasters(settings, models, caches), caches
    except OutOfBlocks as error:
        raise ConfigError(f"models.cache.budget_mb: {error}") from error
    except ValueError as error:
        raise ConfigError(f"models.cache: {error}") from error
    except NativeUnavailable as error:
        raise ConfigError(f"models.decode: {error}") from error


def _forecasters(
    settings: Settings, models: dict[str, Checkpoint], caches: KVCacheManager
) -> dict[tuple[str, str], Forecaster]:
    cache = settings.models.cache
    executions = {role: _execution(settings, model) for role, model in models.items()}
    made: dict[tuple[str, str], Forecaster] = {}
    for symbol in settings.symbols:
        if PREDICTOR in models:
            made[models[PREDICTOR].card.name, symbol] = RealTimePricePredictor(
                models[PREDICTOR],
                caches,
                symbol,
                kind=cache.kind,
                block_size=cache.block_size,
                kv_cache_dtype=cache.kv_cache_dtype,
                retention=cache.retention,
                retain=cache.retain,
                execution=executions[PREDICTOR],
            )
        if ANALYZER in models:
            made[models[ANALYZER].card.name, symbol] = StreamingOrderBookAnalyzer(
                models[ANALYZER],
                caches,
                symbol,
                depth=settings.feed.depth,
                kind=cache.kind,
                block_size=cache.block_size,
                kv_cache_dtype=cache.kv_cache_dtype,
                retention=cache.retention,
                retain=cache.retain,
                execution=executions[ANALYZER],
            )
    return made


def _execution(settings: Settings, checkpoint: Checkpoint) -> Execution:
    models, cache = settings.models, settings.models.cache
    spec = checkpoint.card.config.cache_spec(
        cache.kind,
        block_size=cache.block_size,
        kv_cache_dtype=cache.kv_cache_dtype,
        retention=cache.retention,
        retain=cache.retain,
        model=checkpoint.card.weights_sha256,
    )
    return execution(
        checkpoint.model,
        spec,
        decode=models.decode,
        weight_dtype=models.weight_dtype,
        threads=models.threads,
    )


def worker(
    settings: Settings,
    models: dict[str, Checkpoint],
    *,
    publish: Callable[[Prediction], None],
    failed: Callable[[BaseException], None],
    clock_ns: Callable[[], int],
) -> tuple[Worker, KVCacheManager]:
    """The inference thread, not yet started, and the cache that its models share."""
    made, caches = forecasters(settings, models)
    thread = Worker(
        list(made.values()),
        inbox=settings.models.inbox,
        publish=publish,
        failed=failed,
        clock_ns=clock_ns,
        threads=settings.models.threads,
    )
    return thread, caches


def state_of(worker: Worker, caches: KVCacheManager) -> state.Inference:
    """How the models' thread and their cache stand, from any thread."""
    counters, held = worker.counters(), caches.metrics()
    latency = state.Latency(
        counters.latency_p50_ns,
        counters.latency_p99_ns,
        counters.predictions,
        counters.latency_buckets,
    )
    cache = state.Cache(
        held.budget_bytes,
        held.used_bytes,
        held.used_blocks,
        held.sequences,
        held.hits,
        held.misses,
        held.evictions,
        held.refusals,
    )
    return state.Inference(
        counters.tokens,
        counters.predictions,
        counters.inbox,
        counters.overflows,
        counters.lost_events,
        latency,
        cache,
    )
