"""A run's report as plain data, from its rows in the ledger. ``report_page`` draws it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
from sqlalchemy import Connection

from bot.ledger import queries
from bot.research import metrics
from bot.research.metrics import Point
from bot.research.slippage import slippage_of

Record: TypeAlias = dict[str, Any]
_NS = 10**9
_CURVE_POINTS = 1_500
_TRADES_SHOWN = 1_500
_WHOLE = "end of the input"
_NOTES = {
    "candles": "Candles only: decisions on the close; market orders fill at the next open plus or "
    "minus half the spread; limit orders only where the bar trades strictly through; stops and "
    "targets at their own price, or at an open beyond it. Where a bar touches both, the stop is "
    "first.",
}


def gather(connection: Connection, run: str | None = None) -> Record:
    """Everything that the report of a run says, JSON-ready. Raises LedgerError."""
    row = queries.run(connection, run)
    run_id, summary, config = str(row["id"]), row["summary"], row["config"]
    fills = queries.fills(connection, run=run_id)
    deposit = float(config["account"]["usdt"])
    begin = summary.get("start_ts", 0)  # what was before is history, with trading paused
    rows = queries.equity(connection, run=run_id)
    curve = [(each["ts"], float(each["equity"])) for each in rows if each["ts"] > begin]
    days = metrics.daily(curve, deposit)
    returns = metrics.returns_of([value for _, value in days], deposit)
    prices = _prices(connection, run_id, summary)
    funding = queries.pnl(connection, run=run_id)[-1]["funding"]
    trips = metrics.round_trips(fills)
    hold = _hold(summary.get("days") or {}, [ts for ts, _ in days])
    span = (curve[0][0], curve[-1][0]) if curve else (0, 0)
    return {
        "run": {name: row[name] for name in ("id", "mode", "status", "started_ts", "ended_ts",
                                              "code_version", "seed", "models", "digest")},
        "span": span,
        "notes": _notes(row),
        "metrics": _metrics(returns, days, hold, deposit)
        | _trade_metrics(fills, trips, summary, days, span, deposit)
        | {"funding": str(funding), "slippage": slippage_of(connection, run_id, summary)},
        "equity": _thinned(curve),
        "hold": _held(hold, days, deposit),
        "drawdown": list(zip([ts for ts, _ in days], metrics.drawdowns(returns).tolist(),
                             strict=True)),
        "months": _months(days, deposit),
        "prices": prices,
        "trades": _trades(fills),
        "by_symbol": queries.pnl(connection, run=run_id)[:-1],
        "by_hour": _by_hour(trips),
        "predictions": _quality(connection, run_id),
        "policies": _policies(fills, summary),
        "gaps": queries.gaps(connection, run=run_id, limit=200),
        "summary": {name: value for name, value in summary.items()
                    if name not in ("prices", "days")},
        "config": config,
        "variants": _deflated(connection, row, returns),
    }  # fmt: skip


def _notes(row: Mapping[str, Any]) -> list[str]:
    summary = row["summary"]
    notes = [_NOTES[summary["market"]]] if summary.get("market") in _NOTES else []
    if summary.get("untrained"):
        notes.append(f"UNTRAINED models ({', '.join(summary['untrained'])}): their predictions "
                     "mean nothing.")  # fmt: skip
    if summary.get("rules_guessed"):
        notes.append(f"Tick and lot of {', '.join(summary['rules_guessed'])} are guessed from the "
                     "bars.")  # fmt: skip
    is_cut = row["mode"] == "backtest" and summary.get("ended_by", _WHOLE) != _WHOLE
    if is_cut or not summary.get("clean", True):
        notes.append(f"Ended by {summary.get('ended_by') or 'an error'}: the report is of what "
                     "was done by then.")  # fmt: skip
    return notes


# --- numbers ----------------------------------------------------------------------------------


def _metrics(
    returns: metrics.Returns, days: list[Point], hold: metrics.Returns, deposit: float
) -> Record:
    alpha, beta = metrics.alpha_beta(returns, hold) if len(hold) else (None, None)
    return {
        "deposit": deposit,
        "final_equity": days[-1][1] if days else deposit,
        "total_return": metrics.total_return(returns),
        "annual_return": metrics.annual_return(returns),
        "annual_volatility": metrics.annual_volatility(returns),
        "sharpe": metrics.sharpe(returns),
        "sortino": metrics.sortino(returns),
        "calmar": metrics.calmar(returns),
        "max_drawdown": metrics.max_drawdown(returns),
        "longest_drawdown_days": metrics.longest_drawdown_days(returns),
        "alpha": alpha,
        "beta": beta,
        "buy_and_hold_return": metrics.total_return(hold) if len(hold) else None,
        "days": len(days),
    }


def _hold(days: Mapping[str, Sequence[Sequence[float]]], stamps: list[int]) -> metrics.Returns:
    """Daily returns of an equal part of every symbol, bought at the first and held."""
    sums = np.zeros(len(stamps))
    count = 0
    for points in days.values():
        if not points or not stamps:
            continue
        first = float(points[0][1])
        series = metrics.daily([(int(ts), float(price)) for ts, price in points], first)
        by_day = dict(series)
        value, values = 1.0, []
        for stamp in stamps:
            value = by_day[stamp] / first if stamp in by_day else value
            values.append(value)
        sums += np.array(values)
        count += 1
    return metrics.returns_of((sums / count).tolist(), 1.0) if count else np.zeros(0)


def _held(hold: metrics.Returns, days: list[Point], deposit: float) -> list[Point]:
    """What the deposit would be worth at each day's end, bought at the first and held."""
    if not len(hold):
        return []
    worth = deposit * np.cumprod(1.0 + hold)
    return _thinned([(ts, float(value)) for (ts, _), value in zip(days, worth, strict=True)])


