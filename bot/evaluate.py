"""A checkpoint held against its baselines on recorded market data. Importing this loads torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace as changed

from bot import inference
from bot.config import Settings
from bot.core.errors import PlainError
from bot.core.events import Event
from bot.model import ANALYZER, CANDLE_TOKENS, PREDICTOR, Card, Checkpoint, load
from bot.model.baselines import Forecast, forecasts, has_lightgbm, load_baselines, unfitted
from bot.model.checkpoint import at_interval
from bot.model.evaluation import TAKER_RATE, Row, Subject, rows, subjects
from bot.model.registry import Registry
from bot.model.samples import Sample, samples
from bot.model.streamed import Running, predict
from bot.replay import ReplayOptions, open_recording
from bot.venue.archive_feed import Archive, ArchiveOptions
from bot.venue.wire import Codec

Started = Callable[[str], Callable[[int, int], None]]


class EvaluationError(PlainError):
    """An evaluation cannot be made; the text says what is missing and the way out."""


class Options(Struct, frozen=True):
    """What to hold against what. ``since_ns`` is the first time whose rows count; those before it
    are context. ``checkpoint`` None is the config's."""

    data: Path
    symbol: str | None = None
    interval: str | None = None
    checkpoint: Path | None = None
    since_ns: int = 0
    repair: bool = False
    cost: float = TAKER_RATE
    running: Running = Running()


class Evaluation(Struct, frozen=True):
    """What came out. ``notes`` are for the reader, ``subjects`` are the rows behind the scores."""

    checkpoint: Checkpoint
    rows: list[Row]
    subjects: list[Subject]
    notes: list[str]


def evaluate(settings: Settings, options: Options, started: Started) -> Evaluation:
    """Read the data, run the model through its cache and the baselines from their files, score.

    The same data and checkpoint give the same numbers. Raises EvaluationError, CheckpointError
    and what the data's reader raises.
    """
    options = _named(options)
    checkpoint, path = _checkpoint(settings, options)
    return judged(checkpoint, path, _samples(checkpoint, options, started), options, started)


def judged(
    checkpoint: Checkpoint,
    path: Path | None,
    kept: list[Sample],
    options: Options,
    started: Started,
) -> Evaluation:
    """Score a checkpoint on rows that are at hand, beside the baselines that lie by its ``path``.

    Raises EvaluationError, CheckpointError.
    """
    notes = [f"model {checkpoint.card.name} is UNTRAINED: its scores mean nothing"]
    notes = [] if checkpoint.card.trained else notes
    said, more = _forecasts(checkpoint, path, kept, options, started)
    notes += more
    found = [_since(subject, options.since_ns) for subject in subjects(kept, said)]
    notes += _overlap(checkpoint.card, found)
    told: list[Row] = []
    progress = started("scores")
    for number, subject in enumerate(found):
        told += rows(checkpoint.card, subject, cost=options.cost)
        progress(number + 1, len(found))
    if not told:
        raise EvaluationError(
            f"{options.data}: no row has an outcome after --since: give more data"
        )
    return Evaluation(checkpoint, told, found, notes)


def prepared(
    settings: Settings, options: Options, started: Started
) -> tuple[Checkpoint, list[Sample]]:
    """The checkpoint and the rows that it reads. Raises as ``evaluate`` does."""
    options = _named(options)
    checkpoint, _ = _checkpoint(settings, options)
    return checkpoint, _samples(checkpoint, options, started)


def _samples(checkpoint: Checkpoint, options: Options, started: Started) -> list[Sample]:
    card = checkpoint.card
    interval = options.interval or card.interval
    if card.tokens == CANDLE_TOKENS and interval != card.interval:
        raise EvaluationError(
            f"--interval {interval}: model {card.name!r} reads candles of {card.interval}: choose "
            "another checkpoint or the other interval"
        )
    found = samples(
        _counted(
            _events(options, interval, of_candles=card.tokens == CANDLE_TOKENS), started("reading")
        ),
        tokens=card.tokens,
        interval=interval,
        horizons_ns=card.config.horizons_ns,
    )
    if options.symbol is not None:
        found = [sample for sample in found if sample.symbol == options.symbol]
    if not found:
        what = f"candles of interval {interval}" if card.tokens == CANDLE_TOKENS else "order books"
        raise EvaluationError(
            f"{options.data}: holds no {what} that model {card.name!r} could read"
        )
    return found


