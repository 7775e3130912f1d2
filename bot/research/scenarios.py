"""Golden scenarios: small markets in YAML with the outcome that the engine must give.

The format is described in ``tests/scenarios/README.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    Amend,
    BookUpdate,
    Cancel,
    ClockOffset,
    Decision,
    Event,
    Fact,
    FeedDown,
    Fees,
    FundingRate,
    Instrument,
    Order,
    RiskTier,
    Tick,
    Ticker,
    Trade,
)
from bot.core.instrument import parse_e12, to_e8, to_e12
from bot.core.latency import Latency
from bot.core.matching import FillPolicy
from bot.core.risk import RiskLimits
from bot.core.strategy import Seen, View
from bot.research.outcome import compare

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
    "latency": "modelled",
    "beyond_limit": "move",
    "rate_limits": False,
    "shadows": [],
}
_ACCOUNT = {"usdt": "1000000", "leverage": "10"}
_STEPS = ("book", "trade", "place", "amend", "cancel", "mark", "funding", "gap", "advance", "fees",
          "clock")  # fmt: skip


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
        differences = compare(raw.get("expect") or {}, played, facts)
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
        policy = _POLICY | (raw.get("policy") or {})
        self.engine = Engine(
            [("script", (self.symbol,), self._script)],
            usdt=to_e8(Decimal(account["usdt"])),
            leverage=to_e12(Decimal(account["leverage"])),
            policy=_policy(policy),
            limits=_NO_LIMITS,
            shadows=[_policy(policy | {"queue": queue}) for queue in policy["shadows"]],
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
                late_ns = int(body.get("late_ms", 0)) * _MS
                made.append(
                    Trade(
                        ts, ts - late_ns, self.symbol, seq, body["side"], price, qty,
                        bool(body.get("block")), bool(body.get("rpi")),
                    )
                )  # fmt: skip
            case "place" | "amend" | "cancel":
                self._script.next = self._decision(kind, ts, body)
            case "mark":
                made.append(self._ticker(ts, body))
            case "funding":
                rate, at = Decimal(str(body["rate"])), int(body["time"]) * _MS
                made.append(FundingRate(ts, ts, self.symbol, rate, at))
            case "fees":
                category = self.symbol.partition(":")[0]
                maker, taker = Decimal(str(body["maker"])), Decimal(str(body["taker"]))
                made.append(Fees(ts, category, maker, taker))
            case "clock":
                offset_ns = int(body.get("offset_ms", 0)) * _MS
                trip_ns = int(body.get("round_trip_ms", 0)) * _MS
                made.append(ClockOffset(ts, offset_ns, round_trip_ns=trip_ns))
            case "gap":
                made.append(FeedDown(ts, self.symbol, "gap"))
        return made

    def _ticker(self, ts: int, body: dict[str, Any]) -> Ticker:
        """Of a mark step, what it names; ``funding_time`` is the next settlement, in ms."""
        numbers = {
            "mark": body.get("price"),
            "index": body.get("index"),
            "funding_rate": body.get("rate"),
        }
        known = {name: Decimal(str(v)) for name, v in numbers.items() if v is not None}
        due = body.get("funding_time")
        return Ticker(
            ts, ts, self.symbol, next_funding_ts=None if due is None else int(due) * _MS, **known
        )

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
                **_conditions(body),
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
            None if body.get("trigger") is None else Decimal(str(body["trigger"])),
        )


def _conditions(body: dict[str, Any]) -> dict[str, Any]:
    """The trigger and the exits of an order, where the step names any."""
    trigger = body.get("trigger")
    made: dict[str, Any] = {
        "trigger_price": trigger,
        "take_profit": body.get("take_profit"),
        "stop_loss": body.get("stop_loss"),
    }
    made = {name: Decimal(str(value)) for name, value in made.items() if value is not None}
    if trigger is not None:
        made["trigger_by"] = body.get("by", "last")
        made["trigger_direction"] = body["direction"]
        made["stop_type"] = body.get("closes")
    return made


def _instrument(symbol: str, raw: dict[str, Any]) -> Instrument:
    known = {field.name for field in msgspec.structs.fields(Instrument)}
    limits: dict[str, Any] = {
        key: Decimal(str(value))
        for key, value in raw.items()
        if key in known and key not in ("symbol", "base", "quote", "tiers")
    }
    limits["tiers"] = tuple(
        RiskTier(**{key: Decimal(str(value)) for key, value in tier.items()})
        for tier in raw.get("tiers") or ()
    )
    base = raw.get("base", str(raw["symbol"]).removesuffix("USDT"))
    return Instrument(0, 0, symbol, base, raw.get("quote", "USDT"), **limits)


def _policy(raw: dict[str, Any]) -> FillPolicy:
    measured = raw["latency"] == "measured"
    return FillPolicy(
        queue=raw["queue"],
        through=raw["through"],
        order_latency=Latency(round(float(raw["order_latency_ms"]) * _MS), is_measured=measured),
        response_latency=Latency(
            round(float(raw["response_latency_ms"]) * _MS), is_measured=measured
        ),
        beyond_limit=raw["beyond_limit"],
        rate_limits=bool(raw["rate_limits"]),
    )
