"""Facts and events to rows, and rows back to facts; nothing is lost on the way.

A fact's row is (run id, fact number, journal position[, kind], its plain values). Text and
integers are bound as they are, so that thousands of rows cost one prepared statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import Table

from bot.core.events import (
    Accepted,
    Amend,
    Cancel,
    Cancelled,
    Candle,
    Command,
    Fact,
    FeedDown,
    FeedUp,
    Fill,
    FundingPaid,
    FundingRate,
    Instrument,
    Liquidated,
    Order,
    Prediction,
    Refusal,
    Rejected,
    Signal,
    Triggered,
)
from bot.ledger import tables
from bot.ledger.digest import FIELDS, decimal_fields, encode, plain
from bot.ledger.postings import Transfer

Row: TypeAlias = tuple[Any, ...]
Recorded: TypeAlias = Prediction | FeedDown | FeedUp | Command | Instrument | FundingRate
"""Events that have rows of their own; facts apart, every other event is in the journal alone."""
RECORDED: Final = frozenset((Prediction, FeedDown, FeedUp, Command, Instrument, FundingRate))

RECORDED_LIVE: Final = RECORDED | {Candle}
"""Of a live run also the closed bars: no file beside it has them."""

TABLE_OF: Final[Mapping[type[Any], Table]] = {
    Signal: tables.signals,
    Order: tables.orders,
    Amend: tables.order_events,
    Cancel: tables.order_events,
    Refusal: tables.order_events,
    Accepted: tables.order_events,
    Triggered: tables.order_events,
    Rejected: tables.order_events,
    Cancelled: tables.order_events,
    Fill: tables.fills,
    FundingPaid: tables.funding_paid,
    Liquidated: tables.liquidations,
}
_DECIMALS: Final = {kind: decimal_fields(kind) for kind in TABLE_OF}
_KIND: Final = {kind.__name__: kind for kind in TABLE_OF}
_ONLY_KIND: Final = {table: kind for kind, table in TABLE_OF.items()}


def column_of(kind: type[Any], field: str) -> str:
    """The column of a fact's field. ``position`` and ``id`` mean other things in the tables."""
    if field == "id":
        return "order_id" if kind is Order else "fill_id"
    return "position_qty" if field == "position" else field


def fact_columns(kind: type[Any]) -> tuple[str, ...]:
    """The columns of a fact's row, in order."""
    head = (
        "run_id",
        "n",
        "position",
        *(("kind",) if TABLE_OF[kind] is tables.order_events else ()),
    )
    return (*head, *(column_of(kind, field) for field in FIELDS[kind]))


def fact_of(table: Table, row: Mapping[str, Any]) -> Fact:
    """The fact of a row read with its column names; decimals come back exact."""
    kind = _KIND[row["kind"]] if table is tables.order_events else _ONLY_KIND[table]
    values = {field: row[column_of(kind, field)] for field in FIELDS[kind]}
    for name in _DECIMALS[kind]:
        if values[name] is not None:
            values[name] = Decimal(values[name])
    fact: Fact = kind(**values)
    return fact


# --- Events -----------------------------------------------------------------------------

PREDICTION_COLUMNS: Final = tuple(column.name for column in tables.predictions.columns)
COMMAND_COLUMNS: Final = tuple(column.name for column in tables.commands.columns)
INSTRUMENT_COLUMNS: Final = tuple(column.name for column in tables.instruments.columns)
RATE_COLUMNS: Final = tuple(column.name for column in tables.funding_rates.columns)
GAP_COLUMNS: Final = ("run_id", "position", "symbol", "ts", "reason")
EQUITY_COLUMNS: Final = tuple(column.name for column in tables.equity.columns)
CANDLE_COLUMNS: Final = tuple(column.name for column in tables.candles.columns)
SCORE_COLUMNS: Final = tuple(column.name for column in tables.predictions_scored.columns)
POSTING_COLUMNS: Final = tuple(column.name for column in tables.postings.columns)
QUOTE_COLUMNS: Final = tuple(column.name for column in tables.quotes.columns)
POSITION_COLUMNS: Final = tuple(column.name for column in tables.positions.columns)
SNAPSHOT_COLUMNS: Final = tuple(column.name for column in tables.snapshots.columns)


def posting_rows(
    run_id: str, n: int, position: int, ts: int, transfers: Iterable[Transfer]
) -> list[Row]:
    """Two a transfer: what an account gains, and the same with the other sign."""
    made: list[Row] = []
    for symbol, gains, gives, asset, amount in transfers:
        text = plain(amount)
        other = text[1:] if text[0] == "-" else f"-{text}"
        leg = len(made)
        made.append((run_id, n, leg, position, ts, symbol, gains, asset, text))
        made.append((run_id, n, leg + 1, position, ts, symbol, gives, asset, other))
    return made


def prediction_rows(run_id: str, position: int, event: Prediction) -> list[Row]:
    """A row per horizon; a prediction of weights alone has one without."""
    key = (run_id, position, event.symbol, event.model)
    what = (
        event.ts,
        event.read_position,
        event.read_ts,
        event.ready_ts,
        event.price,
        event.weight,
        event.trained,
        event.rebuilt,
    )
    if not event.horizons:
        return [(*key, 0, *what, None, None, None, None, None)]
    return [
        (
            *key,
            index,
            *what,
            each.horizon_ns,
            each.expected_return,
            each.up_probability,
            each.confidence,
            encode(each.quantiles).decode(),  # msgspec's floats cost a twentieth of ``repr``'s
        )
        for index, each in enumerate(event.horizons)
    ]


def command_row(run_id: str, position: int, event: Command) -> Row:
    return (run_id, position, event.name, event.source, event.ts, event.reason)


def gap_row(run_id: str, position: int, event: FeedDown) -> Row:
    return (run_id, position, event.symbol, event.ts, event.reason)


def rate_row(run_id: str, position: int, event: FundingRate) -> Row:
    key = (run_id, event.symbol, event.funding_ts)
    return (*key, position, event.ts, plain(event.rate), _bound(event.mark))


def candle_row(run_id: str, position: int, event: Candle) -> Row:
    prices = (event.open, event.high, event.low, event.close, event.volume)
    key = (run_id, event.symbol, event.interval, event.open_ts)
    return (*key, position, *map(plain, prices))


def instrument_row(run_id: str, position: int, event: Instrument) -> Row:
    values = {"run_id": run_id, "position": position}
    return tuple(
        values[name] if name in values else _bound(getattr(event, name))
        for name in INSTRUMENT_COLUMNS
    )


def _bound(value: Any) -> Any:
    if isinstance(value, tuple):
        return msgspec.json.encode(value).decode()
    return plain(value) if isinstance(value, Decimal) else value
