"""Runs side by side, and where two over the same input part, by cause."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection

from bot.ledger import queries
from bot.ledger.database import LedgerError
from bot.ledger.digest import line_of
from bot.ledger.facts import read_facts
from bot.research import report

Record: TypeAlias = dict[str, Any]
_METRICS = ("total_return", "annual_volatility", "sharpe", "sortino", "calmar", "max_drawdown",
            "final_equity", "realized_pnl", "fees", "funding", "slippage", "orders", "fills",
            "trades", "hit_rate", "profit_factor", "turnover", "exposure", "alpha",
            "beta")  # fmt: skip
_ORDER = ("strategy", "symbol", "side", "order_type", "tif", "qty", "price", "reduce_only")
_SHOWN = 20


def compare(connection: Connection, runs: Sequence[str]) -> Record:
    """Every metric by run, and the first run against each of the others. Raises LedgerError."""
    if len(runs) < 2:
        raise LedgerError(f"compare {' '.join(runs)}: name two runs or more; `bot runs` lists them")
    found = {run: report.gather(connection, run) for run in runs}
    rows = [
        {"metric": name, **{run: found[run]["metrics"].get(name) for run in runs}}
        for name in _METRICS
    ]
    return {"rows": rows, "pairs": [_pair(connection, runs[0], other) for other in runs[1:]]}


def lines(pair: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """What a person wants to read of a pair."""
    for name, value in pair.items():
        if name in ("first", "second", "first_orders_of_one"):
            continue
        if isinstance(value, dict):
            yield name, ", ".join(f"{key} {each}" for key, each in value.items()) or "none"
        elif isinstance(value, list):
            yield name, len(value)
        else:
            yield name, value


def _pair(connection: Connection, first: str, second: str) -> Record:
    rows = queries.run(connection, first), queries.run(connection, second)
    orders = queries.orders(connection, run=first), queries.orders(connection, run=second)
    matched, only = _matched(*orders)
    fills = _fills_by_order(connection, first), _fills_by_order(connection, second)
    causes, differing = _causes(matched, fills)
    settings = _settings(rows[0]["config"], rows[1]["config"])
    if rows[0]["digest"] == rows[1]["digest"]:
        divergence = "none: the facts are the same"
    else:
        divergence = _divergence(connection, first, second)
    predictions = _predictions(connection, first, second)
    return {
        "first": first,
        "second": second,
        "first_divergence": divergence,
        "same_orders": len(matched),
        "orders_only_in_first": len(only[0]),
        "orders_only_in_second": len(only[1]),
        "first_orders_of_one": [each[:_SHOWN] for each in only],
        "fills_that_differ": differing,
        "causes": causes | _upstream(len(only[0]) + len(only[1]), settings, predictions),
        "predictions": predictions,
        "settings_that_differ": settings,
    }


# --- facts ------------------------------------------------------------------------------------


def _divergence(connection: Connection, first: str, second: str) -> str:
    """The first fact that is not the same, by its number."""
    pairs = itertools.zip_longest(read_facts(connection, first), read_facts(connection, second))
    for number, (ours, theirs) in enumerate(pairs):
        one, other = (None if each is None else line_of(each.fact) for each in (ours, theirs))
        if one != other:
            texts = ("nothing" if line is None else line.decode().strip() for line in (one, other))
            return f"fact {number}: {' | '.join(texts)}"
    return "none: the facts are the same"


def _matched(
    ours: list[Record], theirs: list[Record]
) -> tuple[list[tuple[Record, Record]], tuple[list[Record], list[Record]]]:
    """Orders that say the same, in turn, and those that only one run has."""
    matched: list[tuple[Record, Record]] = []
    for key in (_said_then, _said):  # the same order at the same time, else at another
        ours, theirs = _pair_up(ours, theirs, key, matched)
    matched.sort(key=lambda pair: int(pair[0]["order_id"]))
    return matched, (ours, theirs)


def _pair_up(
    ours: Sequence[Record],
    theirs: Sequence[Record],
    key: Callable[[Record], tuple[Any, ...]],
    matched: list[tuple[Record, Record]],
) -> tuple[list[Record], list[Record]]:
    """Add the pairs of one key to ``matched``; returns what is left of both."""
    left: dict[tuple[Any, ...], list[Record]] = {}
    for order in reversed(theirs):
        left.setdefault(key(order), []).append(order)
    alone = []
    for order in ours:
        twins = left.get(key(order))
        if twins:
            matched.append((order, twins.pop()))
        else:
            alone.append(order)
    return alone, sorted(itertools.chain(*left.values()), key=lambda each: int(each["order_id"]))


def _said_then(order: Record) -> tuple[Any, ...]:
    return order["ts"], *_said(order)


def _said(order: Record) -> tuple[Any, ...]:
    return tuple(order[name] for name in _ORDER)


def _fills_by_order(connection: Connection, run: str) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for fill in queries.fills(connection, run=run):
        found.setdefault(fill["order_id"], []).append(fill)
    return found


# --- causes -----------------------------------------------------------------------------------


def _causes(
    matched: Sequence[tuple[Record, Record]],
    fills: tuple[dict[int, list[Record]], dict[int, list[Record]]],
) -> tuple[dict[str, int], list[Record]]:
    """Why orders that say the same were filled otherwise, counted, and the first of them."""
    causes: Counter[str] = Counter()
    differing: list[Record] = []
    for one, other in matched:
        mine = fills[0].get(one["order_id"], [])
        theirs = fills[1].get(other["order_id"], [])
        if [_filled(fill) for fill in mine] == [_filled(fill) for fill in theirs]:
            continue
        cause = _cause(one, other, mine, theirs)
        causes[cause] += 1
        if len(differing) < _SHOWN:
            differing.append({"first": one["order_id"], "second": other["order_id"], "cause": cause,
                              "filled": [_total(mine), _total(theirs)]})  # fmt: skip
    return dict(causes), differing


def _cause(one: Record, other: Record, mine: list[Record], theirs: list[Record]) -> str:
    """The first thing on an order's way that was not the same.

    ``latency``: it was sent, or arrived, at another time; ``queue``: at the same time it had
    another quantity ahead, or another policy; ``data``: the market that filled it was another.
    """
    if one["ts"] != other["ts"]:
        return "latency"
    if mine and theirs:
        if mine[0]["cause"] == "take" and mine[0]["exchange_ts"] != theirs[0]["exchange_ts"]:
            return "latency"
        queue = ("ahead_at_arrival", "policy")
        if any(mine[0][name] != theirs[0][name] for name in queue):
            return "queue"
        return "data"
    some = mine or theirs
    return "queue" if some[0]["cause"] == "queue" else "data"


def _upstream(count: int, settings: Sequence[str], predictions: Record) -> dict[str, int]:
    """Orders that only one run sent, by what differed before them."""
    if not count:
        return {}
    if any(name.partition(".")[0] in ("strategies", "risk", "account") for name in settings):
        return {"settings": count}
    names = ("only_in_first", "only_in_second", "differ")
    is_prediction = any(predictions[name] for name in names)
    return {"prediction" if is_prediction else "data": count}


def _predictions(connection: Connection, first: str, second: str) -> Record:
    """Predictions of the same symbol, model and time read: how many are not the same."""
    ours, theirs = _said_by(connection, first), _said_by(connection, second)
    both = ours.keys() & theirs.keys()
    moved = [abs(ours[key][0] - theirs[key][0]) for key in both]
    late = [abs(ours[key][1] - theirs[key][1]) for key in both]
    return {
        "same_place": len(both),
        "only_in_first": len(ours) - len(both),
        "only_in_second": len(theirs) - len(both),
        "differ": sum(each != 0 for each in moved),
        "largest_difference": max(moved, default=0.0),
        "largest_latency_difference_ms": max(late, default=0) / 1e6,
    }


def _said_by(connection: Connection, run: str) -> dict[tuple[Any, ...], tuple[float, int]]:
    return {
        (each["symbol"], each["model"], each["read_ts"], each["horizon"]): (
            each["expected_return"] or 0.0,
            each["ready_ts"] - each["read_ts"],
        )
        for each in queries.predictions(connection, run=run)
    }


def _settings(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The keys, dotted, whose values are not the same."""
    found: list[str] = []
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found += [f"{name}.{each}" for each in _settings(one, other)]
        elif one != other:
            found.append(name)
    return found


def _filled(fill: Record) -> tuple[Any, ...]:
    return fill["exchange_ts"], fill["price"], fill["qty"], fill["maker"]


def _total(fills: Sequence[Record]) -> str:
    return " + ".join(f"{fill['qty']}@{fill['price']}" for fill in fills) or "nothing"
