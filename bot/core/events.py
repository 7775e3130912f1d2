"""Every message that can move the bot, as frozen structs: inputs, events, decisions, outcomes.

What lives here is shape only: no parsing, no behaviour, no clock. Two number types:
* ``Trade`` and ``BookUpdate`` arrive thousands of times a second and carry prices and
  quantities as ``E12``: exact integers in units of 1e-12 (``instrument.to_e12``).
* Everything rarer, and everything a person reads, carries ``Decimal``.

``ts`` is local time, ``exchange_ts`` is the venue's stamp; both are integer nanoseconds since
1970 UTC. ``symbol`` is always ``category:SYMBOL``, for example ``linear:BTCUSDT``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypeAlias

from msgspec import Struct

from bot.core.measurements import FeedLatency
from bot.core.terms import ClockOffset as ClockOffset  # noqa: PLC0414 - named here for all
from bot.core.terms import Fees as Fees  # noqa: PLC0414
from bot.core.terms import Instrument as Instrument  # noqa: PLC0414
from bot.core.terms import RiskTier as RiskTier  # noqa: PLC0414

E12: TypeAlias = int
"""A price or a quantity in units of 1e-12."""
E8: TypeAlias = int
"""A coin amount in units of 1e-8."""
Level: TypeAlias = tuple[E12, E12]
"""(price, quantity); quantity 0 deletes the level."""
Side: TypeAlias = Literal["Buy", "Sell"]
OrderType: TypeAlias = Literal["Limit", "Market"]
TimeInForce: TypeAlias = Literal["GTC", "IOC", "FOK", "PostOnly"]
TriggerBy: TypeAlias = Literal["last", "mark", "index"]
"""The price that a trigger watches: trades, the mark, or the index."""
StopType: TypeAlias = Literal["TakeProfit", "StopLoss"]
CommandName: TypeAlias = Literal["pause", "resume", "cancel_all", "flatten", "halt", "stop"]


# --- Inputs that only the codec reads -------------------------------------------------


class Frame(Struct, frozen=True, tag=True, gc=False):
    """One WebSocket message as it came."""

    ts: int
    conn: str
    data: bytes


class Connected(Struct, frozen=True, tag=True, gc=False):
    """A socket opened; its frames will speak of ``category``."""

    ts: int
    conn: str
    category: str


class Disconnected(Struct, frozen=True, tag=True, gc=False):
    """A socket closed; every stream on it is down."""

    ts: int
    conn: str
    reason: str


# --- Market events ----------------------------------------------------------------------


class Trade(Struct, frozen=True, tag=True, gc=False):
    """A public trade. ``side`` is the taker's; block and RPI trades never match an order."""

    ts: int
    exchange_ts: int
    symbol: str
    seq: int
    side: Side
    price: E12
    qty: E12
    block: bool = False
    rpi: bool = False


class BookUpdate(Struct, frozen=True, tag=True, gc=False):
    """A snapshot or delta of one book, best ``depth`` levels a side (0: all of them)."""

    ts: int
    exchange_ts: int
    symbol: str
    depth: int
    u: int
    seq: int
    snapshot: bool
    bids: list[Level]
    asks: list[Level]


class Candle(Struct, frozen=True, tag=True, gc=False):
    """A closed bar. ``exchange_ts`` is its close; ``interval`` uses Bybit's names ("1", "D")."""

    ts: int
    exchange_ts: int
    symbol: str
    interval: str
    open_ts: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    turnover: Decimal


class Ticker(Struct, frozen=True, tag=True, gc=False):
    """The merged ticker. A field that the venue has never sent is None."""

    ts: int
    exchange_ts: int
    symbol: str
    last: Decimal | None = None
    mark: Decimal | None = None
    index: Decimal | None = None
    funding_rate: Decimal | None = None
    next_funding_ts: int | None = None
    open_interest: Decimal | None = None