def _forecasts(
    checkpoint: Checkpoint,
    path: Path | None,
    found: list[Sample],
    options: Options,
    started: Started,
) -> tuple[list[dict[str, Forecast]], list[str]]:
    """The model's forecast and the baselines', a dict a symbol."""
    card = checkpoint.card
    fitted = load_baselines(path) if path is not None else None
    notes = []
    if fitted is None:
        notes.append("no fitted baselines lie beside the checkpoint: rules alone, by their order")
    elif fitted.trees is not None and not has_lightgbm():
        notes.append("boosted trees are left out: pip install 'kvtrader[research]'")
    if fitted is not None and tuple(fitted.horizons_ns) != card.config.horizons_ns:
        raise EvaluationError(f"{path}: its baselines have other horizons: fit them again")
    said = []
    for sample in found:
        progress = started(sample.symbol)
        mine = {card.name: predict(checkpoint, sample, options.running, progress)}
        if fitted is None or path is None:
            mine |= unfitted(card.tokens, sample, len(card.config.horizons_ns))
        else:
            mine |= forecasts(fitted, path.parent, sample)
        said.append(mine)
    return said, notes


def _since(subject: Subject, since_ns: int) -> Subject:
    """The rows before count for nothing: they have no outcome."""
    outcome = np.where((subject.ts >= since_ns)[:, None], subject.outcome, np.nan)
    return changed(subject, outcome=outcome)


def _overlap(card: Card, found: list[Subject]) -> list[str]:
    """A warning where rows are scored that the model was trained or chosen on."""
    end_ns = int(card.training.get("split", {}).get("valid_end", 0))
    scored = np.concatenate([one.ts[np.isfinite(one.outcome).any(axis=1)] for one in found])
    known = int((scored < end_ns).sum())
    if not known:
        return []
    day = datetime.fromtimestamp(end_ns / 1e9, UTC)
    text = (
        f"{known} of {len(scored)} rows lie before {day:%Y-%m-%dT%H:%M:%S}, where the data ended "
        f"that model {card.name} learned from: their scores are too good; add --since"
    )
    return [text]


# --- where it comes from ----------------------------------------------------------------------


def _checkpoint(settings: Settings, options: Options) -> tuple[Checkpoint, Path | None]:
    """The one named, else the config's for data of this kind."""
    if options.checkpoint is not None:
        path = Registry().path_of("", options.checkpoint)
        given = load(path)
        intervals = _intervals(options) if given.card.tokens == CANDLE_TOKENS else set()
        chosen = intervals.pop() if len(intervals) == 1 else given.card.interval
        return at_interval(given, chosen), path
    intervals = _intervals(options)
    role = PREDICTOR if intervals else ANALYZER
    model = settings.models.predictor if role == PREDICTOR else settings.models.analyzer
    if not model.enabled:
        raise EvaluationError(f"models.{role} is not enabled: enable it, or give --checkpoint")
    if len(intervals) == 1:  # an untrained model is made for any
        feed = settings.feed.model_copy(update={"interval": intervals.pop()})
        settings = settings.model_copy(update={"feed": feed})
    chosen_path = None if model.checkpoint is None else Registry().path_of(role, model.checkpoint)
    return inference.checkpoints(settings)[role], chosen_path


def _named(options: Options) -> Options:
    """BTCUSDT is written linear:BTCUSDT everywhere."""
    symbol = options.symbol
    if symbol is None or ":" in symbol:
        return options
    return changed(options, symbol=f"linear:{symbol}")


def _intervals(options: Options) -> set[str]:
    """The intervals of candles that are wanted; none where order books are."""
    if options.interval is not None:
        return {options.interval}
    inputs = _recording(options)
    sources = inputs.sources if isinstance(inputs, Archive) else []
    return {one.interval for one in sources if one.kind == "candles"}


def _recording(options: Options) -> Any:
    symbol = options.symbol if options.data.is_file() else None
    archive = ArchiveOptions(repair=options.repair, symbol=symbol)
    return open_recording(options.data, ReplayOptions(archive=archive)).inputs


def _events(options: Options, interval: str, *, of_candles: bool) -> Iterator[Event]:
    """Market events of the data; of archives, only what a model of its kind reads."""
    inputs = _recording(options)
    if isinstance(inputs, Archive):
        kinds = ("candles", "funding") if of_candles else ("book", "binance_book", "trades")
        inputs.sources = [
            one
            for one in inputs.sources
            if one.kind in kinds
            and one.interval in ("", interval)
            and options.symbol in (None, one.symbol)
        ]
        yield from inputs
        return
    codec = Codec()
    for item in inputs:
        yield from codec.decode(item)


def _counted(events: Iterator[Event], progress: Callable[[int, int], None]) -> Iterator[Event]:
    for number, event in enumerate(events):
        if number % 10_000 == 0:
            progress(number, 0)
        yield event
