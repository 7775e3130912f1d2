"""The ledger's tables, the same on SQLite and Postgres. Shape only; no engine, no SQL.

Rows are facts: they are added and never changed, but for a run's own row, a gap's end, a
symbol's latest rules, and old snapshots, which go. Money, prices and quantities are exact decimals
in text, times integer ns.
``position`` is the journal position of a row's cause, ``n`` a fact's number in its run; both
count from 0.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Column, Double, Index, LargeBinary, Table

from bot.ledger import terms_tables
from bot.ledger.columns import (
    event_table,
    fact_table,
    flag,
    metadata,
    money,
    number,
    run_key,
    text,
)

runs: Final = Table(
    "runs",
    metadata,
    text("id", primary_key=True),
    text("mode"),
    text("instance"),
    text("status"),  # running, finished, failed
    number("started_ts"),
    number("ended_ts", nullable=True),
    text("config"),  # JSON
    text("code_version"),
    number("seed", nullable=True),
    text("models"),  # JSON: model name to hash
    text("journal", nullable=True),
    text("digest"),
    number("facts"),
    text("summary"),  # JSON
)

# --- Facts: decisions, then outcomes --------------------------------------------------------

signals: Final = fact_table(
    "signals",
    number("ts"),
    text("strategy"),
    text("symbol"),
    Column("target", Double, nullable=False),
    text("reason"),
)

orders: Final = fact_table(
    "orders",
    number("ts"),
    number("order_id"),
    text("strategy"),
    text("symbol"),
    text("side"),
    text("order_type"),
    text("tif"),
    money("qty"),
    money("price", nullable=True),
    flag("reduce_only"),
    text("tag"),
    money("trigger_price", nullable=True),  # of a conditional order, as the three after it
    text("trigger_by", nullable=True),
    text("trigger_direction", nullable=True),
    text("stop_type", nullable=True),
    money("take_profit", nullable=True),
    text("take_profit_by", nullable=True),
    money("stop_loss", nullable=True),
    text("stop_loss_by", nullable=True),
    by_order=True,
)

order_events: Final = fact_table(
    "order_events",
    text("kind"),  # Amend, Cancel, Refusal, Accepted, Triggered, Rejected, Cancelled
    number("ts"),
    number("exchange_ts", nullable=True),
    number("answer_ts", nullable=True),
    number("order_id"),
    text("symbol"),
    text("strategy", nullable=True),
    text("request", nullable=True),
    text("reason", nullable=True),
    text("detail", nullable=True),
    money("price", nullable=True),
    money("qty", nullable=True),
    money("leaves", nullable=True),
    money("ahead", nullable=True),
    money("trigger_price", nullable=True),
    by_order=True,
)

fills: Final = fact_table(
    "fills",
    number("ts"),
    number("exchange_ts"),
    number("answer_ts"),
    number("fill_id"),
    number("order_id"),
    text("strategy"),
    text("symbol"),
    text("side"),
    money("price"),
    money("qty"),
    flag("maker"),
    money("fee"),
    text("fee_coin"),
    text("cause"),
    number("cause_seq"),
    money("ahead_at_arrival", nullable=True),
    money("leaves"),
    text("policy"),
    money("realized_pnl"),
    money("position_qty"),
    by_order=True,
)

funding_paid: Final = fact_table(
    "funding_paid",
    number("ts"),
    number("exchange_ts"),
    text("symbol"),
    number("funding_ts"),
    money("rate"),
    money("mark"),
    money("position_qty"),
    money("amount"),
)

liquidations: Final = fact_table(
    "liquidations",
    number("ts"),
    number("exchange_ts"),
    text("symbol"),
    money("position_qty"),
    money("price"),
    money("loss"),
)

# --- What facts did, and what they met: keyed by the fact's number ------------------------------

postings: Final = Table(
    "postings",
    metadata,
    run_key(),
    number("n", primary_key=True),  # -1: before the first fact, a deposit
    number("leg", primary_key=True),
    number("position"),
    number("ts"),
    text("symbol", nullable=True),
    text("account"),
    text("asset"),
    money("amount"),
    sqlite_with_rowid=False,
)

quotes: Final = fact_table(
    "quotes",
    text("symbol"),
    money("bid", nullable=True),  # null: that side is empty, or the book is not trusted
    money("ask", nullable=True),
    money("mark", nullable=True),
)

positions: Final = fact_table(
    "positions",
    number("ts"),
    text("symbol"),
    money("qty"),
    money("cost"),
    money("realized_pnl"),
    money("fees"),
    money("funding"),
)
Index(None, positions.c.run_id, positions.c.symbol)

snapshots: Final = Table(
    "snapshots",
    metadata,
    run_key(),
    number("position", primary_key=True),  # of the first input that is not in it
    number("ts"),
    number("facts"),  # made before it
    text("digest"),  # of those
    text("sha256"),  # of the body
    Column("body", LargeBinary, nullable=False),
)

# --- Events that are kept beside the journal, to be asked for ------------------------------------

predictions: Final = event_table(
    "predictions",
    text("symbol", primary_key=True),
    text("model", primary_key=True),
    number("horizon", primary_key=True),  # index in the prediction; a row each
    number("ts"),
    number("read_position"),
    number("read_ts"),
    number("ready_ts"),
    Column("price", Double, nullable=False),
    Column("weight", Double, nullable=True),
    flag("trained"),
    flag("rebuilt"),
    number("horizon_ns", nullable=True),  # null: a prediction without horizons
    Column("expected_return", Double, nullable=True),
    Column("up_probability", Double, nullable=True),
    Column("confidence", Double, nullable=True),
    text("quantiles", nullable=True),  # JSON
)
Index(
    None,
    predictions.c.run_id,
    predictions.c.symbol,
    predictions.c.model,
    predictions.c.read_ts,
)

predictions_scored: Final = event_table(
    "predictions_scored",
    number("ts"),  # position and ts are those of the event that told the outcome
    text("symbol", primary_key=True),
    text("model", primary_key=True),
    number("horizon", primary_key=True),
    number("horizon_ns"),
    number("read_position", primary_key=True),  # the prediction's, as read_ts is
    number("read_ts"),
    Column("expected_return", Double, nullable=False),
    Column("up_probability", Double, nullable=False),
    Column("outcome", Double, nullable=False),  # log return over the horizon
)

gaps: Final = event_table(
    "gaps",
    text("symbol", primary_key=True),
    number("ts"),
    text("reason"),
    number("end_position", nullable=True),
    number("end_ts", nullable=True),
)

commands: Final = event_table(
    "commands",
    text("name", primary_key=True),
    text("source", primary_key=True),
    number("ts"),
    text("reason"),
)

instruments: Final = terms_tables.instruments
funding_rates: Final = terms_tables.funding_rates

equity: Final = Table(
    "equity",
    metadata,
    run_key(),
    number("ts", primary_key=True),
    number("position"),
    money("equity"),
    money("wallet"),
    sqlite_with_rowid=False,
)

candles: Final = Table(
    "candles",
    metadata,
    run_key(),
    text("symbol", primary_key=True),
    text("interval", primary_key=True),  # Bybit's names: 1, 5, ... D
    number("open_ts", primary_key=True),
    number("position"),
    money("open"),
    money("high"),
    money("low"),
    money("close"),
    money("volume"),
    sqlite_with_rowid=False,
)

# --- Which models there were, and how good --------------------------------------------------------

models_used: Final = event_table(
    "models_used",  # a row a model at every start of a run's process
    text("role", primary_key=True),
    number("ts"),
    text("model"),
    text("weights_sha256"),
    flag("trained"),
)

evaluations: Final = Table(
    "evaluations",
    metadata,
    text("instance", primary_key=True),
    number("ts", primary_key=True),  # when they were made
    text("source", primary_key=True),  # bars: read again; live: what was said while trading
    text("model", primary_key=True),
    text("symbol", primary_key=True),
    number("horizon_ns", primary_key=True),
    text("metric", primary_key=True),
    text("weights_sha256", nullable=True),
    number("from_ts"),  # outcomes from then on count, until ts
    Column("value", Double, nullable=True),
    Column("lo", Double, nullable=True),
    Column("hi", Double, nullable=True),
    number("n"),
    text("baselines"),  # JSON
    sqlite_with_rowid=False,
)

model_switches: Final = Table(
    "model_switches",
    metadata,
    text("instance", primary_key=True),
    number("ts", primary_key=True),
    text("role", primary_key=True),
    flag("switched"),
    text("champion"),  # SHA-256 of the weights, as the challenger's
    text("challenger"),
    text("challenger_id"),  # of `bot models`
    text("metric"),  # the less the better
    number("from_ts"),
    number("n"),
    Column("champion_value", Double, nullable=False),
    Column("challenger_value", Double, nullable=False),
    Column("difference", Double, nullable=False),  # challenger less champion, row by row
    Column("lo", Double, nullable=True),
    Column("hi", Double, nullable=True),
    sqlite_with_rowid=False,
)

# --- Shadow accounts: the same orders under another fill policy ----------------------------------


def _shadow_table(name: str, key: str, *columns: Column[Any]) -> Table:
    return Table(
        name,
        metadata,
        run_key(),
        text("policy", primary_key=True),
        number(key, primary_key=True),
        number("position"),
        *columns,
        sqlite_with_rowid=False,
    )


shadow_fills: Final = _shadow_table(
    "shadow_fills",
    "n",  # a fact's number in its account
    number("ts"),
    number("exchange_ts"),
    number("fill_id"),
    number("order_id"),
    text("strategy"),
    text("symbol"),
    text("side"),
    money("price"),
    money("qty"),
    flag("maker"),
    money("fee"),
    text("fee_coin"),
    text("cause"),
    number("cause_seq"),
    money("ahead_at_arrival", nullable=True),
    money("leaves"),
    money("realized_pnl"),
    money("position_qty"),
)

shadow_outcomes: Final = _shadow_table(
    "shadow_outcomes",
    "n",
    text("kind"),
    number("ts"),
    number("exchange_ts", nullable=True),
    number("order_id", nullable=True),
    text("symbol"),
    text("request", nullable=True),
    text("reason", nullable=True),
    money("price", nullable=True),
    money("qty", nullable=True),
    money("leaves", nullable=True),
    money("ahead", nullable=True),
    money("amount", nullable=True),  # of FundingPaid, the loss of Liquidated
)

shadow_equity: Final = _shadow_table(
    "shadow_equity",
    "ts",
    money("equity"),
    money("wallet"),
)
