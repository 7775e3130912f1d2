"""`bot backtest`: a recorded market, its predictions and a ledger make up a run."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Literal

import structlog
from msgspec import Struct

from bot import __version__, build
from bot.backtest_market import BacktestOptions, Market, market
from bot.begin import record_of
from bot.config import Settings
from bot.core.engine import Engine
from bot.core.errors import PlainError
from bot.core.events import Input, Prediction
from bot.core.instrument import amount, to_e8, to_e12
from bot.garbage import rare_collections
from bot.ledger.bookkeeper import Bookkeeper
from bot.ledger.runs import finish_run, start_run
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from bot.research.backtest import Progress, Stop, Track, step_through
from bot.research.bar_path import WorstPaths
from bot.run import Run, money, shadows
from bot.signals import ending

log = structlog.get_logger()

_COLLECT_EVERY = 1_000_000
"""Objects made and kept between two collections: no loop waits, and what is read ahead is kept."""


def backtest(
    settings: Settings,
    options: BacktestOptions,
    *,
    is_chosen: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Run it into the ledger; returns the summary. Raises PlainErrors."""
    found = market(settings, options, is_chosen=is_chosen)
    return asyncio.run(over(found, options, progress))


async def over(
    found: Market,
    options: BacktestOptions,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Run an opened market into the ledger; returns the summary. Raises PlainErrors."""
    settings = found.settings
    ledger = await open_ledger(settings.ledger.db)
    try:
        run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        opening = opened(found)
        models = opening.models
        writer = LedgerWriter(ledger, run_id)
        engine = opening.engine
        sink = Bookkeeper(writer, engine.market, engine.account)
        run = Run(engine, sink, warn=log.warning)
        track = Track(engine, options.start_ns or 0)
        run.watchers.append(track)
        await start_run(
            ledger, run_id, mode="backtest", instance=settings.instance, started_ts=time.time_ns(),
            config=record_of(settings), code_version=__version__, seed=settings.exchange.seed,
            models=models.hashes, deposits={"USDT": amount(to_e8(settings.account.usdt))},
        )  # fmt: skip
        stop, started = Stop(), time.perf_counter()
        status: Literal["finished", "failed"] = "failed"
        ended_by = "error"
        try:
            named = ending(lambda name: setattr(stop, "reason", f"user: {name}"))
            with rare_collections(_COLLECT_EVERY), named:
                await step_through(opening.inputs, run, writer, stop=stop, progress=progress)
            status, ended_by = "finished", stop.reason or "end of the input"
        except PlainError as error:
            ended_by = f"error: {error}"
            raise
        finally:
            wall_s = time.perf_counter() - started
            summary = _summary(found, options, run, track, writer, wall_s) | {
                "ended_by": ended_by, "clean": status == "finished", **models.summary()
            }  # fmt: skip
            await finish_run(
                ledger, run_id, ended_ts=time.time_ns(), status=status, summary=summary
            )
        return summary
    finally:
        await ledger.dispose()


def _summary(
    found: Market,
    options: BacktestOptions,
    run: Run,
    track: Track,
    writer: LedgerWriter,
    wall_s: float,
) -> dict[str, Any]:
    counts = run.counts
    return {
        "run": writer.run_id,
        "input": [str(path) for path in options.paths] or [str(options.store)],
        "market": found.kind,
        "of_run": found.run_id,
        "predictions_from": found.predictions,
        "rules_guessed": list(found.guessed),
        "wall_s": round(wall_s, 3),
        "inputs": run.position,
        "frames": run.frames,
        "skipped": run.skipped,
        "events": run.events,
        "inputs_per_s": round(run.position / wall_s) if wall_s else 0,
        "gaps": counts["gaps"],
        "predictions": counts["predictions"],
        "untrained": sorted(run.untrained),
        "orders": counts["orders"],
        "fills": counts["fills"],
        **money(run),
        **shadows(run),
        "facts": counts["facts"],
        "digest": writer.hexdigest(),
        **track.summary(float(found.settings.account.usdt)),
    }


# --- predictions ------------------------------------------------------------------------------


class Models(Struct):
    """The models of a run: hashes by name, modelled latencies, and the cache's counters."""

    hashes: dict[str, str] = {}
    latency_ns: dict[str, int] = {}
    caches: list[Any] = []
    spec: dict[str, Any] = {}

    def summary(self) -> dict[str, Any]:
        if not self.caches:
            return {"prediction_latency_ns": self.latency_ns}
        metrics = self.caches[-1].metrics()
        return {
            "prediction_latency_ns": self.latency_ns,
            "cache": {name: getattr(metrics, name) for name in metrics.__struct_fields__}
            | self.spec,
        }


class Opened(Struct):
    """An engine, and inputs that it must step one by one as they are asked for."""

    engine: Engine
    inputs: Iterable[Input]
    models: Models


def opened(found: Market) -> Opened:
    """What a backtest steps, and with what. Raises as ``predicted`` and ``build.engine`` do."""
    engine = build.engine(found.settings)
    inputs, models = predicted(found)
    if found.barred:
        spread = to_e12(found.settings.backtest.candle_spread)
        inputs = WorstPaths(inputs, engine, found.barred, spread)
    return Opened(engine, inputs, models)


def predicted(found: Market) -> tuple[Iterable[Input], Models]:
    """The market's inputs with their predictions; torch is loaded only where some are made.

    Raises ConfigError and CheckpointError.
    """
    settings, inputs = found.settings, found.make()
    if found.predictions == "none":
        inputs = (item for item in inputs if type(item) is not Prediction)
    if found.predictions != "chunked" or not settings.models.is_any_enabled:
        return inputs, Models()
    from bot import inference  # noqa: PLC0415 - loads torch
    from bot.research.predicted import PredictedFeed  # noqa: PLC0415 - as above

    checkpoints = inference.checkpoints(settings)
    for name, model in checkpoints.items():
        if not model.card.trained:
            log.warning("UNTRAINED model: its predictions mean nothing", model=name)
    names = [model.card.name for model in checkpoints.values()]
    wanted_ms = settings.backtest.prediction_latency_ms
    latency_ns = (
        inference.measured_latency_ns(settings, checkpoints)
        if wanted_ms == "measured"
        else dict.fromkeys(names, round(wanted_ms * 1e6))
    )
    cache = settings.models.cache
    made = Models(
        {model.card.name: model.card.weights_sha256 for model in checkpoints.values()},
        latency_ns,
        spec={"kind": cache.kind, "kv_cache_dtype": cache.kv_cache_dtype},
    )

    def begin() -> list[Any]:
        readers, caches = inference.chunked(settings, checkpoints, latency_ns)
        made.caches.append(caches)
        return readers

    is_recorded = found.kind == "journal"
    return PredictedFeed(
        inputs, begin, is_recorded=is_recorded, ahead_tokens=found.ahead_tokens
    ), made
