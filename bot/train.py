"""Files of history to a dataset, and a dataset to a trained model. Importing this loads torch."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import structlog
from msgspec import Struct

from bot import __version__
from bot.core.errors import PlainError
from bot.core.events import BookUpdate, Candle, Event, FundingRate
from bot.model.baselines import has_lightgbm
from bot.model.checkpoint import Card
from bot.model.dataset import (
    Dataset,
    Segment,
    Series,
    book_segments,
    candle_segments,
    join,
    save_dataset,
)
from bot.model.lesson import Teachers
from bot.model.recipe import recipe_of
from bot.model.tokens import Bars
from bot.model.training import train
from bot.venue.archive import is_capture, read_capture
from bot.venue.archive_feed import Archive, ArchiveOptions
from bot.venue.wire import Codec

log = structlog.get_logger()

Progress = Callable[[int, int], None]
_REPORT_EVERY = 20_000
_READ_BYTES = 1 << 20


class TrainingDataError(PlainError):
    """Files cannot become a dataset; the text says which and the way out."""


class Wanted(Struct, frozen=True):
    """What to take from the files: symbols ("linear:BTCUSDT") and intervals, () for all of them.

    ``repair`` goes on over damaged rows and gaps, which are otherwise refused by row.
    """

    symbols: tuple[str, ...] = ()
    intervals: tuple[str, ...] = ()
    repair: bool = False


def candles(
    paths: Sequence[Path], wanted: Wanted, progress: Progress = lambda _done, _total: None
) -> Dataset:
    """A dataset of every candle series of the files, with the funding rates that they hold.

    Raises ArchiveError for a damaged row, DatasetError, TrainingDataError for a symbol that no
    file has.
    """
    archive = _archive(paths, wanted)
    columns: dict[Series, list[tuple[float, ...]]] = {}
    funding: dict[str, float] = {}
    for event in _counted(archive, progress):
        if isinstance(event, FundingRate):
            funding[event.symbol] = float(event.rate)
        elif isinstance(event, Candle) and _is_wanted(event, wanted):
            numbers = (event.open, event.high, event.low, event.close, event.volume)
            row = (event.open_ts, *map(float, numbers), funding.get(event.symbol, np.nan))
            columns.setdefault(Series(event.symbol, event.interval), []).append(row)
    _require_all({series.symbol for series in columns}, wanted)
    _told(archive)
    segments = (part for series, rows in columns.items() for part in _segments(series, rows))
    return join(segments, kind="candles", venue=_venue(archive), sources=_hashes(archive))


def books(
    paths: Sequence[Path],
    wanted: Wanted,
    depth: int | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Dataset:
    """A dataset of every symbol's book in the files: archives, or one raw capture.

    ``depth`` chooses among the books of a capture; without it the first one seen of a symbol is
    taken. Raises ArchiveError, CaptureError, DatasetError, TrainingDataError.
    """
    if len(paths) == 1 and paths[0].is_file() and is_capture(paths[0]):
        events, venue, sources = list(_capture(paths[0])), "bybit", {paths[0].name: _hash(paths[0])}
    else:
        archive = _archive(paths, wanted)
        events = list(_counted(archive, progress))
        _told(archive)
        venue, sources = _venue(archive), _hashes(archive)
    depths: dict[str, int] = {}
    for event in events:
        if isinstance(event, BookUpdate) and (not wanted.symbols or event.symbol in wanted.symbols):
            depths.setdefault(event.symbol, event.depth if depth is None else depth)
    _require_all(set(depths), wanted)
    segments = (part for symbol in depths for part in book_segments(symbol, depths[symbol], events))
    return join(segments, kind="book", venue=venue, sources=sources)


def code_version() -> str:
    """The program's version, with the commit where it runs from a checkout."""
    here = Path(__file__).resolve().parent.parent
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],  # noqa: S607 - the user's own git
            cwd=here, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{found.stdout.strip()}"


# --- the parts --------------------------------------------------------------------------------


def _archive(paths: Sequence[Path], wanted: Wanted) -> Archive:
    return Archive(paths, ArchiveOptions(repair=wanted.repair))


def _segments(series: Series, rows: list[tuple[float, ...]]) -> Iterator[Segment]:
    open_ts = np.array([row[0] for row in rows], dtype=np.int64)
    numbers = np.array([row[1:] for row in rows], dtype=np.float64).T
    rows.clear()
    return candle_segments(series, Bars(open_ts, *numbers))


