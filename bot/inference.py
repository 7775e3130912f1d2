"""Settings to the models and their worker. Importing this loads torch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from msgspec.structs import replace

from bot.config import ConfigError, Settings
from bot.config_trade import Model
from bot.core.events import Prediction
from bot.kvcache import CacheSpec, KVCacheManager, OutOfBlocks
from bot.kvcache.native import NativeUnavailable
from bot.model import (
    ANALYZER,
    BOOK_TOKENS,
    CANDLE_TOKENS,
    PREDICTOR,
    Checkpoint,
    CheckpointError,
    ChunkedStream,
    Execution,
    Forecaster,
    RealTimePricePredictor,
    StreamingOrderBookAnalyzer,
    TokenStream,
    Worker,
    analyzer_config,
    at_interval,
    execution,
    load,
    predictor_config,
    seeded,
)
from bot.model.allocation import Allocation
from bot.model.portfolio import PORTFOLIO, Layout, MultiAssetPortfolioInference, members
from bot.model.registry import Registry
from bot.operate import state
from bot.research.predicted import Reader
from bot.threads import stand_back

_MIB = 1 << 20
_TIMED_STEPS = 200


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
    if models.portfolio.enabled:
        found[PORTFOLIO] = _portfolio(settings)
    return found


def _portfolio(settings: Settings) -> Checkpoint:
    """A predictor's checkpoint under the portfolio's name."""
    try:
        path = Registry().path_of(PREDICTOR, settings.models.portfolio.checkpoint)
        return _as(PORTFOLIO, load(path), settings)
    except CheckpointError as error:
        raise CheckpointError(f"models.portfolio.checkpoint: {error}") from error


def _as(role: str, given: Checkpoint, settings: Settings) -> Checkpoint:
    """A checkpoint at the feed's interval where it reads candles, a portfolio under that name."""
    if role != ANALYZER:
        given = at_interval(given, settings.feed.interval)
    return replace(given, card=replace(given.card, name=role)) if role == PORTFOLIO else given


def recorded_checkpoints(settings: Settings, hashes: dict[str, str]) -> dict[str, Checkpoint]:
    """The models by role whose weights have these hashes: those in use, else of `bot models`.

    Raises CheckpointError for weights that are no longer there.
    """
    found = checkpoints(settings)
    for role, sha256 in hashes.items():
        if role in found and found[role].card.weights_sha256 != sha256:
            entries = Registry().entries()
            entry = next((each for each in entries if each.card.weights_sha256 == sha256), None)
            if entry is None:
                raise CheckpointError(
                    f"{role} {sha256[:12]}: this run's model is not among `bot models list`: put "
                    "its file back under data/models, or replay with the recorded predictions"
                )
            found[role] = _as(role, load(entry.path), settings)
    return found


def _given(role: str, model: Model) -> Checkpoint | None:
    if model.checkpoint is None:
        return None
    try:
        return load(Registry().path_of(role, model.checkpoint))
    except CheckpointError as error:
        raise CheckpointError(f"models.{role}.checkpoint: {error}") from error


def forecasters(
    settings: Settings,
    models: dict[str, Checkpoint],
    *,
    stream: type[TokenStream] = TokenStream,
) -> tuple[dict[tuple[str, str], Forecaster], KVCacheManager]:
    """A forecaster per (model's name, symbol), all over one cache budget; each over a ``stream``.

    Raises ConfigError where the budget is too small, the cache's settings do not go together or
    `models.decode: native` cannot be had, CheckpointError for a model that reads something else.
    """
    cache = settings.models.cache
    caches = KVCacheManager(round(cache.budget_mb * _MIB), when_full=cache.when_full)
    try:
        return _forecasters(settings, models, caches, stream), caches
    except OutOfBlocks as error:
        raise ConfigError(f"models.cache.budget_mb: {error}") from error
    except ValueError as error:
        raise ConfigError(f"models.cache: {error}") from error
    except NativeUnavailable as error:
        raise ConfigError(f"models.decode: {error}") from error


