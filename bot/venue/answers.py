"""Bybit's REST answers to events. Nothing here does I/O; a capture's answers parse the same.

``result`` is always the ``result`` object of an answer. What cannot be read raises
MalformedAnswer, which names the field.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from bot.core.errors import PlainError
from bot.core.events import Candle, Fees, FundingRate, Instrument, RiskTier
from bot.venue import payloads
from bot.venue.payloads import MS

MINUTE_NS = 60_000_000_000

_INTERVAL_NS = {
    **{str(minutes): minutes * MINUTE_NS for minutes in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": 1_440 * MINUTE_NS,
    "W": 10_080 * MINUTE_NS,
}


class MalformedAnswer(PlainError):
    """The venue answered, but not what its documentation promises."""


def parse_instruments(
    category: str,
    result: Mapping[str, Any],
    ts: int,
    exchange_ts: int = 0,
    *,
    wanted: Container[str] | None = None,
) -> list[Instrument]:
    """The rules in one instruments-info answer, of the ``wanted`` symbols ("linear:BTCUSDT") only.

    An entry that is not wanted is not read, so that a new kind of product harms nobody else.
    https://bybit-exchange.github.io/docs/v5/market/instrument
    """
    parse = {"linear": _linear, "spot": _spot}.get(category)
    if parse is None:
        raise MalformedAnswer(f"instruments-info of category {category!r}: want linear or spot")
    return [
        parse(entry, ts, exchange_ts)
        for entry in _list(result, "instruments-info")
        if wanted is None or f"{category}:{_text(entry, 'symbol')}" in wanted
    ]


def parse_candles(
    symbol: str, interval: str, result: Mapping[str, Any], ts: int, exchange_ts: int
) -> list[Candle]:
    """The bars of one kline answer that had closed by ``exchange_ts``, oldest first.

    https://bybit-exchange.github.io/docs/v5/market/kline
    """
    candles = parse_bars(symbol, interval, result, ts)
    return [candle for candle in candles if candle.exchange_ts <= exchange_ts]


def parse_bars(symbol: str, interval: str, result: Mapping[str, Any], ts: int = 0) -> list[Candle]:
    """Every bar of one kline answer, also one that is still open, oldest first."""
    length_ns = interval_ns(interval)
    return [
        _candle(symbol, interval, length_ns, row, ts) for row in reversed(_list(result, "kline"))
    ]


def parse_funding(symbol: str, result: Mapping[str, Any], ts: int) -> list[FundingRate]:
    """The settled rates of one funding-history answer, oldest first.

    https://bybit-exchange.github.io/docs/v5/market/history-fund-rate
    """
    rates: list[FundingRate] = []
    for row in reversed(_list(result, "funding history")):
        try:
            stamp = int(row["fundingRateTimestamp"]) * MS
            rate = Decimal(row["fundingRate"])
        except (KeyError, TypeError, ValueError, InvalidOperation) as error:
            what = f"funding history of {symbol}: cannot read {_short(row)}"
            raise MalformedAnswer(what) from error
        if not rate.is_finite():
            raise MalformedAnswer(f"funding history of {symbol}: rate {rate} in {_short(row)}")
        rates.append(FundingRate(ts, stamp, symbol, rate, stamp))
    return rates


def parse_tiers(symbol: str, result: Mapping[str, Any]) -> tuple[RiskTier, ...]:
    """The tiers of one symbol in a risk-limit answer, from low to high.

    https://bybit-exchange.github.io/docs/v5/market/risk-limit
    """
    name = symbol.partition(":")[2]
    tiers = [
        RiskTier(
            _number(row, "riskLimitValue"),
            _number(row, "maintenanceMargin"),
            _number(row, "initialMargin"),
            _number(row, "mmDeduction", absent=0),
        )
        for row in _list(result, "risk-limit")
        if _text(row, "symbol") == name
    ]
    return tuple(sorted(tiers, key=lambda tier: tier.limit))


def parse_fee_rates(symbol: str, result: Mapping[str, Any], ts: int, exchange_ts: int) -> Fees:
    """The account's rates for one symbol in a fee-rate answer.

    https://bybit-exchange.github.io/docs/v5/account/fee-rate
    """
    category, _, name = symbol.partition(":")
    for row in _list(result, "fee-rate"):
        if _text(row, "symbol") == name:
            maker, taker = _number(row, "makerFeeRate"), _number(row, "takerFeeRate")
            return Fees(ts, category, maker, taker, exchange_ts, symbol)
    raise MalformedAnswer(f"fee-rate: no {symbol} in {_short(result)}")


def parse_mark(symbol: str, result: Mapping[str, Any], ts: int) -> Decimal | None:
    """The mark price at which the minute ``ts`` opened, None where the answer has no such bar.

    https://bybit-exchange.github.io/docs/v5/market/mark-kline
    """
    for row in _list(result, "mark-price-kline"):
        try:
            if int(row[0]) * MS == ts:
                return payloads.price(row[1])
        except (IndexError, TypeError, ValueError) as error:
            what = f"mark-price-kline of {symbol}: cannot read the bar {_short(row)}"
            raise MalformedAnswer(what) from error
    return None


def interval_ns(interval: str) -> int:
    """The length of a bar. Raises ValueError for a name whose bars have no fixed length."""
    length = _INTERVAL_NS.get(interval)
    if length is None:
        raise ValueError(f"interval {interval!r}: want one of {', '.join(_INTERVAL_NS)}")
    return length


def next_open(ts: int, interval: str) -> int:
    """When the first bar opens at or after ``ts``. Weeks open on Monday, 1970 on a Thursday."""
    length = interval_ns(interval)
    offset = 4 * 1_440 * MINUTE_NS if interval == "W" else 0
    return -(-(ts - offset) // length) * length + offset


def interval_of(length_ns: int) -> str | None:
    """Bybit's name for a bar of that length, None where it has none."""
    return next((name for name, length in _INTERVAL_NS.items() if length == length_ns), None)


