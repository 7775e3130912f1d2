"""The signed REST answers of one account: query or body in, ``result`` out. No sockets here.

https://bybit-exchange.github.io/docs/v5/order/create-order and its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias

from bot.core.events import Amend, Order
from bot.core.instrument import UNIT, to_decimal, to_e12
from bot.venue.emulator import order_requests
from bot.venue.emulator.accounts import TradingAccount
from bot.venue.emulator.clearing import FEES, Clearing
from bot.venue.emulator.codes import Refused
from bot.venue.emulator.conditional import cleared, exits_of
from bot.venue.emulator.order_requests import Body, Wanted
from bot.venue.emulator.records import (
    Fields,
    OrderRecord,
    number,
    order_fields,
    stable_id,
)
from bot.venue.emulator.rest import BadParameterError, Result
from bot.venue.emulator.rest import number as integer

Answer: TypeAlias = Callable[[TradingAccount, Body, int], Result]
Method: TypeAlias = Literal["GET", "POST"]

_MAX_LEVERAGE = 100
_MS = 1_000_000


class PrivateAnswers:
    """One method a path: (account, query or body, venue time in ns) -> result; raises Refused."""

    def __init__(self, clearing: Clearing) -> None:
        self._clearing = clearing

    def routes(self) -> dict[tuple[Method, str], Answer]:
        return {
            ("POST", "/v5/order/create"): self.create,
            ("POST", "/v5/order/amend"): self.amend,
            ("POST", "/v5/order/cancel"): self.cancel,
            ("POST", "/v5/order/cancel-all"): self.cancel_all,
            ("GET", "/v5/order/realtime"): self.realtime,
            ("GET", "/v5/order/history"): self.history,
            ("GET", "/v5/execution/list"): self.executions,
            ("GET", "/v5/position/list"): self.positions,
            ("POST", "/v5/position/set-leverage"): self.set_leverage,
            ("POST", "/v5/position/trading-stop"): self.trading_stop,
            ("GET", "/v5/account/wallet-balance"): self.wallet_balance,
            ("GET", "/v5/account/fee-rate"): self.fee_rate,
            ("POST", "/v5/account/set-limit-px-action"): self.set_limit_px_action,
        }

    # --- orders ----------------------------------------------------------------------------------

    def create(self, account: TradingAccount, body: Body, now_ns: int) -> Result:
        wanted = order_requests.wanted(body, self._clearing.synthetic)
        symbol = wanted.market.listing.symbol
        spot = wanted.market.listing.category == "spot"
        if wanted.link_id and account.find("", wanted.link_id) is not None:
            raise Refused(170141 if spot else 110072)
        self._clearing.trade(symbol)
        record = self._record(account, wanted, now_ns)
        if account.stops_self_match(record):
            account.refuse_self_match(record)
        else:
            account.place(record, now_ns)
        return _ids(record)

    def amend(self, account: TradingAccount, body: Body, now_ns: int) -> Result:
        record = self._open(account, body, "replace")
        change = order_requests.change(body, record.listing)
        price, qty, trigger = change.price, change.qty, change.trigger
        if trigger is not None and record.status != "Untriggered":
            raise Refused(10001, "params error: triggerPrice of an order that waits for nothing")
        same_price = price is None or to_e12(price) == record.price
        same_qty = qty is None or to_e12(qty) == record.qty
        if same_price and same_qty and trigger in (None, record.order.trigger_price):
            raise Refused(10001, "The order remains unchanged as the parameters entered match it")
        account.amend(
            Amend(now_ns, record.order.id, record.listing.symbol, price, qty, trigger), now_ns
        )
        return _ids(record)

    def cancel(self, account: TradingAccount, body: Body, now_ns: int) -> Result:
        record = self._open(account, body, "cancel")
        account.cancel(record, now_ns)
        return _ids(record)

    def cancel_all(self, account: TradingAccount, body: Body, now_ns: int) -> Result:
        category = order_requests.category_of(body)
        if category == "linear":
            _needs_a_filter(body)
        records = [record for record in account.orders.values() if _matches(record, body)]
        for record in records:
            account.cancel(record, now_ns)
        return {"list": [_ids(record) for record in records], "success": "1"}

    def realtime(self, account: TradingAccount, body: Body, now_ns: int) -> Result:
        """Open orders, newest first; one asked for by id is found closed, too."""
        del now_ns
        category = order_requests.category_of(body)
        wants_one = bool(body.get("orderId") or body.get("orderLinkId"))
        if category == "linear" and not wants_one:
            _needs_a_filter(body)
        found: list[OrderRecord] = list(reversed(account.orders.values()))
        if wants_one or body.get("openOnly") == "1":
            found += account.closed
        return _page_of_orders(found, body, 50)

    def history(self, account: TradingAccount, body: Body, now_ns: int) -> Result:
        del now_ns
        order_requests.category_of(body)
        return _page_of_orders(account.closed, body, 50)

    def executions(self, account: TradingAccount, body: Body, now_ns: int) -> Result:
        del now_ns
        category = order_requests.category_of(body)
        names = ("symbol", "orderId", "orderLinkId", "execType")
        found = [
            fields
            for fields in account.executions
            if fields["category"] == category
            and all(not body.get(name) or fields[name] == body[name] for name in names)
            and _in_time(int(fields["execTime"]), body)
        ]
        page, cursor = _page(found, body, 50, 100, lambda fields: str(fields["execId"]))
        told = [{k: v for k, v in fields.items() if k != "category"} for fields in page]
        return {"category": category, "list": told, "nextPageCursor": cursor}

    # --- the account -----------------------------------------------------------------------------

    def positions(self, account: TradingAccount, body: Body, now_ns: int) -> Result:
        """A named symbol always, of a settle coin those that are not empty."""
        del now_ns
        if order_requests.category_of(body) != "linear":
            raise Refused(10001, "params error: Category is illegal")
        if body.get("symbol"):
            symbols = [order_requests.symbol_of(body, self._clearing.synthetic).listing.symbol]
        else:
            _needs_a_filter(body)
            held = account.core.positions.items()
            symbols = [s for s, position in held if s.startswith("linear:") and position.qty]
        positions = [account.position(symbol) for symbol in symbols]
        return {"category": "linear", "list": positions, "nextPageCursor": ""}

    def set_leverage(self, account: TradingAccount, body: Body, now_ns: int) -> Result:
        """One leverage for the whole account: core knows no other."""
        del now_ns
        market = order_requests.symbol_of(body, self._clearing.synthetic)
        if market.listing.category != "linear":
            raise Refused(10001, "params error: Category is illegal")
        buy, sell = (_leverage(body, side) for side in ("buyLeverage", "sellLeverage"))
        if buy != sell:
            raise Refused(10001, "buyLeverage must equal sellLeverage in one-way mode")
        if buy == account.core.leverage:
            raise Refused(110043)
        account.core.leverage = buy
        return {}

    def trading_stop(self, account: TradingAccount, body: Body, now_ns: int) -> Result:
        """Exits of the whole position: set, replaced, or, with a price of 0, taken away."""
        market = order_requests.symbol_of(body, self._clearing.synthetic)
        listing = market.listing
        if listing.category != "linear":
            raise Refused(10001, "params error: Category is illegal")
        wanted = exits_of(body, listing)
        held = account.core.qty(listing.symbol)
        if not held:
            raise Refused(10001, "can not set tp/sl/ts for zero position")
        for record in account.exits(listing.symbol):
            if record.order.stop_type in cleared(body):
                account.cancel(record, now_ns)
        for kind, exit_ in wanted.named():
            account.place_exit(listing.symbol, kind, exit_, self._clearing.ids.next(), now_ns)
        return {}

    def wallet_balance(self, account: TradingAccount, body: Body, now_ns: int) -> Result:
        del now_ns
        if body.get("accountType") != "UNIFIED":
            raise Refused(10001, "accountType only support UNIFIED.")
        wallet = account.wallet()
        if body.get("coin"):
            coins = str(body["coin"]).split(",")
            wallet["coin"] = [fields for fields in wallet["coin"] if fields["coin"] in coins]
        return {"list": [wallet]}

    def fee_rate(self, account: TradingAccount, body: Body, now_ns: int) -> Result:
        del account, now_ns
        category = order_requests.category_of(body)
        (fees,) = (each for each in FEES if each.category == category)
        markets = list(self._clearing.synthetic.symbols.values())
        if body.get("symbol"):
            markets = [order_requests.symbol_of(body, self._clearing.synthetic)]
        return {
            "category": category,
            "list": [
                {
                    "symbol": market.listing.name,
                    "baseCoin": "",
                    "takerFeeRate": number(fees.taker_rate),
                    "makerFeeRate": number(fees.maker_rate),
                }
                for market in markets
                if market.listing.category == category
            ],
        }

    def set_limit_px_action(self, account: TradingAccount, body: Body, now_ns: int) -> Result:
        """Whether a futures price beyond its limit is moved, or the order refused."""
        del now_ns
        order_requests.category_of(body)
        if not isinstance(body.get("modifyEnable"), bool):
            raise Refused(10001, "params error: modifyEnable invalid")
        account.moves_prices(body["modifyEnable"])
        return {}

    # --- inside ----------------------------------------------------------------------------------

    def _record(self, account: TradingAccount, wanted: Wanted, now_ns: int) -> OrderRecord:
        listing = wanted.market.listing
        order_id = self._clearing.ids.next()
        order = _order(account.key, wanted, order_id, now_ns)
        return OrderRecord(
            order,
            stable_id(listing, account.key, order_id),
            wanted.link_id,
            listing,
            wanted.price or 0,
            wanted.qty,
            now_ns // _MS,
            now_ns // _MS,
            wanted.asked_qty,
            wanted.market_unit,
            wanted.smp_type,
            "New" if wanted.trigger is None else "Untriggered",
            last_price=listing.price(wanted.market.last),
        )

    def _open(self, account: TradingAccount, body: Body, purpose: str) -> OrderRecord:
        """The open order that a request names."""
        listing = order_requests.symbol_of(body, self._clearing.synthetic).listing
        order_id, link_id = str(body.get("orderId") or ""), str(body.get("orderLinkId") or "")
        if not order_id and not link_id:
            raise Refused(10001, "params error: orderId or orderLinkId is required")
        record = account.find(order_id, link_id)
        if record is None or record.listing.symbol != listing.symbol or not record.is_open:
            if listing.category == "spot":
                raise Refused(170213)
            raise Refused(110001, f"order not exists or too late to {purpose}")
        return record


def _order(key: str, wanted: Wanted, order_id: int, now_ns: int) -> Order:
    """A request as core's order."""
    trigger, profit, loss = wanted.trigger, wanted.exits.profit, wanted.exits.loss
    return Order(
        now_ns,
        order_id,
        key,
        wanted.market.listing.symbol,
        wanted.side,
        wanted.order_type,
        wanted.tif,
        to_decimal(wanted.qty),
        None if wanted.price is None else to_decimal(wanted.price),
        wanted.reduce_only,
        trigger_price=None if trigger is None else trigger.price,
        trigger_by=None if trigger is None else trigger.by,
        trigger_direction=None if trigger is None else trigger.direction,
        take_profit=None if profit is None else profit.price,
        take_profit_by=None if profit is None else profit.by,
        stop_loss=None if loss is None else loss.price,
        stop_loss_by=None if loss is None else loss.by,
    )


