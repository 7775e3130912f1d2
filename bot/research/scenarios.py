"""Golden scenarios: small markets in YAML with the outcome that the engine must give.

The format is described in ``tests/scenarios/README.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import Struct

from bot.core.engine import Engine
from bot.core.errors import PlainError
from bot.core.events import (
    Accepted,
    Amend,
    BookUpdate,
    Cancel,
    Cancelled,
    Decision,
    Event,
    Fact,
    FeedDown,
    Fees,
    Fill,
    FundingRate,
    Instrument,
    Order,
    Rejected,
    Tick,
    Ticker,
    Trade,
)
from bot.core.instrument import amount, parse_e12, to_decimal, to_e8, to_e12
from bot.core.latency import Latency
from bot.core.matching import FillPolicy
from bot.core.risk import RiskLimits
from bot.core.strategy import Seen, View

_MS = 1_000_000
_NO_LIMITS = RiskLimits(10**30, 10**30, 10**30, 10**9, 10**9)
_INSTRUMENT = {
    "symbol": "BTCUSDT",
    "category": "linear",
    "tick_size": "0.1",
    "qty_step": "1",
    "min_qty": "1",
    "min_notional": "5",
}
_FEES = {"maker": "0.0002", "taker": "0.00055"}
_POLICY = {
    "queue": "conservative",
    "through": "traded",
    "order_latency_ms": 0,
    "response_latency_ms": 0,
}
_ACCOUNT = {"usdt": "1000000", "leverage": "10"}
_STEPS = ("book", "trade", "place", "amend", "cancel", "mark", "funding", "gap", "advance")


class ScenarioError(PlainError):
    """A scenario file cannot be run; the text names the file and what is wrong with it."""


class Failure(Struct, frozen=True):
    """A scenario whose outcome was not the expected one."""

    name: str
    path: str
    differences: list[str]


class _Script(Struct):
    """The strategy of a scenario: says what the file says, when the file says it."""

    state: dict[str, int] = {}
    next: Decision | None = None

    def on_event(self, event: Seen, view: View) -> Iterable[Decision] | None:
        del view
        if not isinstance(event, Tick) or self.next is None:
            return None
        decision, self.next = self.next, None
        return (decision,)


def find(path: Path) -> list[Path]:
    """Every scenario file under ``path``, in name order."""
    if path.is_file():
        return [path]
    files = sorted(path.rglob("*.yaml"))
    if not files:
        raise ScenarioError(f"{path}: no *.yaml files here")
    return files


def run(path: Path) -> Failure | None:
    """Run one file; None if all that it expects came true."""
    raw = _read(path)
    with _reading(path):
        played = _Play(raw)
    facts: list[Fact] = []
    for step in raw["steps"]:
        with _reading(path):
            events = played.events(step)
        for event in events:
            facts += played.engine.step(event)
    facts += played.engine.finish()
    with _reading(path):
        differences = _compare(raw.get("expect") or {}, played, facts)
    return Failure(raw["name"], str(path), differences) if differences else None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What goes wrong in here is the file's fault, and is told with its name."""
    try:
        yield
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise ScenarioError(f"{path}: {type(error).__name__}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("steps"), list):
        raise ScenarioError(f"{path}: must hold a mapping with `name`, `steps` and `expect`")
    raw.setdefault("name", path.stem)
    return raw


class _Play:
    """One scenario being played through ``Engine.step``."""

    def __init__(self, raw: dict[str, Any]) -> None:
        instrument = _INSTRUMENT | (raw.get("instrument") or {})
        account = _ACCOUNT | (raw.get("account") or {})
        self.symbol = f"{instrument['category']}:{instrument['symbol']}"
        self.ids: dict[str, int] = {}
        self._script = _Script()
        self._seq = 0
        self._tick_ts = 0
        rules = _instrument(self.symbol, instrument)
        fees = _FEES | (raw.get("fees") or {})
        self.engine = Engine(
            [("script", (self.symbol,), self._script)],
            usdt=to_e8(Decimal(account["usdt"])),
            leverage=to_e12(Decimal(account["leverage"])),
            policy=_policy(_POLICY | (raw.get("policy") or {})),
            limits=_NO_LIMITS,
        )
        self.engine.step(rules)
        rates = Decimal(fees["maker"]), Decimal(fees["taker"])
        self.engine.step(Fees(0, instrument["category"], *rates))

    def events(self, step: dict[str, Any]) -> list[Event]:
        """The events of one step; a decision waits in the script for the tick among them."""
        kinds = [kind for kind in step if kind in _STEPS]
        if len(kinds) != 1 or "t" not in step:
            raise ValueError(f"a step needs `t` and one of {', '.join(_STEPS)}: {step}")
        kind = kinds[0]
        ts = int(step["t"]) * _MS
        body = step[kind] or {}
        made: list[Event] = []
        if kind not in ("book", "trade"):
            made.append(Tick(ts, ts))
        match kind:
            case "book":
                made.append(self._book(ts, body))
            case "trade":
                seq = self._next_seq(body)
                price, qty = parse_e12(str(body["price"])), parse_e12(str(body["qty"]))
                made.append(Trade(ts, ts, self.symbol, seq, body["side"], price, qty))
            case "place" | "amend" | "cancel":
                self._script.next = self._decision(kind, ts, body)
            case "mark":
                made.append(Ticker(ts, ts, self.symbol, mark=Decimal(str(body["price"]))))
            case "funding":
                rate, at = Decimal(str(body["rate"])), int(body["time"]) * _MS
                made.append(FundingRate(ts, ts, self.symbol, rate, at))
            case "gap":
                made.append(FeedDown(ts, self.symbol, "gap"))
        return made

    def _book(self, ts: int, body: dict[str, Any]) -> BookUpdate:
        def levels(side: str) -> list[tuple[int, int]]:
            return [(parse_e12(str(p)), parse_e12(str(q))) for p, q in body.get(side) or []]

        seq = self._next_seq(body)
        depth = int(body.get("depth") or 0)
        snapshot = bool(body.get("snapshot"))
        bids, asks = levels("bids"), levels("asks")
        return BookUpdate(ts, ts, self.symbol, depth, seq, seq, snapshot, bids, asks)

    def _next_seq(self, body: dict[str, Any]) -> int:
        """Without a ``seq`` a step is later than all before it."""
        seq = int(body.get("seq", self._seq + 1))
        self._seq = max(self._seq, seq)
        return seq

    def _decision(self, kind: str, ts: int, body: dict[str, Any]) -> Decision:
        name = str(body["id"])
        if kind == "place":
            order_id = self.ids[name] = self.engine.ids.next()
            price = body.get("price")
            is_market = body["type"] == "Market"
            return Order(
                ts=ts,
                id=order_id,
                strategy="script",
                symbol=self.symbol,
                side=body["side"],
                order_type=body["type"],
                tif="IOC" if is_market else body.get("tif", "GTC"),
                qty=Decimal(str(body["qty"])),
                price=None if is_market else Decimal(str(price)),
                reduce_only=bool(body.get("reduce_only")),
                tag=name,
            )
        order_id = self.ids[name]
        if kind == "cancel":
            return Cancel(ts, order_id, self.symbol)
        price, qty = body.get("price"), body.get("qty")
        return Amend(
            ts,
            order_id,
            self.symbol,
            None if price is None else Decimal(str(price)),
            None if qty is None else Decimal(str(qty)),
        )


def _instrument(symbol: str, raw: dict[str, Any]) -> Instrument:
    known = {field.name for field in msgspec.structs.fields(Instrument)}
    limits: dict[str, Any] = {
        key: Decimal(str(value))
        for key, value in raw.items()
        if key in known and key not in ("symbol", "base", "quote")
    }
    base = raw.get("base", str(raw["symbol"]).removesuffix("USDT"))
    return Instrument(0, 0, symbol, base, raw.get("quote", "USDT"), **limits)


def _policy(raw: dict[str, Any]) -> FillPolicy:
    return FillPolicy(
        queue=raw["queue"],
        through=raw["through"],
        order_latency=Latency(round(float(raw["order_latency_ms"]) * _MS)),
        response_latency=Latency(round(float(raw["response_latency_ms"]) * _MS)),
    )


# --- What came of it ------------------------------------------------------------------------


def _compare(expect: dict[str, Any], played: _Play, facts: list[Fact]) -> list[str]:
    differences: list[str] = []
    checks: dict[str, Callable[[Any], list[str]]] = {
        "fills": lambda wanted: _compare_fills(wanted, played, facts),
        "orders": lambda wanted: _compare_orders(wanted, played, facts),
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


def _compare_fills(wanted: list[dict[str, Any]], played: _Play, facts: list[Fact]) -> list[str]:
    names = {order_id: name for name, order_id in played.ids.items()}
    got = [
        {
            "t": fact.exchange_ts // _MS,
            "id": names[fact.order_id],
            "price": fact.price,
            "qty": fact.qty,
            "maker": fact.maker,
            "fee": fact.fee,
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


def _same(wanted: Any, got: Any) -> bool:
    if isinstance(got, Decimal):
        return Decimal(str(wanted)) == got
    return bool(wanted == got)


def _compare_orders(wanted: dict[str, Any], played: _Play, facts: list[Fact]) -> list[str]:
    differences: list[str] = []
    for name, expected in wanted.items():
        status, reason = _status(played.ids[name], facts)
        if expected["status"] != status:
            differences.append(f"order {name}: expected {expected['status']}, got {status}")
        if "reason" in expected and str(expected["reason"]) != reason:
            differences.append(f"order {name}: expected {expected['reason']}, got {reason}")
    return differences


def _status(order_id: int, facts: list[Fact]) -> tuple[str, str]:
    """The order's final status in Bybit's words, and the reason where there is one."""
    status, reason = "Created", ""
    for fact in facts:
        if getattr(fact, "order_id", None) != order_id:
            continue
        match fact:
            case Accepted() if status == "Created":
                status = "New"
            case Fill(leaves=leaves):
                status = "PartiallyFilled" if leaves else "Filled"
            case Cancelled(reason=reason):
                status = "Cancelled"
            case Rejected(reason=reason, request="order"):
                status = "Rejected"
            case _:
                pass
    return status, reason