def parse_server_ns(result: Mapping[str, Any]) -> int:
    """The venue's clock: https://bybit-exchange.github.io/docs/v5/market/time ."""
    try:
        return int(result["timeNano"])
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedAnswer(f"time: no integer timeNano in {_short(result)}") from error


def _linear(entry: Mapping[str, Any], ts: int, exchange_ts: int) -> Instrument:
    return Instrument(
        ts=ts,
        exchange_ts=exchange_ts,
        symbol=f"linear:{_text(entry, 'symbol')}",
        base=_text(entry, "baseCoin"),
        quote=_text(entry, "quoteCoin"),
        tick_size=_number(entry, "priceFilter", "tickSize"),
        qty_step=_number(entry, "lotSizeFilter", "qtyStep"),
        min_qty=_number(entry, "lotSizeFilter", "minOrderQty"),
        min_notional=_number(entry, "lotSizeFilter", "minNotionalValue", absent=0),
        max_limit_qty=_number(entry, "lotSizeFilter", "maxOrderQty", absent=0),
        max_market_qty=_number(entry, "lotSizeFilter", "maxMktOrderQty", absent=0),
        max_leverage=_number(entry, "leverageFilter", "maxLeverage", absent=1),
        price_limit_x=_number(entry, "riskParameters", "priceLimitRatioX", absent=0),
        price_limit_y=_number(entry, "riskParameters", "priceLimitRatioY", absent=0),
        funding_interval_min=int(_number(entry, "fundingInterval", absent=0)),
    )


def _spot(entry: Mapping[str, Any], ts: int, exchange_ts: int) -> Instrument:
    step = _number(entry, "lotSizeFilter", "basePrecision")
    return Instrument(
        ts=ts,
        exchange_ts=exchange_ts,
        symbol=f"spot:{_text(entry, 'symbol')}",
        base=_text(entry, "baseCoin"),
        quote=_text(entry, "quoteCoin"),
        tick_size=_number(entry, "priceFilter", "tickSize"),
        qty_step=step,
        # minOrderQty and maxOrderQty are deprecated for spot: minOrderAmt rules.
        min_qty=step,
        min_notional=_number(entry, "lotSizeFilter", "minOrderAmt"),
        max_limit_qty=_number(entry, "lotSizeFilter", "maxLimitOrderQty", absent=0),
        max_market_qty=_number(entry, "lotSizeFilter", "maxMarketOrderQty", absent=0),
        price_limit_x=_number(entry, "riskParameters", "priceLimitRatioX", absent=0),
        price_limit_y=_number(entry, "riskParameters", "priceLimitRatioY", absent=0),
    )


def _candle(symbol: str, interval: str, length_ns: int, row: Any, ts: int) -> Candle:
    try:
        open_ts = int(row[0]) * MS
        opened, high, low, close = (payloads.price(text) for text in row[1:5])
        volume, turnover = (payloads.volume(text) for text in row[5:7])
    except (IndexError, TypeError, ValueError) as error:
        raise MalformedAnswer(f"kline of {symbol}: cannot read the bar {_short(row)}") from error
    return Candle(
        ts=ts,
        exchange_ts=open_ts + length_ns,
        symbol=symbol,
        interval=interval,
        open_ts=open_ts,
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=volume,
        turnover=turnover,
    )


def _list(result: Mapping[str, Any], what: str) -> list[Any]:
    entries = result.get("list") if isinstance(result, Mapping) else None
    if not isinstance(entries, list):
        raise MalformedAnswer(f"{what}: no list in {_short(result)}")
    return entries


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(value, str) or not value:
        raise MalformedAnswer(f"no {key} in {_short(entry)}")
    return value


def _number(entry: Mapping[str, Any], *path: str, absent: int | None = None) -> Decimal:
    """Read a decimal, written as text or as an integer; ``absent`` stands in where none is."""
    value: Any = entry
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if value in (None, "") and absent is not None:
        return Decimal(absent)
    try:
        number = Decimal(value) if isinstance(value, str | int) else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        field = f"{_text(entry, 'symbol')}: {'.'.join(path)}"
        raise MalformedAnswer(f"{field} is {value!r}, not a number")
    return number


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