class FundingRate(Struct, frozen=True, tag=True, gc=False):
    """A rate that the stream missed, from the venue's history; without a mark, today's counts."""

    ts: int
    exchange_ts: int
    symbol: str
    rate: Decimal
    funding_ts: int
    mark: Decimal | None = None


class FeedDown(Struct, frozen=True, tag=True, gc=False):
    """The book of ``symbol`` is unknown from here on."""

    ts: int
    symbol: str
    reason: str
    exchange_ts: int = 0


class FeedUp(Struct, frozen=True, tag=True, gc=False):
    """A fresh snapshot of ``symbol`` follows."""

    ts: int
    symbol: str
    exchange_ts: int = 0


class Tick(Struct, frozen=True, tag=True, gc=False):
    """Time passes. Only simulations give it an ``exchange_ts``."""

    ts: int
    exchange_ts: int = 0


class Command(Struct, frozen=True, tag=True, gc=False):
    """An order from outside the strategies: a person, the database, the disk, drift."""

    ts: int
    name: CommandName
    source: str
    reason: str = ""
    exchange_ts: int = 0


class Horizon(Struct, frozen=True, gc=False):
    """What a model expects ``horizon_ns`` after the last token that it read.

    ``expected_return`` and ``quantiles`` are log returns of the mid price or close;
    ``up_probability`` is P(return > 0), given that it is not 0; ``confidence`` is in [0, 1].
    """

    horizon_ns: int
    expected_return: float
    up_probability: float
    confidence: float
    quantiles: tuple[float, ...] = ()


class Prediction(Struct, frozen=True, tag=True, gc=False):
    """A model's answer for one symbol, having read the input up to ``read_position``.

    ``read_ts`` is the local stamp of the last event read, ``ready_ts`` the local time at which
    the answer was computed; ``ts`` is when it entered the queue. ``price`` is what the returns
    are relative to. ``rebuilt`` says that the cache was rebuilt from less than its full past.
    """

    ts: int
    symbol: str
    model: str
    read_position: int
    read_ts: int
    ready_ts: int
    price: float
    horizons: tuple[Horizon, ...]
    weight: float | None = None
    trained: bool = True
    rebuilt: bool = False
    exchange_ts: int = 0


# --- Decisions --------------------------------------------------------------------------


class Signal(Struct, frozen=True, tag=True, gc=False):
    """A strategy's view in one line: the position it wants, in coins, and why."""

    ts: int
    strategy: str
    symbol: str
    target: float
    reason: str


class Order(Struct, frozen=True, tag=True, gc=False):
    """A wish to trade. ``price`` is None for a market order.

    With a ``trigger_price`` it waits at the venue until the price named by ``trigger_by`` has
    risen or fallen to it (``trigger_direction``), and only then meets the book. One of a
    ``stop_type`` belongs to the position: it closes what is held then, takes the place of the one
    before it, and goes with the position. ``take_profit`` and ``stop_loss`` are trigger prices
    of such exits, which the venue makes when the order fills; what each watches is in its ``_by``.
    """

    ts: int
    id: int
    strategy: str
    symbol: str
    side: Side
    order_type: OrderType
    tif: TimeInForce
    qty: Decimal
    price: Decimal | None = None
    reduce_only: bool = False
    tag: str = ""
    trigger_price: Decimal | None = None
    trigger_by: TriggerBy | None = None
    trigger_direction: Literal["rise", "fall"] | None = None
    stop_type: StopType | None = None
    take_profit: Decimal | None = None
    take_profit_by: TriggerBy | None = None
    stop_loss: Decimal | None = None
    stop_loss_by: TriggerBy | None = None


class Amend(Struct, frozen=True, tag=True, gc=False):
    """A change of an open order; ``qty`` is the new total quantity, None keeps the old.

    A ``trigger_price`` can be moved while the order still waits for it.
    """

    ts: int
    order_id: int
    symbol: str
    price: Decimal | None = None
    qty: Decimal | None = None
    trigger_price: Decimal | None = None


