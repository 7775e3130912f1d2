"""The models in use, judged on the last days, and a challenger that may take the place of one.

What is read is the ledger's own bars and scores, so nothing is downloaded. Importing this loads
torch; a bot at work runs it in a process of its own (``bot/background.py``).
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec import Struct
from msgspec.structs import replace

from bot import evaluate, inference
from bot.config import Settings
from bot.core.errors import PlainError
from bot.core.events import Candle
from bot.ledger import judged, reading
from bot.ledger.connect import with_connection
from bot.model import CANDLE_TOKENS, PREDICTOR, Checkpoint, at_interval, load
from bot.model.baselines import Forecast
from bot.model.challenge import METRIC, compare
from bot.model.dataset import Dataset, Segment, Series, candle_segments, join
from bot.model.evaluation import METRICS, TAKER_RATE, Case, Subject, compared
from bot.model.recipe import Recipe, recipe_of
from bot.model.registry import IN_USE, USERS, Registry
from bot.model.samples import Sample, samples
from bot.model.streamed import Running, predict
from bot.model.tokens import Bars, interval_ns
from bot.model.training import train
from bot.train import code_version
from bot.venue.archive_feed import Archive, ArchiveOptions

Started = Callable[[str], Callable[[int, int], None]]

MOST_SAID = 50_000
"""Of each model and horizon, the newest so many outcomes are looked at."""
LIVE_BLOCK_NS = 120 * 10**9
_DAY_NS = 86_400 * 10**9
_RETRAINED = USERS / "retrained"


class JudgementError(PlainError):
    """Models cannot be judged; the text says what is missing and the way out."""


class Judging(Struct, frozen=True):
    """Whose models, at what time, and whom to tell of the progress."""

    settings: Settings
    now_ns: int
    started: Started

    def since_ns(self, days: int) -> int:
        return self.now_ns - days * _DAY_NS


def evaluate_lately(judging: Judging) -> list[dict[str, Any]]:
    """Score the predictor on the last days' bars beside its baselines, and every model by what it
    said while trading; the rows, which are in the ledger then.

    Raises JudgementError where nothing has an outcome, LedgerError, CheckpointError.
    """
    settings = judging.settings
    days = settings.schedule.evaluation.days
    since_ns = judging.since_ns(days)
    rows = [*_on_bars(judging, since_ns), *_on_said(judging, since_ns)]
    if not rows:
        raise JudgementError(
            f"{settings.instance}: in the last {days} days no bar closed and no prediction came "
            "to its end: let the bot run, or set schedule.evaluation.days"
        )
    kept = [_stored(settings.instance, judging.now_ns, since_ns, row) for row in rows]
    with_connection(settings.ledger.db, lambda c: judged.add_evaluations(c, kept))
    return rows


def retrain(judging: Judging) -> dict[str, Any]:
    """Train a challenger on what lies before the last days and hold it against the predictor in
    use on those days; it takes its place only if it is surely better. The row of the ledger.

    Raises JudgementError, LedgerError, CheckpointError, RecipeError, DatasetError, TrainingError.
    """
    settings = judging.settings
    wanted, interval = settings.schedule.retraining, settings.feed.interval
    champion = _champion(settings)
    torch.set_num_threads(settings.models.threads)
    since_ns = judging.since_ns(wanted.days)
    bars = _bars(settings, wanted.data)
    longest_ns = max(champion.card.config.horizons_ns)
    early = [bar for bar in bars if bar.exchange_ts < since_ns - longest_ns]
    recipe = _like(champion, recipe_of(Path(wanted.recipe)), interval, wanted.steps)
    name = f"{datetime.fromtimestamp(judging.now_ns / 1e9, UTC):%Y%m%d-%H%M%S}"
    out = _RETRAINED / name
    made = train(
        _dataset(early, interval), recipe, out, resume=False,
        progress=lambda step, steps, _: judging.started("training")(step, steps),
        code_version=code_version(),
    )  # fmt: skip
    found = compare(
        kept := _samples(bars, champion),
        [_said(champion, each, judging) for each in kept],
        [_said(made, each, judging) for each in kept],
        since_ns=since_ns,
        horizons_ns=champion.card.config.horizons_ns,
    )
    if not found.n:
        raise JudgementError(
            f"{settings.instance}: no bar of the last {wanted.days} days has an outcome to judge by"
        )
    row = {
        "instance": settings.instance,
        "ts": judging.now_ns,
        "role": PREDICTOR,
        "switched": found.is_better,
        "champion": champion.card.weights_sha256,
        "challenger": made.card.weights_sha256,
        "challenger_id": f"retrained/{name}/{recipe.name}",
        "metric": METRIC,
        "from_ts": since_ns,
        "n": found.n,
        "champion_value": found.champion,
        "challenger_value": found.challenger,
        "difference": found.difference,
        "lo": _known(found.lo),
        "hi": _known(found.hi),
    }
    with_connection(settings.ledger.db, lambda c: _decide(c, row))
    _prune(wanted.keep)
    return row


# --- the parts --------------------------------------------------------------------------------


def _champion(settings: Settings) -> Checkpoint:
    chosen = settings.models.predictor
    if not chosen.enabled or chosen.checkpoint != IN_USE:
        raise JudgementError(
            "models.predictor.checkpoint: must be `active` for retraining, which makes another "
            "checkpoint the active one"
        )
    path = Registry().path_of(PREDICTOR, IN_USE)
    return at_interval(load(path), settings.feed.interval)


def _like(champion: Checkpoint, recipe: Recipe, interval: str, steps: int | None) -> Recipe:
    """The recipe for a model that answers the champion's questions under its name."""
    config, bar_ns = champion.card.config, interval_ns(interval)
    return replace(
        recipe,
        name=champion.card.name,
        horizons=tuple(ns // bar_ns for ns in config.horizons_ns),
        horizon_weights=(),
        quantiles=config.quantiles,
        steps=steps or recipe.steps,
        train_share=0.85,
        valid_share=0.95,
    )


def _bars(settings: Settings, files: Sequence[Path] = ()) -> list[Candle]:
    """The ledger's bars and the files', by symbol and time; where both have one, the ledger's."""
    symbols, interval = settings.symbols, settings.feed.interval
    found: dict[tuple[str, int], Candle] = {}
    if files:
        for event in Archive(files, ArchiveOptions(repair=True)):
            if isinstance(event, Candle) and event.interval == interval and event.symbol in symbols:
                found[event.symbol, event.open_ts] = event
    ours = reading.read(
        settings.ledger.db, judged.bars, settings.instance,
        symbols=symbols, interval=interval, bar_ns=interval_ns(interval),
    )  # fmt: skip
    found |= {(bar.symbol, bar.open_ts): bar for bar in ours}
    return [found[key] for key in sorted(found)]


def _dataset(bars: Sequence[Candle], interval: str) -> Dataset:
    segments: list[Segment] = []
    digest = hashlib.sha256()
    for symbol in dict.fromkeys(bar.symbol for bar in bars):
        mine = [bar for bar in bars if bar.symbol == symbol]
        opens = np.array([bar.open_ts for bar in mine], dtype=np.int64)
        digest.update(opens.tobytes())
        opened, high, low, close, volume = np.array(
            [[float(n) for n in (b.open, b.high, b.low, b.close, b.volume)] for b in mine]
        ).T
        columns = Bars(opens, opened, high, low, close, volume, np.full(len(mine), np.nan))
        segments += candle_segments(Series(symbol, interval), columns)
    return join(segments, kind="candles", venue="bybit", sources={"ledger": digest.hexdigest()})


def _samples(bars: Sequence[Candle], checkpoint: Checkpoint) -> list[Sample]:
    card = checkpoint.card
    return samples(
        bars, tokens=CANDLE_TOKENS, interval=card.interval, horizons_ns=card.config.horizons_ns
    )


def _said(checkpoint: Checkpoint, sample: Sample, judging: Judging) -> Forecast:
    running = Running(threads=judging.settings.models.threads)
    return predict(checkpoint, sample, running, judging.started(sample.symbol))


def _on_bars(judging: Judging, since_ns: int) -> list[dict[str, Any]]:
    """The predictor in use, beside its baselines."""
    settings = judging.settings
    model = settings.models.predictor
    bars = _bars(settings) if model.enabled else []
    if not any(bar.exchange_ts >= since_ns for bar in bars):
        return []
    checkpoint = inference.checkpoints(settings)[PREDICTOR]
    path = None if model.checkpoint is None else Registry().path_of(PREDICTOR, model.checkpoint)
    options = evaluate.Options(
        Path(f"the bars of {settings.instance}"),
        since_ns=since_ns,
        running=Running(threads=settings.models.threads),
    )
    found = evaluate.judged(checkpoint, path, _samples(bars, checkpoint), options, judging.started)
    sha256 = checkpoint.card.weights_sha256
    return [{**row, "source": "bars", "weights_sha256": sha256} for row in found.rows if row["n"]]


def _on_said(judging: Judging, since_ns: int) -> list[dict[str, Any]]:
    """Every model by what it said while trading, which the ledger holds against what came."""
    settings = judging.settings
    found = reading.read(
        settings.ledger.db, judged.said, settings.instance, since_ts=since_ns, limit=MOST_SAID
    )
    told = []
    for (model, horizon_ns), rows in sorted(found.items()):
        symbols, ts, expected, chance, outcome = (
            np.array(each) for each in zip(*rows, strict=True)
        )
        _, of = np.unique(symbols, return_inverse=True)
        forecast = Forecast(expected[:, None], chance[:, None])
        subject = Subject("all", ts, of, outcome[:, None], {model: forecast})
        block_ns = max(LIVE_BLOCK_NS, 10 * horizon_ns)
        case = Case(subject, 0, horizon_ns, (), TAKER_RATE, block_ns)
        for metric in METRICS:
            told += [{**row, "source": "live"} for row in compared(case, metric, model)]
    return told


def _stored(instance: str, now_ns: int, since_ns: int, row: dict[str, Any]) -> dict[str, Any]:
    same = ("source", "model", "symbol", "metric", "value", "lo", "hi", "n")
    return {
        "instance": instance,
        "ts": now_ns,
        "from_ts": since_ns,
        "horizon_ns": round(row["horizon"] * 1e9),
        "weights_sha256": row.get("weights_sha256"),
        "baselines": json.dumps(row["baselines"]),
        **{name: row[name] for name in same},
    }


def _decide(connection: Any, row: dict[str, Any]) -> None:
    """The switch and its row, together."""
    judged.add_switch(connection, row)
    if row["switched"]:
        Registry().activate(row["challenger_id"])


def _prune(keep: int) -> None:
    """The newest ``keep`` challengers stay, and the one in use."""
    active = Registry().active(PREDICTOR)
    for folder in sorted(_RETRAINED.iterdir())[:-keep]:
        if active is None or not active.path.is_relative_to(folder):
            shutil.rmtree(folder)


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number