def _is_wanted(candle: Candle, wanted: Wanted) -> bool:
    return (not wanted.symbols or candle.symbol in wanted.symbols) and (
        not wanted.intervals or candle.interval in wanted.intervals
    )


def _require_all(found: set[str], wanted: Wanted) -> None:
    missing = sorted(set(wanted.symbols) - found)
    if missing:
        known = ", ".join(sorted(found)) or "nothing"
        raise TrainingDataError(
            f"{', '.join(missing)}: no row in the files, which hold {known}: add its files or "
            "leave it out"
        )


def _counted(archive: Archive, progress: Progress) -> Iterator[Event]:
    done = 0
    for done, event in enumerate(archive, 1):
        if done % _REPORT_EVERY == 0:
            progress(done, 0)
        yield event
    progress(done, done)


def _told(archive: Archive) -> None:
    for kind, count in archive.damage.counts.items():
        log.warning("repaired", kind=kind, count=count)


def _capture(path: Path) -> Iterator[Event]:
    codec = Codec()
    for item in read_capture(path):
        yield from codec.decode(item)


def _venue(archive: Archive) -> str:
    return "+".join(sorted({source.venue for source in archive.sources}))


def _hashes(archive: Archive) -> dict[str, str]:
    return {source.path.name: _hash(source.path) for source in archive.sources}


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


# --- training ---------------------------------------------------------------------------------


def keep(data: Dataset, path: Path, *, half: bool) -> dict[str, Any]:
    """Write the dataset to a file and say what it holds."""
    save_dataset(data, path, half=half)
    return {
        "path": str(path),
        "rows": len(data),
        "segments": len(data.series_of),
        "series": [str(series) for series in data.series],
        "first_ts": int(data.ts.min()),
        "last_ts": int(data.ts.max()),
        "mbytes": round(path.stat().st_size / 1e6, 1),
        "sha256": data.sha256(),
    }


def fit(
    data: Dataset,
    recipe: str,
    out: Path,
    *,
    seed: int | None,
    steps: int | None,
    resume: bool,
    progress: Progress,
    teachers: Teachers | None = None,
) -> dict[str, Any]:
    """Train by a recipe (its name, or a JSON file) and say what came of it.

    Raises RecipeError, DatasetError, TrainingError, ResumeError, and with teachers LessonError.
    """
    chosen = recipe_of(Path(recipe))
    changes = {"seed": seed, "steps": steps}
    chosen = msgspec.structs.replace(
        chosen, **{name: value for name, value in changes.items() if value is not None}
    )

    def told(step: int, steps: int, figures: dict[str, float]) -> None:
        progress(step, steps)
        if "ic" in figures:
            log.info("validation", step=step, loss=figures["loss"], ic=figures["ic"])

    began = time.monotonic()
    made = train(
        data, chosen, out, resume=resume, progress=told, code_version=code_version(),
        teachers=teachers or Teachers(),
    )  # fmt: skip
    return _told_of(made.card, out, began)


def ship(data: Dataset, out: Path, started: Callable[[str], Progress]) -> dict[str, Any]:
    """Make a checkpoint by the plan of those that ship, and say what came of it.

    Raises as ``fit`` does, and TrainingDataError without lightgbm.
    """
    if not has_lightgbm():
        raise TrainingDataError(
            "trees teach beside the transformers: pip install 'kvtrader[research]'"
        )
    from bot.research.teaching.distil import distil  # noqa: PLC0415 - an optional extra
    from bot.research.teaching.plans import PLANS  # noqa: PLC0415

    plan = PLANS["analyzer" if data.kind == "book" else "predictor"]
    began, progress = time.monotonic(), started("steps")

    def told(step: int, steps: int, _figures: dict[str, float]) -> None:
        progress(step, steps)

    made = distil(
        data, plan, out, code_version=code_version(), progress=told,
        say=lambda text: log.info("shipped", now=text),
    )  # fmt: skip
    return _told_of(made.card, out, began)


def _told_of(card: Card, out: Path, began: float) -> dict[str, Any]:
    return {
        "model": card.name,
        "checkpoint": str(out / f"{card.name}.safetensors"),
        "record": str(out / "run.jsonl"),
        "curve": str(out / "curve.svg"),
        "weights_sha256": card.weights_sha256,
        "wall_s": round(time.monotonic() - began, 1),
        **card.metrics,
    }
