"""What came of a scenario, held against what its file expects."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol

from bot.core.engine import Engine
from bot.core.events import Accepted, Cancelled, Fact, Fill, Liquidated, Order, Rejected, Triggered
from bot.core.instrument import amount, to_decimal

_MS = 1_000_000


class Played(Protocol):
    """A scenario that was played: its engine, its symbol, the ids by the file's names."""

    engine: Engine
    symbol: str
    ids: dict[str, int]


def compare(expect: dict[str, Any], played: Played, facts: list[Fact]) -> list[str]:
    differences: list[str] = []
    checks: dict[str, Callable[[Any], list[str]]] = {
        "fills": lambda wanted: _compare_fills(wanted, played, facts),
        "orders": lambda wanted: _compare_orders(wanted, played, facts),
        "liquidations": lambda wanted: _compare_liquidations(wanted, facts),
        "shadows": lambda wanted: _compare_shadows(wanted, played),
    }
    account = played.engine.account
    numbers = {
        "position": to_decimal(account.qty(played.symbol)),
        "realized_pnl": amount(account.realized),
        "fees": amount(account.fees),
        "funding": amount(account.funding),
        "balance": amount(account.wallet),
    }
    for key, wanted in expect.items():
        if key in checks:
            differences += checks[key](wanted)
        elif key not in numbers:
            raise ValueError(f"unknown expectation {key!r}")
        elif Decimal(str(wanted)) != numbers[key]:
            differences.append(f"{key}: expected {wanted}, got {numbers[key]}")
    return differences


def _compare_fills(wanted: list[dict[str, Any]], played: Played, facts: list[Fact]) -> list[str]:
    names = {order_id: name for name, order_id in played.ids.items()}
    # What the venue made by itself goes by what it is: TakeProfit or StopLoss.
    names |= {f.id: f.tag for f in facts if isinstance(f, Order) and f.id not in names}
    got = [
        {
            "t": fact.exchange_ts // _MS,
            "id": names[fact.order_id],
            "price": fact.price,
            "qty": fact.qty,
            "maker": fact.maker,
            "fee": fact.fee,
            "fee_coin": fact.fee_coin,
            "cause": fact.cause,
        }
        for fact in facts
        if isinstance(fact, Fill)
    ]
    shown = [" ".join(f"{key}={value}" for key, value in fill.items()) for fill in got]
    if len(got) != len(wanted):
        return [f"fills: expected {len(wanted)}, got {len(got)}: {shown}"]
    return [
        f"fill {number}: {key} expected {value}, got {fill[key]}"
        for number, (fill, expected) in enumerate(zip(got, wanted, strict=True), 1)
        for key, value in expected.items()
        if not _same(value, fill[key])
    ]


def _compare_liquidations(wanted: list[dict[str, Any]], facts: list[Fact]) -> list[str]:
    got = [
        {"t": f.exchange_ts // _MS, "position": f.position, "price": f.price, "loss": f.loss}
        for f in facts
        if isinstance(f, Liquidated)
    ]
    if len(got) != len(wanted):
        return [f"liquidations: expected {len(wanted)}, got {len(got)}"]
    return [
        f"liquidation {number}: {key} expected {value}, got {each[key]}"
        for number, (each, expected) in enumerate(zip(got, wanted, strict=True), 1)
        for key, value in expected.items()
        if not _same(value, each[key])
    ]


def _compare_shadows(wanted: dict[str, dict[str, Any]], played: Played) -> list[str]:
    accounts = {shadow.name: shadow for shadow in played.engine.shadows}
    differences: list[str] = []
    for name, expected in wanted.items():
        shadow = accounts[name]
        got: dict[str, Any] = {
            "position": to_decimal(shadow.account.qty(played.symbol)),
            "balance": amount(shadow.account.wallet),
            "fees": amount(shadow.account.fees),
            "fills": shadow.fills,
            "refusals_that_differ": shadow.refusals_that_differ,
        }
        differences += [
            f"shadow {name}: {key} expected {value}, got {got[key]}"
            for key, value in expected.items()
            if not _same(value, got[key])
        ]
    return differences


def _same(wanted: Any, got: Any) -> bool:
    if isinstance(got, Decimal):
        return Decimal(str(wanted)) == got
    return bool(wanted == got)


def _compare_orders(wanted: dict[str, Any], played: Played, facts: list[Fact]) -> list[str]:
    differences: list[str] = []
    made = {f.tag: f.id for f in facts if isinstance(f, Order)}
    for name, expected in wanted.items():
        status, reason = _status(played.ids.get(name) or made[name], facts)
        price = _last_price(played.ids.get(name) or made[name], facts)
        if "price" in expected and Decimal(str(expected["price"])) != price:
            differences.append(f"order {name}: price expected {expected['price']}, got {price}")
        if expected["status"] != status:
            differences.append(f"order {name}: expected {expected['status']}, got {status}")
        if "reason" in expected and str(expected["reason"]) != reason:
            differences.append(f"order {name}: expected {expected['reason']}, got {reason}")
    return differences


def _last_price(order_id: int, facts: list[Fact]) -> Decimal | None:
    """The limit price as last accepted."""
    accepted = [f for f in facts if isinstance(f, Accepted) and f.order_id == order_id]
    return accepted[-1].price if accepted else None


def _status(order_id: int, facts: list[Fact]) -> tuple[str, str]:
    """The order's final status in Bybit's words, and the reason where there is one."""
    status, reason = "Created", ""
    waits = any(
        isinstance(f, Order) and f.id == order_id and f.trigger_price is not None for f in facts
    )
    for fact in facts:
        if getattr(fact, "order_id", None) != order_id:
            continue
        match fact:
            case Accepted() if status == "Created" and waits:
                status = "Untriggered"
            case Accepted() if status in ("Created", "Triggered"):
                status = "New"
            case Triggered():
                status = "Triggered"
            case Fill(leaves=leaves):
                status = "PartiallyFilled" if leaves else "Filled"
            case Cancelled(reason=reason):
                status = "Cancelled"
            case Rejected(reason=reason, request="order"):
                status = "Rejected"
            case _:
                pass
    return status, reason