def _ids(record: OrderRecord) -> Fields:
    return {"orderId": record.order_id, "orderLinkId": record.link_id}


def _needs_a_filter(body: Body) -> None:
    if not any(body.get(name) for name in ("symbol", "settleCoin", "baseCoin")):
        raise Refused(
            10001,
            "Missing some parameters that must be filled in, symbol or settleCoin or baseCoin",
        )


def _matches(record: OrderRecord, body: Body) -> bool:
    """Whether an order is one that the filters of a request mean."""
    listing = record.listing
    given = {
        "category": listing.category,
        "symbol": listing.name,
        "baseCoin": listing.base,
        "settleCoin": listing.quote,
        "orderId": record.order_id,
        "orderLinkId": record.link_id,
        "orderStatus": record.status,
    }
    return all(not body.get(name) or body[name] == value for name, value in given.items())


def _page_of_orders(records: Iterable[OrderRecord], body: Body, most: int) -> Result:
    found = [r for r in records if _matches(r, body) and _in_time(r.created_ms, body)]
    page, cursor = _page(found, body, 20, most, lambda record: record.order_id)
    return {
        "category": body["category"],
        "list": [order_fields(record) for record in page],
        "nextPageCursor": cursor,
    }


def _page(
    items: list[Any], body: Body, default: int, most: int, id_of: Callable[[Any], str]
) -> tuple[list[Any], str]:
    """The items after the one that the cursor names; a cursor only if there are more."""
    limit = _integer(body, "limit", default, 1, most)
    start = 0
    cursor = str(body.get("cursor") or "")
    if cursor:
        ids = [id_of(item) for item in items]
        if cursor not in ids:
            raise Refused(10001, "params error: cursor is invalid")
        start = ids.index(cursor) + 1
    page = items[start : start + limit]
    return page, id_of(page[-1]) if start + limit < len(items) else ""


def _in_time(at_ms: int, body: Body) -> bool:
    start = _integer(body, "startTime", 0, 0, 2**62)
    end = _integer(body, "endTime", 2**62, 0, 2**62)
    return start <= at_ms <= end


def _integer(body: Body, name: str, default: int, least: int, most: int) -> int:
    try:
        return integer({name: str(body.get(name, ""))}, name, default, least, most)
    except BadParameterError as error:
        raise Refused(10001, str(error)) from error


def _leverage(body: Body, name: str) -> int:
    try:
        value = Decimal(str(body.get(name, "")))
    except InvalidOperation as error:
        raise Refused(10001, f"params error: {name} invalid") from error
    if not value.is_finite() or value % Decimal("0.01"):
        raise Refused(10001, f"params error: {name} invalid")
    if not 1 <= value <= _MAX_LEVERAGE:
        raise Refused(110013)
    return int(value * UNIT)
