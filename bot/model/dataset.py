"""Tokens of many series with the prices that follow them: what a model is trained and judged on.

A dataset is made from core events or columns, and can be kept in one file, so that a machine with
nothing but torch can train on it. Rows are tokens; a segment is a stretch of one series without a
gap, in the order of time. What is predicted is taken from a segment's own later prices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bot.core.errors import PlainError
from bot.core.events import Event, FeedDown
from bot.model.tokens import (
    BOOK_FEATURES,
    BOOK_TOKENS,
    CANDLE_FEATURES,
    CANDLE_TOKENS,
    Bars,
    BookTokens,
    CandleState,
    Token,
    candle_tokens,
    interval_ns,
)

_FORMAT = 1
_NS_PER_MS = 1_000_000


class DatasetError(PlainError):
    """A dataset cannot be made, read or used; the text says which, why and the way out."""


class Series(Struct, frozen=True):
    """One stream of tokens. ``interval`` is "" for a book."""

    symbol: str
    interval: str = ""

    def __str__(self) -> str:
        return f"{self.symbol} {self.interval}".strip()


class Segment(Struct, frozen=True):
    """Tokens [T, F] of a stretch without a gap; ``ts`` [T] is each one's exchange time, ``price``
    [T] the close or mid then, ``volatility`` [T] that of a bar's return, 1 for books."""

    series: Series
    ts: NDArray[np.int64]
    tokens: NDArray[np.float32]
    price: NDArray[np.float64]
    volatility: NDArray[np.float64]


class Dataset(Struct, frozen=True, kw_only=True):
    """Segments laid end to end: N rows, S segments.

    ``sources`` maps the names of the files read to their SHA-256.
    """

    kind: Literal["candles", "book"]
    venue: str
    series: tuple[Series, ...]
    sources: dict[str, str]
    tokens: NDArray[np.float32]  # [N, F]
    ts: NDArray[np.int64]  # [N]
    price: NDArray[np.float64]  # [N]
    volatility: NDArray[np.float64]  # [N]
    starts: NDArray[np.int64]  # [S + 1], the last is N
    series_of: NDArray[np.int64]  # [S], an index of ``series``

    def __len__(self) -> int:
        return len(self.ts)

    @property
    def token_kind(self) -> str:
        return CANDLE_TOKENS if self.kind == "candles" else BOOK_TOKENS

    @property
    def row_series(self) -> NDArray[np.int64]:
        """[N] which of ``series`` a row is of."""
        return np.repeat(self.series_of, np.diff(self.starts))

    def horizons_ns(self, horizons: Sequence[int]) -> NDArray[np.int64]:
        """[series, horizons] in ns, of horizons given in bars, or in ms for books."""
        units = [
            interval_ns(one.interval) if self.kind == "candles" else _NS_PER_MS
            for one in self.series
        ]
        return np.outer(np.array(units), np.array(horizons, dtype=np.int64))

    def sha256(self) -> str:
        """Of everything a training sees."""
        digest = hashlib.sha256(msgspec.json.encode(self._header()))
        for name in _COLUMNS:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()

    def _header(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "kind": self.kind,
            "token_kind": self.token_kind,
            "venue": self.venue,
            "series": self.series,
            "sources": self.sources,
        }


_COLUMNS = ("tokens", "ts", "price", "volatility", "starts", "series_of")


# --- Making -----------------------------------------------------------------------------------


def candle_segments(series: Series, bars: Bars) -> Iterator[Segment]:
    """The bars' stretches without a gap, each tokenised from nothing as a fresh stream would be.

    Raises DatasetError where times do not rise or a price is no positive number.
    """
    _check(series, bars)
    bar_ns = interval_ns(series.interval)
    cuts = np.flatnonzero(np.diff(bars.open_ts) != bar_ns) + 1
    for first, end in pairwise([0, *cuts.tolist(), len(bars.open_ts)]):
        part = Bars(*(getattr(bars, name)[first:end] for name in Bars.__struct_fields__))
        tokens, volatility, _ = candle_tokens(part, series.interval, CandleState())
        yield Segment(series, part.open_ts + bar_ns, tokens, part.close, volatility)


def book_segments(symbol: str, depth: int, events: Iterable[Event]) -> Iterator[Segment]:
    """One symbol's books and trades, in order; a segment ends where the feed goes down."""
    series, reader = Series(symbol), BookTokens(symbol, depth)
    rows: list[tuple[int, Token, float]] = []
    for event in events:
        if getattr(event, "symbol", None) != symbol:
            continue
        token = reader.read(event)
        if token is not None:
            rows.append((event.exchange_ts, token, reader.mid))
        elif isinstance(event, FeedDown) and rows:
            yield _book_segment(series, rows)
            rows = []
    if rows:
        yield _book_segment(series, rows)


def join(
    segments: Iterable[Segment],
    *,
    kind: Literal["candles", "book"],
    venue: str,
    sources: dict[str, str],
) -> Dataset:
    """One dataset of all the segments. Raises DatasetError if there is none."""
    parts = sorted(segments, key=lambda part: (str(part.series), int(part.ts[0])))
    if not parts:
        raise DatasetError("no rows: the files hold nothing of the symbols and intervals wanted")
    series = tuple(dict.fromkeys(part.series for part in parts))
    return Dataset(
        kind=kind,
        venue=venue,
        series=series,
        sources=sources,
        tokens=np.concatenate([part.tokens for part in parts]),
        ts=np.concatenate([part.ts for part in parts]),
        price=np.concatenate([part.price for part in parts]),
        volatility=np.concatenate([part.volatility for part in parts]),
        starts=np.cumsum([0, *(len(part.ts) for part in parts)]),
        series_of=np.array([series.index(part.series) for part in parts]),
    )


