"""What a private client is told of: orders, executions, positions, wallet, in Bybit's fields.

Records and their JSON shapes only; ``accounts.py`` fills them.
https://bybit-exchange.github.io/docs/v5/websocket/private/order and its neighbours.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeAlias
from uuid import NAMESPACE_URL, uuid5

from msgspec import Struct

from bot.core.account import Account, Position
from bot.core.events import E8, E12, Fill, FundingPaid, Liquidated, Order
from bot.core.instrument import amount, div_half_even, to_decimal, to_e12, value_of
from bot.venue.emulator.conditional import create_type, order_words, stop_order_type
from bot.venue.emulator.grid import price_text, qty_text
from bot.venue.emulator.listing import Listing
from bot.venue.emulator.market import SymbolMarket
from bot.venue.emulator.risk_limits import MAINTENANCE_RATE, tiers

Fields: TypeAlias = dict[str, Any]
RESTING = ("New", "PartiallyFilled")
WAITING = ("Untriggered", "Triggered")
_MS = 1_000_000


class OrderRecord(Struct):
    """An order as its owner knows it. ``asked_qty`` is the quantity in the client's words."""

    order: Order
    order_id: str
    link_id: str
    listing: Listing
    price: E12
    qty: E12
    created_ms: int
    updated_ms: int
    asked_qty: str = ""
    market_unit: str = ""
    smp_type: str = "None"
    status: str = "New"
    cancel_type: str = "UNKNOWN"
    reject_reason: str = "EC_NoError"
    filled: E12 = 0
    value: E8 = 0
    fees: dict[str, Decimal] = {}
    closed_pnl: Decimal = Decimal(0)
    last_price: str = ""
    is_cancelling: bool = False

    @property
    def is_open(self) -> bool:
        return self.status in RESTING or self.status in WAITING

    @property
    def is_resting(self) -> bool:
        """Whether it is in the book, or about to take."""
        return self.status in RESTING

    @property
    def leaves(self) -> E12:
        return self.qty - self.filled if self.is_open else 0


def number(value: Decimal) -> str:
    """A decimal without exponent or trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def stable_id(listing: Listing, *parts: object) -> str:
    """An id that a second run of the same requests gives again; spot's are numbers."""
    drawn = uuid5(NAMESPACE_URL, ":".join(map(str, (listing.symbol, *parts))))
    return str(drawn) if listing.category == "linear" else str(10**18 + drawn.int % 10**18)


def order_fields(record: OrderRecord) -> Fields:
    """An order as REST tells it."""
    order, listing = record.order, record.listing
    average = ""
    if record.filled:
        average = number(to_decimal(div_half_even(record.value * 10**16, record.filled)))
    left = value_of(record.price, record.leaves)
    fields = {
        "orderId": record.order_id,
        "orderLinkId": record.link_id,
        "blockTradeId": "",
        "symbol": listing.name,
        "price": price_text(listing, record.price),
        "qty": record.asked_qty or qty_text(listing, record.qty),
        "side": order.side,
        "isLeverage": "0" if listing.category == "spot" else "",
        "positionIdx": 0,
        "orderStatus": record.status,
        "cancelType": record.cancel_type,
        "rejectReason": record.reject_reason,
        "avgPrice": average,
        "leavesQty": qty_text(listing, record.leaves),
        "leavesValue": number(amount(left)),
        "cumExecQty": qty_text(listing, record.filled),
        "cumExecValue": number(amount(record.value)),
        "cumExecFee": number(sum(record.fees.values(), Decimal(0))),
        "timeInForce": order.tif,
        "orderType": order.order_type,
        "orderIv": "",
        "marketUnit": record.market_unit,
        "tpLimitPrice": "",
        "slLimitPrice": "",
        "lastPriceOnCreated": record.last_price,
        "reduceOnly": order.reduce_only,
        "placeType": "",
        "smpType": record.smp_type,
        "smpGroup": 0,
        "smpOrderId": "",
        "createdTime": str(record.created_ms),
        "updatedTime": str(record.updated_ms),
        "cumFeeDetail": {coin: number(fee) for coin, fee in record.fees.items()},
    } | order_words(order, listing)
    if listing.category == "linear":
        fields["createType"] = create_type(order)
    return fields


def order_pushed(record: OrderRecord) -> Fields:
    """An order as the stream tells it."""
    return order_fields(record) | {
        "category": record.listing.category,
        "closedPnl": number(record.closed_pnl),
        "feeCurrency": next(iter(record.fees), ""),
    }


