"""The terms on which the venue trades, as events: a symbol's rules, fee rates, the clock offset.

Part of the one union in ``events.py``, which names them all.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct


class RiskTier(Struct, frozen=True, gc=False):
    """What margin a position worth up to ``limit`` USDT needs; rates are fractions of its value.

    ``deduction`` (USDT) makes the maintenance margin continuous from tier to tier.
    https://bybit-exchange.github.io/docs/v5/market/risk-limit
    """

    limit: Decimal
    maintenance_rate: Decimal
    initial_rate: Decimal
    deduction: Decimal = Decimal(0)


class Instrument(Struct, frozen=True, tag=True, gc=False):
    """The venue's rules for a symbol. A limit of 0 is no limit; ``tiers`` go from low to high."""

    ts: int
    exchange_ts: int
    symbol: str
    base: str
    quote: str
    tick_size: Decimal
    qty_step: Decimal
    min_qty: Decimal
    min_notional: Decimal
    max_limit_qty: Decimal = Decimal(0)
    max_market_qty: Decimal = Decimal(0)
    max_leverage: Decimal = Decimal(1)
    price_limit_x: Decimal = Decimal(0)
    price_limit_y: Decimal = Decimal(0)
    funding_interval_min: int = 0
    tiers: tuple[RiskTier, ...] = ()


class Fees(Struct, frozen=True, tag=True, gc=False):
    """The account's fee rates for a category, or for one ``symbol`` of it; a rebate is negative.

    A tier that changes is another event: fills from then on pay its rates.
    """

    ts: int
    category: str
    maker_rate: Decimal
    taker_rate: Decimal
    exchange_ts: int = 0
    symbol: str = ""


class ClockOffset(Struct, frozen=True, tag=True, gc=False):
    """Local clock minus exchange clock, and how long the request took that measured it.

    ``round_trip_ns`` is 0 where it was not kept.
    """

    ts: int
    offset_ns: int
    exchange_ts: int = 0
    round_trip_ns: int = 0