def _trade_metrics(
    fills: list[Record],
    trips: list[metrics.RoundTrip],
    summary: Mapping[str, Any],
    days: list[Point],
    span: tuple[int, int],
    deposit: float,
) -> Record:
    traded = metrics.traded_value(fills)
    mean_equity = sum(value for _, value in days) / len(days) if days else deposit
    return {
        "orders": summary.get("orders"),
        "fills": len(fills),
        "trades": len(trips),
        "hit_rate": metrics.hit_rate(trips),
        "profit_factor": metrics.profit_factor(trips),
        "average_holding_s": metrics.average_holding_s(trips),
        "exposure": metrics.exposure(fills, *span),
        "turnover": float(traded) / mean_equity if mean_equity else None,
        "traded_value": str(traded),
        "realized_pnl": str(sum((Decimal(fill["realized_pnl"]) for fill in fills), Decimal(0))),
        "fees": str(summary.get("fees", "")),
        "maker_share": sum(bool(fill["maker"]) for fill in fills) / len(fills) if fills else None,
    }


def _deflated(connection: Connection, row: Mapping[str, Any], returns: metrics.Returns) -> Record:
    """Against the other backtests of the ledger over the same input, this one's variants."""
    own = row["summary"]
    tried = []
    for other in queries.runs(connection):
        summary = other["summary"]
        is_variant = other["mode"] == "backtest" and summary.get("input") == own.get("input")
        if is_variant and summary.get("first_ts") == own.get("first_ts") and own.get("input"):
            ratio = summary.get("sharpe_of_a_day")
            if ratio is not None:
                tried.append(float(ratio))
    return {"tried": len(tried), "deflated_sharpe": metrics.deflated_sharpe(returns, tried)}


# --- series -----------------------------------------------------------------------------------


def _prices(connection: Connection, run_id: str, summary: Mapping[str, Any]) -> Record:
    """Prices over time by symbol; of a run that did not keep them, its predictions' prices."""
    kept = summary.get("prices")
    if kept:
        return dict(kept)
    found: dict[str, list[Point]] = defaultdict(list)
    for each in queries.predictions(connection, run=run_id):
        if each["horizon"] == 0:
            found[each["symbol"]].append((each["read_ts"], each["price"]))
    return {symbol: _thinned(points) for symbol, points in found.items()}