def execution(record: OrderRecord, fill: Fill, market: SymbolMarket, fee_rate: Decimal) -> Fields:
    """One fill; REST leaves ``category`` out."""
    listing, order = record.listing, record.order
    linear = listing.category == "linear"
    signed = fill.qty if order.side == "Buy" else -fill.qty
    before = fill.position - signed
    closed = min(abs(before), fill.qty) if before * signed < 0 else Decimal(0)
    return {
        "category": listing.category,
        "symbol": listing.name,
        "orderId": record.order_id,
        "orderLinkId": record.link_id,
        "side": order.side,
        "orderPrice": price_text(listing, record.price),
        "orderQty": qty_text(listing, record.qty),
        "leavesQty": qty_text(listing, record.qty - record.filled),
        "orderType": order.order_type,
        "stopOrderType": stop_order_type(order) or ("UNKNOWN" if linear else ""),
        "createType": create_type(order) if linear else "",
        "execId": stable_id(listing, "execution", record.order_id, fill.id),
        "execPrice": number(fill.price),
        "execQty": number(fill.qty),
        "execValue": number(amount(_value(fill))),
        "execFee": number(fill.fee),
        "feeCurrency": fill.fee_coin,
        "feeRate": number(fee_rate),
        "execType": "Trade",
        "execTime": str(fill.exchange_ts // _MS),
        "execPnl": number(fill.realized_pnl),
        "isMaker": fill.maker,
        "isLeverage": "0",
        "markPrice": f"{market.funding.mark:.{listing.price_scale}f}" if linear else "",
        "indexPrice": f"{market.index:.{listing.price_scale}f}" if linear else "",
        "underlyingPrice": "",
        "tradeIv": "",
        "markIv": "",
        "blockTradeId": "",
        "closedSize": number(closed) if linear else "",
        "extraFees": "",
        "seq": fill.cause_seq,
    }


def funding_execution(listing: Listing, paid: FundingPaid, seq: int) -> Fields:
    """A funding settlement, which Bybit tells of as an execution without an order."""
    size, mark = abs(paid.position), number(paid.mark)
    side = "Buy" if paid.position > 0 else "Sell"
    return _without_order(listing, "Funding", paid.funding_ts, paid.exchange_ts, seq) | {
        "side": side,
        "execPrice": mark,
        "execQty": number(size),
        "execValue": number(size * paid.mark),
        "execFee": number(paid.amount),
        "feeRate": number(paid.rate),
        "markPrice": mark,
    }


def liquidation_execution(listing: Listing, taken: Liquidated, seq: int) -> Fields:
    """A position that is taken over at its bankruptcy price: its margin is gone."""
    size = abs(taken.position)
    return _without_order(listing, "BustTrade", taken.exchange_ts, taken.exchange_ts, seq) | {
        "side": "Sell" if taken.position > 0 else "Buy",
        "createType": "CreateByTakeOver_PassThrough",
        "execPrice": number(taken.price),
        "execQty": number(size),
        "execValue": number(size * taken.price),
        "execPnl": number(-taken.loss),
        "closedSize": number(size),
    }


def _without_order(listing: Listing, kind: str, at: int, exchange_ts: int, seq: int) -> Fields:
    """An execution of ``kind`` that no order of the client's brought about."""
    return {
        "category": listing.category,
        "symbol": listing.name,
        "orderId": stable_id(listing, kind, at),
        "orderLinkId": "",
        "side": "",
        "orderPrice": "0",
        "orderQty": "0",
        "leavesQty": "0",
        "orderType": "UNKNOWN",
        "stopOrderType": "UNKNOWN",
        "createType": "",
        "execId": stable_id(listing, kind, "execution", at),
        "execPrice": "0",
        "execQty": "0",
        "execValue": "0",
        "execFee": "0",
        "feeCurrency": "",
        "feeRate": "0",
        "execType": kind,
        "execTime": str(exchange_ts // _MS),
        "execPnl": "0",
        "isMaker": False,
        "isLeverage": "0",
        "markPrice": "",
        "indexPrice": "",
        "underlyingPrice": "",
        "tradeIv": "",
        "markIv": "",
        "blockTradeId": "",
        "closedSize": "",
        "extraFees": "",
        "seq": seq,
    }


def position_fields(
    market: SymbolMarket, account: Account, position: Position, updated_ms: int
) -> Fields:
    """A one-way position of a perpetual, as REST tells it."""
    listing = market.listing
    size = to_decimal(abs(position.qty))
    entry = to_decimal(div_half_even(position.cost * 10**16, abs(position.qty))) if size else 0
    margin = amount(account.margin_of(position.cost))
    settled = amount(position.realized - position.fees - position.funding)
    (lowest, *_) = tiers(listing)
    side = "" if not size else "Buy" if position.qty > 0 else "Sell"
    return {
        "positionIdx": 0,
        "riskId": lowest["id"],
        "riskLimitValue": lowest["riskLimitValue"],
        "symbol": listing.name,
        "side": side,
        "size": number(size),
        "avgPrice": number(Decimal(entry)),
        "positionValue": number(amount(position.cost)) if size else "",
        "tradeMode": 0,
        "positionStatus": "Normal",
        "autoAddMargin": 0,
        "adlRankIndicator": 2 if size else 0,
        "leverage": number(to_decimal(account.leverage)),
        "positionBalance": number(margin),
        "markPrice": f"{market.funding.mark:.{listing.price_scale}f}",
        "liqPrice": "",
        "bustPrice": "",
        "positionIM": number(margin),
        "positionMM": number(_rounded(amount(position.cost) * MAINTENANCE_RATE)),
        "tpslMode": "Full",
        "trailingStop": "0",
        "unrealisedPnl": number(amount(account.unrealized(listing.symbol))) if size else "",
        "curRealisedPnl": number(settled),
        "cumRealisedPnl": number(settled),
        "sessionAvgPrice": "",
        "isReduceOnly": False,
        "mmrSysUpdatedTime": "",
        "leverageSysUpdatedTime": "",
        "createdTime": str(updated_ms),
        "updatedTime": str(updated_ms),
        "seq": market.seq if updated_ms else -1,
    }


def position_pushed(fields: Fields) -> Fields:
    """The stream says ``entryPrice`` where REST says ``avgPrice``."""
    pushed = {name: value for name, value in fields.items() if name != "avgPrice"}
    return pushed | {"category": "linear", "entryPrice": fields["avgPrice"]}


def _value(fill: Fill) -> E8:
    return value_of(to_e12(fill.price), to_e12(fill.qty))


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(Decimal("1e-8"))