def _book_segment(series: Series, rows: list[tuple[int, Token, float]]) -> Segment:
    ts, tokens, mids = zip(*rows, strict=True)
    # a stamp may lie before its predecessor's where the recorder's order says otherwise
    stamps = np.maximum.accumulate(np.array(ts, dtype=np.int64))
    return Segment(series, stamps, np.stack(tokens), np.array(mids), np.ones(len(mids)))


def _check(series: Series, bars: Bars) -> None:
    late = np.flatnonzero(np.diff(bars.open_ts) <= 0)
    if len(late):
        row = int(late[0]) + 1
        raise DatasetError(f"{series}: bar {row} opens at {bars.open_ts[row]}, not after the last")
    for name in ("open", "high", "low", "close", "volume"):
        column = getattr(bars, name)
        least = 0 if name == "volume" else 5e-324
        bad = np.flatnonzero(~(np.isfinite(column) & (column >= least)))
        if len(bad):
            raise DatasetError(f"{series}: {name} of bar {bad[0]} is {column[bad[0]]}")


# --- What is predicted ------------------------------------------------------------------------


def future_returns(data: Dataset, horizons: Sequence[int]) -> NDArray[np.float64]:
    """Log returns [N, H] of the price from each row to ``horizons`` (bars, or ms) later.

    The later price is the last one known at that exchange time; NaN where the segment ends before
    it, so a return never crosses a gap.
    """
    spans = data.horizons_ns(horizons)
    found = np.full((len(data), len(horizons)), np.nan)
    for index, (first, end) in enumerate(pairwise(data.starts.tolist())):
        ts, logs = data.ts[first:end], np.log(data.price[first:end])
        for column, span in enumerate(spans[data.series_of[index]]):
            due = ts + span
            known = due <= ts[-1]
            at = np.searchsorted(ts, due[known], side="right") - 1
            found[first:end, column][known] = logs[at] - logs[known]
    return found


class Split(Struct, frozen=True):
    """Rows by exchange time in ns: training before ``train_end``, validation before ``valid_end``,
    what is judged from there on, before ``test_end`` if that is not 0.

    ``embargo_ns`` is left out before each end, so that no row's return reaches into the next part;
    it is at least the longest horizon.
    """

    train_end: int
    valid_end: int
    embargo_ns: int
    train_start: int = 0
    test_end: int = 0


def parts_of(
    data: Dataset, split: Split
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks [N] of the rows for training, validation and judging."""
    ts, embargo = data.ts, split.embargo_ns
    train = (ts >= split.train_start) & (ts < split.train_end - embargo)
    valid = (ts >= split.train_end) & (ts < split.valid_end - embargo)
    test = ts >= split.valid_end
    if split.test_end:
        test &= ts < split.test_end - embargo
    return train, valid, test


def walk_forward(
    first_ns: int, last_ns: int, *, folds: int, valid_ns: int, test_ns: int, embargo_ns: int
) -> list[Split]:
    """``folds`` splits whose judged stretches of ``test_ns`` follow each other up to ``last_ns``;
    each trains on everything before its validation. Raises DatasetError if the first has nothing.
    """
    splits = []
    for fold in range(folds):
        end = last_ns - (folds - 1 - fold) * test_ns
        valid_end = end - test_ns
        splits.append(Split(valid_end - valid_ns, valid_end, embargo_ns, first_ns, end))
    if splits and splits[0].train_end - embargo_ns <= first_ns:
        raise DatasetError(
            f"{folds} folds of {test_ns} ns leave nothing to train on: use fewer or shorter ones"
        )
    return splits


# --- Keeping ----------------------------------------------------------------------------------


def save_dataset(data: Dataset, path: Path, *, half: bool = False) -> None:
    """Write one .npz file; with ``half`` tokens are rounded to float16, to carry them further."""
    columns = {name: getattr(data, name) for name in _COLUMNS}
    if half:
        columns["tokens"] = data.tokens.astype(np.float16)
    header = np.frombuffer(msgspec.json.encode(data._header()), dtype=np.uint8)  # noqa: SLF001
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, header=header, **columns)


class _Header(Struct):
    format: int
    kind: Literal["candles", "book"]
    token_kind: str
    venue: str
    series: tuple[Series, ...]
    sources: dict[str, str]


def load_dataset(path: Path) -> Dataset:
    """Read what ``save_dataset`` wrote. Raises DatasetError."""
    try:
        with np.load(path, allow_pickle=False) as found:
            header = msgspec.json.decode(found["header"].tobytes(), type=_Header)
            columns: dict[str, Any] = {name: found[name] for name in _COLUMNS}
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, msgspec.MsgspecError) as error:
        raise DatasetError(f"{path}: no dataset: {error}; make it again") from error
    columns["tokens"] = columns["tokens"].astype(np.float32)
    data = Dataset(
        kind=header.kind,
        venue=header.venue,
        series=header.series,
        sources=header.sources,
        **columns,
    )
    features = CANDLE_FEATURES if data.kind == "candles" else BOOK_FEATURES
    if header.token_kind != data.token_kind or data.tokens.shape[1] != features:
        raise DatasetError(
            f"{path}: {header.token_kind} tokens of {data.tokens.shape[1]} features, this version "
            f"makes {data.token_kind} of {features}: make the dataset again"
        )
    return data
