"""What goes out by MQTT, as JSON: a struct a topic. docs/mqtt.md shows the schema of each.

Prices, quantities and money are exact decimals in text; times are ns since 1970 UTC; a field that
says nothing is left out. ``fact`` is the fact's number in its run: (run, fact) is a key by which
a receiver can tell what it has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from bot.core.events import (
    CommandName,
    Horizon,
    OrderType,
    Side,
    StopType,
    TimeInForce,
    TriggerBy,
)

Severity: TypeAlias = Literal["info", "warning", "critical"]
OrderKind: TypeAlias = Literal[
    "Order", "Amend", "Cancel", "Refusal", "Accepted", "Rejected", "Triggered", "Cancelled"
]


class Status(Struct, frozen=True):
    """Is the bot there, and how is it. Retained; the broker says ``offline`` when it is lost."""

    state: Literal["online", "offline"]
    instance: str
    run: str
    ts: int
    version: str
    trading: Literal["active", "reducing", "halted"]
    inputs: int = 0
    facts: int = 0
    orders: int = 0
    fills: int = 0
    gaps: int = 0
    inbox: int = 0
    ledger_pending: int = 0
    dropped: int = 0


class PredictionMessage(Struct, frozen=True, omit_defaults=True):
    """What a model expects of a symbol, having read the input up to ``read_position``."""

    run: str
    position: int
    ts: int
    symbol: str
    model: str
    read_position: int
    ready_ts: int
    price: float
    horizons: tuple[Horizon, ...]
    trained: bool
    weight: float | None = None
    rebuilt: bool = False


class SignalMessage(Struct, frozen=True):
    """The position, in coins, that a strategy wants."""

    run: str
    fact: int
    ts: int
    strategy: str
    symbol: str
    target: float
    reason: str


class OrderMessage(Struct, frozen=True, omit_defaults=True):
    """A step in an order's life; which fields there are depends on ``kind``."""

    run: str
    fact: int
    kind: OrderKind
    ts: int
    order_id: int
    symbol: str
    exchange_ts: int | None = None
    answer_ts: int | None = None
    strategy: str | None = None
    side: Side | None = None
    order_type: OrderType | None = None
    tif: TimeInForce | None = None
    qty: Decimal | None = None
    price: Decimal | None = None
    reduce_only: bool | None = None
    tag: str | None = None
    trigger_price: Decimal | None = None
    trigger_by: TriggerBy | None = None
    trigger_direction: Literal["rise", "fall"] | None = None
    stop_type: StopType | None = None
    take_profit: Decimal | None = None
    take_profit_by: TriggerBy | None = None
    stop_loss: Decimal | None = None
    stop_loss_by: TriggerBy | None = None
    leaves: Decimal | None = None
    ahead: Decimal | None = None
    request: Literal["order", "amend", "cancel"] | None = None
    reason: str | None = None
    detail: str | None = None


class FillMessage(Struct, frozen=True):
    """An execution. At least once: after a reconnect some may come again."""

    run: str
    fact: int
    ts: int
    exchange_ts: int
    answer_ts: int
    fill_id: int
    order_id: int
    strategy: str
    symbol: str
    side: Side
    price: Decimal
    qty: Decimal
    maker: bool
    fee: Decimal
    fee_coin: str
    cause: Literal["take", "queue", "through", "cross"]
    cause_seq: int
    ahead_at_arrival: Decimal | None
    leaves: Decimal
    policy: str
    realized_pnl: Decimal
    position: Decimal


class PositionMessage(Struct, frozen=True):
    """What is held after a fill or a liquidation, fees and profit since the run began."""

    run: str
    fact: int
    ts: int
    symbol: str
    position: Decimal
    average_entry: Decimal | None
    realized_pnl: Decimal
    fees: Decimal


class PnlMessage(Struct, frozen=True):
    """The account's worth. ``equity`` counts open profits at mark, ``realized_pnl`` no fees."""

    run: str
    ts: int
    equity: Decimal
    wallet: Decimal
    realized_pnl: Decimal
    fees: Decimal
    funding: Decimal


class Alert(Struct, frozen=True):
    """Something that a person should know. ``more`` of its kind were left out since the last."""

    instance: str
    run: str
    ts: int
    kind: str
    severity: Severity
    text: str
    more: int = 0


class CommandMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """What others send. A message with an ``id`` that was seen is not done twice."""

    name: CommandName
    id: str = ""
    reply_to: str = ""
    reason: str = ""


class Reply(Struct, frozen=True):
    """The answer to a command: whether it stands in the run's queue, else why not."""

    id: str
    ok: bool
    detail: str
    ts: int


TOPICS: Final[Mapping[str, type[Struct]]] = {
    "status": Status,
    "prediction/<symbol>": PredictionMessage,
    "signal": SignalMessage,
    "order": OrderMessage,
    "fill": FillMessage,
    "position": PositionMessage,
    "pnl": PnlMessage,
    "alert": Alert,
    "command": CommandMessage,
    "reply/<anything>": Reply,
}
"""What stands behind ``kvtrader/<instance>/``."""

encode = msgspec.json.Encoder(decimal_format="string").encode


def schema(kind: type[Struct]) -> dict[str, Any]:
    """The JSON schema of a message, without references where it has none."""
    found = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(kind)))
    definitions = found.pop("$defs")
    top: dict[str, Any] = definitions.pop(kind.__name__)
    return {**top, "$defs": definitions} if definitions else top
