"""The ledger as the dashboard reads it: one question at a time, on a thread, answers kept a while.

So no flood of requests is a flood of queries, and no query holds up the loop.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import Connection

from bot.ledger import queries, reading, series
from bot.operate.dashboard.equity import EquityCurve
from bot.operate.dashboard.quality import quality
from bot.operate.state import Expectation, Holding, Money, OpenOrder, Quality, State

R = TypeVar("R")

KEPT_S = 1.0
QUALITY_KEPT_S = 15.0
JUDGED = 4_000
"""Answers of a model that its quality is judged by."""
_MOST_KEPT = 200
_MOST_ROWS = 1_000
_PAGE = 20_000
_OPEN = ("Sent", "New", "PartiallyFilled")


class Books:
    """What the ledger at ``url`` holds of a run. Raises LedgerError where it cannot be read."""

    def __init__(self, url: str, run_id: str) -> None:
        self.run_id = run_id
        self._url = url
        self._lock = asyncio.Lock()
        self._kept: dict[tuple[Any, ...], tuple[float, Any]] = {}
        self._curve = EquityCurve()

    async def run(self) -> queries.Record:
        """The run's own row."""
        return await self._ask(("run",), KEPT_S, lambda c: queries.run(c, self.run_id))

    async def fills(self, symbol: str | None, limit: int) -> list[queries.Record]:
        return await self._rows(queries.fills, symbol, limit)

    async def orders(self, symbol: str | None, limit: int) -> list[queries.Record]:
        return await self._rows(queries.orders, symbol, limit)

    async def gaps(self, symbol: str | None, limit: int) -> list[queries.Record]:
        return await self._rows(queries.gaps, symbol, limit)

    async def candles(self, symbol: str, limit: int) -> dict[str, Any]:
        """The bars of the smallest interval that there is."""

        def work(connection: Connection) -> dict[str, Any]:
            names = series.intervals(connection, self.run_id, symbol=symbol)
            interval = min(names, key=_minutes, default="1")
            rows = series.candles(
                connection, self.run_id, symbol=symbol, interval=interval,
                limit=min(limit, _MOST_ROWS),
            )  # fmt: skip
            return {"interval": interval, "rows": rows}

        return await self._ask(("candles", symbol, limit), KEPT_S, work)

    async def forecasts(self, symbol: str, model: str, limit: int) -> list[queries.Record]:
        def work(connection: Connection) -> list[queries.Record]:
            return series.forecasts(
                connection, self.run_id, symbol=symbol, model=model, limit=min(limit, _MOST_ROWS)
            )

        return await self._ask(("forecasts", symbol, model, limit), KEPT_S, work)

    async def quality(self, symbol: str, model: str) -> Quality | None:
        def work(connection: Connection) -> Quality | None:
            rows = series.forecasts(
                connection, self.run_id, symbol=symbol, model=model, limit=JUDGED
            )
            return quality(symbol, model, rows)

        return await self._ask(("quality", symbol, model), QUALITY_KEPT_S, work)

    async def equity(self) -> dict[str, Any]:
        """The account's worth and how far it is below its peak, thinned to be drawn."""

        def work(connection: Connection) -> dict[str, Any]:
            while True:
                page = series.equity_after(
                    connection, self.run_id, after_ts=self._curve.last_ts, limit=_PAGE
                )
                self._curve.add(page)
                if len(page) < _PAGE:
                    return self._curve.drawn()

        return await self._ask(("equity",), KEPT_S, work)

    async def state(self) -> State:
        """How the run stands by its ledger alone."""
        return await self._ask(("state",), 2 * KEPT_S, lambda c: state_of(c, self.run_id))

    async def _rows(
        self, question: Callable[..., list[queries.Record]], symbol: str | None, limit: int
    ) -> list[queries.Record]:
        limit = min(limit, _MOST_ROWS)
        return await self._ask(
            (question.__name__, symbol, limit),
            KEPT_S,
            lambda c: question(c, run=self.run_id, symbol=symbol, limit=limit),
        )

    async def _ask(self, key: tuple[Any, ...], kept_s: float, work: Callable[[Connection], R]) -> R:
        """The answer, at most ``kept_s`` old."""
        async with self._lock:
            asked_s, answer = self._kept.get(key, (-kept_s, None))
            now = asyncio.get_running_loop().time()
            if now - asked_s >= kept_s or key not in self._kept:
                answer = await asyncio.to_thread(reading.read, self._url, work)
                if len(self._kept) >= _MOST_KEPT:
                    self._kept.clear()
                self._kept[key] = asyncio.get_running_loop().time(), answer
            return answer  # type: ignore[no-any-return]


