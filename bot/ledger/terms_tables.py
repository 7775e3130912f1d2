"""The tables of the venue's own terms: its rules, and the funding that it settled."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Table

from bot.ledger.columns import metadata, money, number, run_key, text

instruments: Final = Table(
    "instruments",
    metadata,
    run_key(),
    text("symbol", primary_key=True),
    number("position"),
    number("ts"),
    text("base"),
    text("quote"),
    money("tick_size"),
    money("qty_step"),
    money("min_qty"),
    money("min_notional"),
    money("max_limit_qty"),
    money("max_market_qty"),
    money("max_leverage"),
    money("price_limit_x"),
    money("price_limit_y"),
    number("funding_interval_min"),
    text("tiers"),  # JSON: the risk limits, from low to high
)

funding_rates: Final = Table(
    "funding_rates",
    metadata,
    run_key(),
    text("symbol", primary_key=True),
    number("funding_ts", primary_key=True),
    number("position"),
    number("ts"),
    money("rate"),  # what the venue's history says was settled
    money("mark", nullable=True),
    sqlite_with_rowid=False,
)
