"""The project's own book on real Binance depth streams, held against Binance's bookTicker.

Binance publishes the best bid and ask with the update id at which they changed, on another
stream than the depth diffs: an oracle that shares nothing with the book. The adapter below is all
that knows Binance: https://developers.binance.com/docs/derivatives/usds-margined-futures .
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from bot.core.book import Book
from bot.core.events import BookUpdate
from bot.core.instrument import E12_OF_TEXT
from tests.venue.real_data import real

SYMBOL = "linear:BINANCE"
SHORT = "usdm_btcusdt_20240718.gz"
SERIES = {
    "btc-2023": ("usdm_btcusdt_20230404.dat.gz", "usdm_btcusdt_20230405.dat.gz"),
    "btc-2024": (SHORT, "usdm_btcusdt_20240719.gz"),
    "eth-2024": ("usdm_ethusdt_20240718.gz", "usdm_ethusdt_20240719.gz"),
}


class Checked(NamedTuple):
    """What was compared: update ids of the ticker, and of the book's own updates."""

    exact: int
    carried: int
    mismatches: list[str]
    broken: int


def frames(paths: Sequence[Path]) -> Iterator[dict]:
    for path in paths:
        with gzip.open(path) as file:
            for line in file:
                yield msgspec.json.decode(line.partition(b" ")[2])


def update_of(frame: dict, *, is_snapshot: bool) -> BookUpdate:
    """A depth diff or a REST snapshot as the event that the book takes."""
    number = E12_OF_TEXT
    sides = [
        [(number[price], number[qty]) for price, qty in frame[key]]
        for key in (("bids", "asks") if is_snapshot else ("b", "a"))
    ]
    u = frame["lastUpdateId"] if is_snapshot else frame["u"]
    return BookUpdate(0, frame["T"] * 10**6, SYMBOL, 0, u, u, is_snapshot, *sides)


def tickers_and_depth(paths: Sequence[Path]) -> tuple[list[dict], list[dict], list[dict]]:
    """The streams apart: bookTicker, diffs, snapshots. Nothing else is looked at."""
    tickers, diffs, snapshots = [], [], []
    for frame in frames(paths):
        if "lastUpdateId" in frame:
            snapshots.append(frame)
        elif frame["stream"].endswith("@bookTicker"):
            tickers.append(frame["data"])
        elif "@depth" in frame["stream"]:
            diffs.append(frame["data"])
    return tickers, diffs, snapshots


def hold_against_ticker(paths: Sequence[Path], leave_out_every: int = 0) -> Checked:
    """Rebuild the book from its snapshot and diffs; compare at every update id that can be.

    A diff brings the book to its ``u``. There, the best prices are those of the last ticker at or
    below ``u``: exactly there (``exact``), or carried over, since every change is published.
    """
    tickers, diffs, snapshots = tickers_and_depth(paths)
    tickers.sort(key=lambda ticker: ticker["u"])
    (snapshot,) = snapshots
    book = Book()
    book.apply(update_of(snapshot, is_snapshot=True))
    exact = carried = broken = at = 0
    mismatches: list[str] = []
    for number, diff in enumerate(diffs, 1):
        if leave_out_every and number % leave_out_every == 0:
            continue
        if diff["u"] < snapshot["lastUpdateId"]:
            continue
        if book.u != snapshot["lastUpdateId"] and diff["pu"] != book.u:
            broken += 1
        book.apply(update_of(diff, is_snapshot=False))
        while at + 1 < len(tickers) and tickers[at + 1]["u"] <= book.u:
            at += 1
        ticker = tickers[at]
        if ticker["u"] > book.u:
            continue
        exact += ticker["u"] == book.u
        carried += ticker["u"] != book.u
        ours = (book.best_bid, book.bids[book.best_bid], book.best_ask, book.asks[book.best_ask])
        theirs = tuple(E12_OF_TEXT[ticker[key]] for key in ("b", "B", "a", "A"))
        if ours != theirs:
            mismatches.append(f"u {book.u}: book {ours}, ticker at {ticker['u']} {theirs}")
    return Checked(exact, carried, mismatches, broken)


def require_equal(checked: Checked, least: int) -> None:
    assert not checked.mismatches, (len(checked.mismatches), checked.mismatches[:3])
    assert checked.broken == 0
    assert checked.exact > 0
    assert checked.exact + checked.carried >= least


def test_the_book_has_binances_best_prices_at_every_update_id():
    require_equal(hold_against_ticker([real(f"binance_l2/{SHORT}")]), least=3_000)


def test_the_oracle_notices_a_book_that_misses_updates():
    checked = hold_against_ticker([real(f"binance_l2/{SHORT}")], leave_out_every=40)
    assert checked.broken > 10
    assert checked.mismatches


@pytest.mark.nightly
@pytest.mark.parametrize("series", SERIES)
def test_the_book_has_binances_best_prices_over_all_files(series):
    paths = [real(f"binance_l2/{name}") for name in SERIES[series]]
    require_equal(hold_against_ticker(paths), least=8_000)