class Cancel(Struct, frozen=True, tag=True, gc=False):
    """A wish to cancel an open order."""

    ts: int
    order_id: int
    symbol: str


class Refusal(Struct, frozen=True, tag=True, gc=False):
    """Risk did not let a decision pass; ``reason`` is a stable code from ``core.risk``."""

    ts: int
    order_id: int
    strategy: str
    symbol: str
    reason: str
    detail: str = ""


# --- Outcomes -----------------------------------------------------------------------------
# ``ts`` is the local stamp of the step that made the fact, ``exchange_ts`` the exchange time at
# which it happened, ``answer_ts`` the local time at which the strategy hears of it.


class Accepted(Struct, frozen=True, tag=True, gc=False):
    """The order (or its amendment) rests or was taken in; ``ahead`` is None where unseen."""

    ts: int
    exchange_ts: int
    answer_ts: int
    order_id: int
    symbol: str
    price: Decimal | None
    qty: Decimal
    ahead: Decimal | None


class Triggered(Struct, frozen=True, tag=True, gc=False):
    """A conditional order's time has come: ``price`` is what reached its trigger."""

    ts: int
    exchange_ts: int
    answer_ts: int
    order_id: int
    symbol: str
    price: Decimal


class Rejected(Struct, frozen=True, tag=True, gc=False):
    """The venue refused an order, an amendment or a cancel; ``reason`` is Bybit's code."""

    ts: int
    exchange_ts: int
    answer_ts: int
    order_id: int
    symbol: str
    reason: str
    request: Literal["order", "amend", "cancel"] = "order"


class Fill(Struct, frozen=True, tag=True, gc=False):
    """An execution and what it did to the account.

    ``cause``: ``take`` (we took displayed liquidity), ``queue`` (a trade at our price reached
    us), ``through`` (a trade beyond our price), ``cross`` (the book met our price).
    ``cause_seq`` is the ``seq`` of the causing event. ``realized_pnl`` is without fees.
    """

    ts: int
    exchange_ts: int
    answer_ts: int
    id: int
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
    realized_pnl: Decimal = Decimal(0)
    position: Decimal = Decimal(0)


class Cancelled(Struct, frozen=True, tag=True, gc=False):
    """The order is gone with ``leaves`` unfilled; ``reason`` is Bybit's rejectReason."""

    ts: int
    exchange_ts: int
    answer_ts: int
    order_id: int
    symbol: str
    leaves: Decimal
    reason: str


class FundingPaid(Struct, frozen=True, tag=True, gc=False):
    """A funding settlement; ``amount`` is positive when we paid."""

    ts: int
    exchange_ts: int
    symbol: str
    funding_ts: int
    rate: Decimal
    mark: Decimal
    position: Decimal
    amount: Decimal


class Liquidated(Struct, frozen=True, tag=True, gc=False):
    """The venue took the position over at its bankruptcy ``price`` because its margin was gone.

    ``loss`` is all that the wallet lost by it: the position's margin and the closing fee.
    """

    ts: int
    exchange_ts: int
    symbol: str
    position: Decimal
    price: Decimal
    loss: Decimal


MarketEvent: TypeAlias = (
    Trade
    | BookUpdate
    | Candle
    | Ticker
    | FundingRate
    | Instrument
    | Fees
    | ClockOffset
    | FeedLatency
    | FeedDown
    | FeedUp
    | Tick
    | Command
)
Event: TypeAlias = MarketEvent | Prediction
"""What ``engine.step`` takes."""
Input: TypeAlias = Frame | Connected | Disconnected | Event
"""What the one queue and the journal hold."""
Decision: TypeAlias = Signal | Order | Amend | Cancel
Outcome: TypeAlias = Accepted | Triggered | Rejected | Fill | Cancelled | FundingPaid | Liquidated
Answer: TypeAlias = Accepted | Triggered | Rejected | Fill | Cancelled | Refusal
"""What a strategy hears back about its orders."""
Fact: TypeAlias = Decision | Refusal | Outcome
"""What ``engine.step`` returns."""
