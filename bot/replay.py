"""A recorded session through the same path: a journal of ours, a raw capture, or archives."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from msgspec import Struct
from sqlalchemy import Connection

from bot import build
from bot.config import Settings, recorded
from bot.core.errors import PlainError
from bot.core.events import BookUpdate, Event, Fact, Input, Prediction
from bot.core.instrument import to_decimal
from bot.garbage import rare_collections
from bot.ledger import queries
from bot.ledger.digest import line_of, plain
from bot.ledger.facts import read_facts
from bot.ledger.journal import (
    JournalError,
    JournalReader,
    NewerJournal,
    headers,
    is_journal,
    read_header,
)
from bot.ledger.reading import read
from bot.run import Memory, Run, money, scores, shadows
from bot.venue.archive import Capture, is_capture, read_capture
from bot.venue.archive_feed import Archive, ArchiveOptions
from bot.venue.archive_text import ArchiveError

BBO_COLUMNS = (
    "symbol",
    "category",
    "ts_exchange_ms",
    "u",
    "best_bid",
    "bid_size",
    "best_ask",
    "ask_size",
)
Predictions: TypeAlias = Literal["recorded", "recompute", "none"]


class ReplayError(PlainError):
    """A replay cannot be made, or differs from its run; the text says where."""


class ReplayOptions(Struct, frozen=True):
    """What to do beside stepping. ``db`` is the ledger that ``verify`` compares with.

    ``also`` are more archive files or folders, merged with the first.
    """

    predictions: Predictions | None = None
    verify: bool = False
    bbo: Path | None = None
    db: str = ""
    also: tuple[Path, ...] = ()
    archive: ArchiveOptions = ArchiveOptions()


_PLAIN = ReplayOptions()


class Recording(Struct):
    """Where the inputs come from, and the settings they were made with, if known."""

    inputs: JournalReader | Capture | Archive
    run_id: str | None = None
    settings: Settings | None = None

    @property
    def is_journal(self) -> bool:
        return isinstance(self.inputs, JournalReader)

    @property
    def torn(self) -> str:
        """What is missing of the inputs, known after they were read; "" for nothing."""
        if isinstance(self.inputs, JournalReader):
            return self.inputs.torn or ""
        return self.inputs.truncated if isinstance(self.inputs, Capture) else ""


def open_recording(path: Path, options: ReplayOptions = _PLAIN) -> Recording:
    """Raises ReplayError, JournalError, CaptureError or ArchiveError."""
    if not path.exists():
        raise ReplayError(f"{path}: no such file or folder")
    try:
        header = read_header(path)
    except NewerJournal:
        raise
    except JournalError as error:
        return _other_recording(path, options, error)
    if options.also:
        raise ReplayError(f"{path}: a journal; only archives are merged with others")
    reader = JournalReader(path)
    if "config" not in header:  # a recording of the feed alone
        return Recording(reader)
    settings = recorded(header["config"], f"{path}: the header's config")
    return Recording(reader, run_id=header["run"], settings=settings)


def _other_recording(path: Path, options: ReplayOptions, no_journal: JournalError) -> Recording:
    if is_capture(path):
        if options.also:
            raise ReplayError(f"{path}: a capture; only archives are merged with others")
        return Recording(read_capture(path))
    try:
        archive = Archive((path, *options.also), options.archive)
    except ArchiveError as error:
        raise ReplayError(
            f"{path}: neither a raw capture nor a journal ({no_journal}), nor an archive ({error})"
        ) from error
    return Recording(archive)


def replay(
    path: Path,
    settings: Settings,
    options: ReplayOptions,
    *,
    is_chosen: bool = False,
    progress: Callable[[Iterable[Input]], Iterable[Input]] = iter,
) -> dict[str, Any]:
    """Step through ``path``; returns the summary.

    A journal's own settings hold, unless ``settings`` were chosen for this replay.

    Raises ReplayError, StrategyError and what the recording's reader raises.
    """
    recording = open_recording(path, options)
    chosen = settings if is_chosen or recording.settings is None else recording.settings
    predictions = options.predictions or ("recorded" if recording.is_journal else "none")
    with ExitStack() as stack:
        facts = _Facts() if options.verify else Memory()
        run = Run(build.engine(chosen), facts)
        if options.bbo is not None:
            run.watchers.append(stack.enter_context(_BboFile(options.bbo, run)))
        recomputed = _recomputation(chosen, run, path) if predictions == "recompute" else None
        stack.enter_context(rare_collections())
        started = time.perf_counter()
        if recording.settings is None:
            for fee in build.fees(chosen, 0):
                run.take(fee)
            run.position = 0
        for item in _with(progress(recording.inputs), predictions):
            run.take(item)
        if run.has_ended or recording.settings is None:
            run.finish()  # else the end is torn off, and what travels there did not arrive
        wall_s = time.perf_counter() - started
    summary = _summary(path, recording, run, facts, wall_s)
    if recomputed is not None:
        summary |= recomputed.summary()
    if isinstance(facts, _Facts):
        _verify(recording, facts, options.db)
        summary["verified"] = True
    return summary


def _with(inputs: Iterable[Input], predictions: Predictions) -> Iterator[Input]:
    """The inputs, without the recorded predictions where none are wanted."""
    if predictions == "none":
        return (item for item in inputs if type(item) is not Prediction)
    return iter(inputs)


def _summary(
    path: Path, recording: Recording, run: Run, facts: Memory, wall_s: float
) -> dict[str, Any]:
    counts = run.counts
    summary: dict[str, Any] = {
        "path": str(path),
        "run": recording.run_id,
        "inputs": run.position,
        "events": run.events,
        "frames": run.frames,
        "skipped": run.skipped,
        "gaps": counts["gaps"],
        "predictions": counts["predictions"],
        "orders": counts["orders"],
        "fills": counts["fills"],
        **money(run),
        **shadows(run),
        "facts": counts["facts"],
        "digest": facts.digest.hexdigest(),
        "scores": scores(run),
        "wall_s": round(wall_s, 6),
        "frames_per_s": round(run.frames / wall_s) if wall_s else 0,
    }
    if recording.torn:
        summary["torn"] = recording.torn
    if isinstance(recording.inputs, Archive) and recording.inputs.damage.counts:
        summary["repaired"] = dict(recording.inputs.damage.counts)
    return summary


# --- --predictions recompute ------------------------------------------------------------------


def _recomputation(settings: Settings, run: Run, path: Path) -> Any:
    from bot.recompute import Recomputation  # noqa: PLC0415 - loads torch, which others save

    used = [
        (header["first_position"], header["models"])
        for header in (headers(path) if is_journal(path) else [])
        if "models" in header
    ]
    recomputation = Recomputation(settings, used)
    run.watchers.append(recomputation)
    return recomputation


# --- --bbo --------------------------------------------------------------------------------------


class _BboFile:
    """The best prices after every book message, as CSV."""

    def __init__(self, path: Path, run: Run) -> None:
        self._path = path
        self._market = run.engine.market

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise ReplayError(f"{self._path}: cannot be written: {error.strerror}") from error
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(BBO_COLUMNS)
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __call__(self, position: int, event: Event, facts: Sequence[Fact]) -> None:
        del position, facts
        if not isinstance(event, BookUpdate):
            return
        category, _, name = event.symbol.partition(":")
        book = self._market.listing(event.symbol).book
        bid, ask = book.best_bid, book.best_ask
        numbers = (bid, book.bids.get(bid, 0), ask, book.asks.get(ask, 0))
        shown = [plain(to_decimal(number)) if number else "" for number in numbers]
        self._rows.writerow([name, category, event.exchange_ts // 1_000_000, event.u, *shown])


# --- --verify -----------------------------------------------------------------------------------


class _Facts(Memory):
    """Keeps every fact, to be held against the ledger's."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Fact] = []

    def add(self, position: int, event: Event | None, facts: Sequence[Fact]) -> None:
        super().add(position, event, facts)
        self.kept += facts