def state_of(connection: Connection, run: str | None) -> State:
    """How a run, by default the latest, stands by its ledger alone."""
    run_id = queries.run_of(connection, run)
    row = queries.run(connection, run_id)
    pnl = queries.pnl(connection, run=run_id)
    by_symbol = {each["symbol"]: each for each in pnl}
    equity = queries.equity(connection, run=run_id, limit=1)
    orders = queries.orders(connection, run=run_id, limit=_MOST_ROWS)
    gaps = queries.gaps(connection, run=run_id, limit=_MOST_ROWS)
    symbols = list(row["config"].get("symbols", []))
    models = list(row["models"])
    ended_ts = row["ended_ts"]
    return State(
        run=run_id,
        instance=row["instance"],
        mode=row["mode"],
        status=row["status"],
        is_live=False,
        ts=ended_ts or time.time_ns(),
        started_ts=row["started_ts"],
        trading="",
        symbols=symbols,
        models=models,
        untrained=list(row["summary"].get("untrained", [])),
        position=0,
        facts=row["facts"],
        committed_facts=row["facts"],
        counts=queries.counts(connection, run=run_id),
        money=_money(by_symbol["total"], equity),
        holdings=[
            _holding(each, by_symbol[each["symbol"]])
            for each in queries.positions(connection, run=run_id)
        ],
        orders=[_open_order(each) for each in orders if each["status"] in _OPEN],
        open_gaps=sorted({each["symbol"] for each in gaps if each["end_ts"] is None}),
        expectations=[
            _expectation(rows)
            for symbol in symbols
            for model in models
            if (rows := series.newest_forecast(
                connection, run_id, symbol=symbol, model=model))
        ],
    )  # fmt: skip


def _minutes(interval: str) -> int:
    return int(interval) if interval.isdigit() else 10**6


def _money(total: queries.Record, equity: list[queries.Record]) -> Money:
    known = equity[-1] if equity else {}
    return Money(
        realized_pnl=total["realized_pnl"],
        fees=total["fees"],
        funding=total["funding"],
        net_pnl=total["net_pnl"],
        equity=known.get("equity"),
        wallet=known.get("wallet"),
    )


def _holding(row: queries.Record, pnl: queries.Record) -> Holding:
    return Holding(
        symbol=row["symbol"],
        position=row["position"],
        average_entry=row["average_entry"],
        realized_pnl=row["realized_pnl"],
        fees=row["fees"],
        funding=pnl["funding"],
    )


def _open_order(row: queries.Record) -> OpenOrder:
    return OpenOrder(
        order_id=row["order_id"],
        ts=row["ts"],
        strategy=row["strategy"],
        symbol=row["symbol"],
        side=row["side"],
        price=row["price"],
        qty=row["qty"],
        leaves=f"{Decimal(row['qty']) - Decimal(row['filled_qty']):f}",
        state="travelling" if row["status"] == "Sent" else "resting",
    )


def _expectation(rows: list[queries.Record]) -> Expectation:
    first = rows[0]
    return Expectation(
        symbol=first["symbol"],
        model=first["model"],
        read_ts=first["read_ts"],
        price=first["price"],
        trained=bool(first["trained"]),
        rebuilt=bool(first["rebuilt"]),
        horizons=[
            (
                row["horizon_ns"],
                row["expected_return"],
                row["up_probability"],
                tuple(json.loads(row["quantiles"] or "[]")),
            )
            for row in rows
            if row["horizon_ns"] is not None
        ],
    )