def _thinned(points: Sequence[Point]) -> list[Point]:
    step = max(1, -(-len(points) // _CURVE_POINTS))
    return [*points[::step], *points[-1:]] if len(points) > 1 else list(points)


def _months(days: list[Point], deposit: float) -> list[Record]:
    """The return of each calendar month, UTC."""
    ends: dict[tuple[int, int], float] = {}
    for ts, value in days:
        day = datetime.fromtimestamp(ts / _NS - 1, UTC)
        ends[day.year, day.month] = value
    months, before = [], deposit
    for (year, month), value in ends.items():
        months.append({"year": year, "month": month, "return": value / before - 1 if before else 0})
        before = value
    return months


def _trades(fills: list[Record]) -> list[Record]:
    step = max(1, -(-len(fills) // _TRADES_SHOWN))
    names = ("exchange_ts", "symbol", "side", "price", "qty", "maker", "cause", "realized_pnl")
    return [{name: fill[name] for name in names} for fill in fills[::step]]


def _by_hour(trips: list[metrics.RoundTrip]) -> list[str]:
    """Profit of the round trips closed in each hour of the day, UTC."""
    hours = [Decimal(0)] * 24
    for trip in trips:
        hours[trip.closed_ts // (3600 * _NS) % 24] += trip.pnl
    return [str(each) for each in hours]


def _policies(fills: list[Record], summary: Mapping[str, Any]) -> list[Record]:
    """Profit by fill policy; more than one where the run kept shadow accounts."""
    names = sorted({str(fill["policy"]) for fill in fills})
    if len(names) != 1:
        return []
    kept = {names[0]: {**summary, "fills": len(fills)}, **summary.get("shadows", {})}
    keys = ("realized_pnl", "fees", "funding", "equity")
    return [
        {"policy": name, "fills": each["fills"], **{key: str(each.get(key)) for key in keys}}
        for name, each in kept.items()
    ]


# --- predictions ------------------------------------------------------------------------------


def _quality(connection: Connection, run_id: str) -> list[Record]:
    """Each model and horizon against what the price then did.

    The price at the horizon is that of the first prediction of the same symbol and model which
    read at or past it.
    """
    series: dict[tuple[str, str], dict[int, list[tuple[int, int, float, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    late: dict[str, list[int]] = defaultdict(list)
    for each in queries.predictions(connection, run=run_id):
        if each["horizon_ns"] is None:
            continue
        series[each["model"], each["symbol"]][each["horizon"]].append(
            (each["read_ts"], each["horizon_ns"], each["expected_return"], each["price"])
        )
        late[each["model"]].append(each["ready_ts"] - each["read_ts"])
    return [
        {"model": model, "symbol": symbol, "horizon": index,
         "latency_p50_ms": float(np.median(late[model])) / 1e6,
         "latency_p99_ms": float(np.quantile(late[model], 0.99)) / 1e6, **_scores(rows)}
        for (model, symbol), horizons in sorted(series.items())
        for index, rows in sorted(horizons.items())
    ]  # fmt: skip


def _scores(rows: list[tuple[int, int, float, float]]) -> Record:
    table = np.array(rows, dtype=np.float64)
    stamps, expected, price = np.array([row[0] for row in rows]), table[:, 2], table[:, 3]
    horizon_ns = rows[0][1]
    later = np.searchsorted(stamps, stamps + horizon_ns)
    seen = later < len(rows)
    moved = np.log(price[later[seen]] / price[seen]) if seen.any() else np.zeros(0)
    said = expected[seen]
    both = (moved != 0) & (said != 0)
    right = float(np.mean((moved > 0)[both] == (said > 0)[both])) if both.any() else None
    spread = len(moved) > 2 and np.std(moved) > 0 and np.std(said) > 0
    return {
        "horizon_s": horizon_ns / _NS,
        "n": int(seen.sum()),
        "direction_hit_rate": right,
        "correlation": float(np.corrcoef(said, moved)[0, 1]) if spread else None,
        "mean_absolute_error": float(np.mean(np.abs(said - moved))) if len(moved) else None,
        "mean_absolute_move": float(np.mean(np.abs(moved))) if len(moved) else None,
    }