def _verify(recording: Recording, facts: _Facts, db: str) -> None:
    """Raise ReplayError, naming the first fact that differs from the ledger's."""
    run_id = recording.run_id
    if run_id is None:
        raise ReplayError(
            "--verify needs a journal: a capture, an archive or a recording has no run"
        )

    def ask(connection: Connection) -> tuple[dict[str, Any], list[Fact]]:
        facts = [stored.fact for stored in read_facts(connection, run_id)]
        return queries.run(connection, run_id), facts

    row, recorded = read(db, ask)
    for number, (ours, theirs) in enumerate(zip(facts.kept, recorded, strict=False)):
        if line_of(ours) != line_of(theirs):
            raise ReplayError(
                f"run {run_id}: fact {number} differs: the ledger has {_text(theirs)}, "
                f"the replay makes {_text(ours)}"
            )
    if len(facts.kept) != len(recorded):
        longer, what = (
            (facts.kept, "replay") if len(facts.kept) > len(recorded) else (recorded, "ledger")
        )
        first = min(len(facts.kept), len(recorded))
        raise ReplayError(
            f"run {run_id}: the ledger has {len(recorded)} facts, the replay makes "
            f"{len(facts.kept)}; fact {first} is only in the {what}: {_text(longer[first])}"
        )
    if row["digest"] != facts.digest.hexdigest():
        raise ReplayError(
            f"run {run_id}: the facts are equal but the ledger's digest is {row['digest']}, "
            f"the replay's {facts.digest.hexdigest()}"
        )


def _text(fact: Fact) -> str:
    return line_of(fact).decode().strip()