def _forecasters(
    settings: Settings,
    models: dict[str, Checkpoint],
    caches: KVCacheManager,
    stream: type[TokenStream],
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
                stream=stream,
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
                stream=stream,
            )
    if PORTFOLIO in models:
        made |= _members(settings, models[PORTFOLIO], caches)
    return made


def _members(
    settings: Settings, checkpoint: Checkpoint, caches: KVCacheManager
) -> dict[tuple[str, str], Forecaster]:
    """A forecaster a symbol, all of one portfolio. Raises ConfigError."""
    wanted, cache = settings.models.portfolio, settings.models.cache
    market = wanted.market or settings.symbols[0]
    horizons = len(checkpoint.card.config.horizons_ns)
    if wanted.horizon >= horizons:
        raise ConfigError(
            f"models.portfolio.horizon {wanted.horizon}: the model has {horizons}, from 0 on"
        )
    try:
        whole = MultiAssetPortfolioInference(
            checkpoint,
            caches,
            settings.symbols,
            Layout(market, wanted.own_tokens, wanted.horizon),
            rules=Allocation(wanted.long_only, wanted.volatility, wanted.cap, wanted.gross),
            block_size=cache.block_size,
            kv_cache_dtype=cache.kv_cache_dtype,
            execution=_execution(settings, checkpoint) if cache.kind == "paged" else None,
        )
        return {(PORTFOLIO, each.symbol): each for each in members(whole)}
    except ValueError as error:
        raise ConfigError(f"models.portfolio: {error}") from error


def chunked(
    settings: Settings, models: dict[str, Checkpoint], latency_ns: dict[str, int]
) -> tuple[list[Reader], KVCacheManager]:
    """Readers that take a recorded stream in pieces; ``latency_ns`` by model's name.

    Raises as ``forecasters`` does, and ConfigError for a portfolio.
    """
    if PORTFOLIO in models:
        raise ConfigError(
            "models.portfolio: a backtest predicts no portfolio: set models.portfolio.enabled: "
            "false; a run that had one is replayed with `bot replay`"
        )
    torch.set_num_threads(settings.models.threads)  # more would spin beside the stepping
    made, caches = forecasters(settings, models, stream=ChunkedStream)
    cards = {model.card.name: model.card for model in models.values()}
    readers = []
    for (name, _), each in made.items():
        assert isinstance(each, RealTimePricePredictor | StreamingOrderBookAnalyzer)
        assert isinstance(each.stream, ChunkedStream)
        readers.append(Reader(each, each.stream, cards[name], latency_ns[name]))
    return readers, caches


def measured_latency_ns(settings: Settings, models: dict[str, Checkpoint]) -> dict[str, int]:
    """The median time of one step at a full window, by model's name: this machine, now."""
    found = {}
    for checkpoint in models.values():
        config = checkpoint.card.config
        run = _execution(settings, checkpoint)
        caches = KVCacheManager(round(settings.models.cache.budget_mb * _MIB))
        cache = caches.anonymous(_spec(settings, checkpoint))
        x = torch.zeros(config.window + _TIMED_STEPS, config.features)
        with torch.inference_mode():
            run.step(x[: config.window], cache)
            spent = []
            for row in torch.split(x[config.window :], 1):
                began = time.perf_counter_ns()
                run.step(row, cache)
                spent.append(time.perf_counter_ns() - began)
        found[checkpoint.card.name] = round(statistics.median(spent))
    return found


def _execution(settings: Settings, checkpoint: Checkpoint) -> Execution:
    models = settings.models
    return execution(
        checkpoint.model,
        _spec(settings, checkpoint),
        decode=models.decode,
        weight_dtype=models.weight_dtype,
        threads=models.threads,
    )


def _spec(settings: Settings, checkpoint: Checkpoint) -> CacheSpec:
    cache = settings.models.cache
    return checkpoint.card.config.cache_spec(
        cache.kind,
        block_size=cache.block_size,
        kv_cache_dtype=cache.kv_cache_dtype,
        retention=cache.retention,
        retain=cache.retain,
        model=checkpoint.card.weights_sha256,
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
        begin=stand_back,
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
        worker.drift(),
    )
