"""The life of orders on the private side: acknowledged first, told of later, money exact."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest

from bot.venue.emulator.codes import Refused
from tests.venue.emulator.clients import USDT, Client, add_up_linear


def test_a_resting_order_is_acknowledged_first_and_told_of_with_the_next_step():
    client = Client()
    answer = client.order(orderLinkId="mine")
    assert not client.pushes
    told = client.step()
    assert [topic for topic, _ in told] == ["order", "wallet"]
    order = told[0][1]
    assert order["orderId"] == answer["orderId"]
    assert order["orderStatus"] == "New"
    assert order["leavesQty"] == order["qty"] == "0.010"
    assert order["rejectReason"] == "EC_NoError"
    listed = client.get("/v5/order/realtime", category="linear", symbol="BTCUSDT")["list"]
    assert [each["orderLinkId"] for each in listed] == ["mine"]


def test_a_market_order_takes_what_is_shown_and_the_position_follows():
    client = Client()
    ask = Decimal(client.ask("linear"))
    order_id = client.order(orderType="Market", qty="0.5")["orderId"]
    client.step()
    statuses = [entry["orderStatus"] for entry in client.told("order", order_id)]
    assert statuses[0] == "New"
    assert statuses[-1] == "Filled"
    fills = client.told("execution", order_id)
    assert sum(Decimal(fill["execQty"]) for fill in fills) == Decimal("0.5")
    assert Decimal(fills[0]["execPrice"]) == ask
    assert not any(fill["isMaker"] for fill in fills)
    for fill in fills:
        value = Decimal(fill["execQty"]) * Decimal(fill["execPrice"])
        assert Decimal(fill["execValue"]) == value
        assert Decimal(fill["execFee"]) == (value * Decimal("0.00055")).quantize(Decimal("1e-8"))
    (position,) = [entry for topic, entry in client.pushes if topic == "position"]
    assert (position["side"], position["size"]) == ("Buy", "0.5")
    (rest,) = client.get("/v5/position/list", category="linear", symbol="BTCUSDT")["list"]
    assert rest["avgPrice"] == position["entryPrice"]
    settled = client.get("/v5/position/list", category="linear", settleCoin="USDT")["list"]
    assert [each["symbol"] for each in settled] == ["BTCUSDT"]


def test_a_resting_order_is_filled_as_maker_by_the_synthetic_markets_takers():
    client = Client()
    order_id = client.order(price=client.price("linear", 0), qty="0.01")["orderId"]
    client.until(lambda: client.one(order_id)["orderStatus"] == "Filled")
    fills = client.told("execution", order_id)
    assert all(fill["isMaker"] for fill in fills)
    assert {fill["feeRate"] for fill in fills} == {"0.0002"}
    order = client.told("order", order_id)[-1]
    assert order["avgPrice"] == str(Decimal(order["price"]).normalize())
    assert order["cumExecQty"] == order["qty"]


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"timeInForce": "PostOnly"}, "Cancelled", "EC_PostOnlyWillTakeLiquidity"),
        ({"timeInForce": "FOK", "qty": "100"}, "Cancelled", "EC_CancelForNoFullFill"),
        ({"timeInForce": "IOC", "qty": "100"}, "Cancelled", "EC_NoImmediateQtyToFill"),
    ],
)
def test_an_order_that_may_not_rest_ends_with_bybits_reason(changes, status, reason):
    client = Client(usdt=10**8)
    order_id = client.order(price=client.ask("linear"), **changes)["orderId"]
    client.step()
    last = client.told("order", order_id)[-1]
    assert (last["orderStatus"], last["rejectReason"]) == (status, reason)
    assert last["leavesQty"] == "0"
    filled = sum(Decimal(fill["execQty"]) for fill in client.told("execution", order_id))
    assert Decimal(last["cumExecQty"]) == filled
    assert bool(filled) == (changes["timeInForce"] == "IOC")
    history = client.get("/v5/order/history", category="linear")["list"]
    assert history[0]["orderId"] == order_id


def test_a_partly_filled_spot_order_ends_as_bybit_calls_it():
    client = Client(usdt=10**8)
    order_id = client.order(category="spot", price=client.ask("spot"), qty="60", timeInForce="IOC")[
        "orderId"
    ]
    client.step()
    assert client.told("order", order_id)[-1]["orderStatus"] == "PartiallyFilledCanceled"


def test_an_amendment_changes_price_and_quantity():
    client = Client()
    order_id = client.order()["orderId"]
    client.step()
    body = {"category": "linear", "symbol": "BTCUSDT", "orderId": order_id}
    price = client.price("linear", -500)
    assert client.post("/v5/order/amend", **body, qty="0.02", price=price)["orderId"] == order_id
    client.step()
    last = client.told("order", order_id)[-1]
    assert (last["qty"], last["price"], last["orderStatus"]) == ("0.020", price, "New")


def test_a_cancel_is_acknowledged_first_and_told_of_later():
    client = Client()
    order_id = client.order()["orderId"]
    client.step()
    client.post("/v5/order/cancel", category="linear", symbol="BTCUSDT", orderId=order_id)
    assert client.one(order_id)["orderStatus"] == "New"
    client.step()
    last = client.told("order", order_id)[-1]
    assert (last["orderStatus"], last["cancelType"]) == ("Cancelled", "CancelByUser")
    assert last["rejectReason"] == "EC_PerCancelRequest"
    with pytest.raises(Refused) as caught:
        client.post("/v5/order/cancel", category="linear", symbol="BTCUSDT", orderId=order_id)
    assert caught.value.code == 110001


def test_a_cancel_that_loses_the_race_is_told_as_a_second_filled_message():
    client = Client(events_per_s=2000.0)
    for _ in range(2000):
        order_id = client.order(price=client.price("linear", 0), qty="0.001")["orderId"]
        client.step()
        if client.one(order_id)["orderStatus"] == "New":
            client.post("/v5/order/cancel", category="linear", symbol="BTCUSDT", orderId=order_id)
            client.step()
            if client.one(order_id)["orderStatus"] == "Filled":
                break
    else:
        raise AssertionError("no cancel lost its race")
    first, second = client.told("order", order_id)[-2:]
    assert (first["orderStatus"], first["cancelType"]) == ("Filled", "UNKNOWN")
    assert first["rejectReason"] == "EC_NoError"
    assert (second["orderStatus"], second["cancelType"]) == ("Filled", "CancelByUser")
    assert second["rejectReason"] == "EC_OrigClOrdIDDoesNotExist"


def test_cancel_all_cancels_what_its_filters_mean():
    client = Client()
    linear = [client.order()["orderId"] for _ in range(3)]
    spot = client.order(category="spot", price=client.price("spot", -100), qty="0.001")["orderId"]
    with pytest.raises(Refused, match="symbol or settleCoin or baseCoin"):
        client.post("/v5/order/cancel-all", category="linear")
    done = client.post("/v5/order/cancel-all", category="linear", settleCoin="USDT")
    assert [each["orderId"] for each in done["list"]] == linear
    client.step()
    assert [record.order_id for record in client.account.orders.values()] == [spot]
    client.post("/v5/order/cancel-all", category="spot")
    client.step()
    assert not client.account.orders


@pytest.mark.parametrize(
    ("smp_type", "maker", "taker"),
    [
        ("None", "New", "Filled"),
        ("CancelMaker", "Cancelled", "Filled"),
        ("CancelTaker", "New", "Cancelled"),
        ("CancelBoth", "Cancelled", "Cancelled"),
    ],
)
def test_self_match_prevention_cancels_maker_taker_or_both(smp_type, maker, taker):
    client = Client()
    mine = client.order(side="Sell", price=client.ask("linear", 3), qty="0.01")["orderId"]
    client.step()
    price = client.ask("linear", 8)
    order_id = client.order(price=price, qty="0.01", smpType=smp_type)["orderId"]
    client.step()
    assert client.one(mine)["orderStatus"] == maker
    assert client.one(order_id)["orderStatus"] == taker
    for each in (client.one(mine), client.one(order_id)):
        if each["orderStatus"] == "Cancelled":
            assert (each["cancelType"], each["rejectReason"]) == ("CancelBySmp", "EC_BySelfMatch")


def test_a_spot_market_buy_spends_quote_coins_and_pays_its_fee_in_the_coin_bought():
    client = Client()
    order_id = client.order(category="spot", orderType="Market", qty="1000")["orderId"]
    client.step()
    order = client.one(order_id, "spot")
    assert (order["qty"], order["marketUnit"]) == ("1000", "quoteCoin")
    assert 999 < Decimal(order["cumExecValue"]) <= 1000
    fills = client.told("execution", order_id)
    assert {fill["feeCurrency"] for fill in fills} == {"BTC"}
    bought = sum(Decimal(f["execQty"]) - Decimal(f["execFee"]) for f in fills)
    (wallet,) = client.get("/v5/account/wallet-balance", accountType="UNIFIED")["list"]
    coins = {coin["coin"]: Decimal(coin["walletBalance"]) for coin in wallet["coin"]}
    assert coins == {"BTC": bought, "USDT": USDT - Decimal(order["cumExecValue"])}
    sold = client.order(
        category="spot", side="Sell", orderType="Market", qty="0.001", marketUnit="baseCoin"
    )["orderId"]
    client.step()
    assert {fill["feeCurrency"] for fill in client.told("execution", sold)} == {"USDT"}


def test_slippage_tolerance_bounds_a_market_order():
    client = Client(usdt=10**9)
    ask = Decimal(client.ask("linear"))
    order_id = client.order(
        orderType="Market", qty="100", slippageToleranceType="TickSize", slippageTolerance="3"
    )["orderId"]
    client.step()
    prices = [Decimal(fill["execPrice"]) for fill in client.told("execution", order_id)]
    assert prices
    assert max(prices) <= ask + Decimal("0.3")
    assert client.one(order_id)["orderStatus"] == "Cancelled"


def test_a_reduce_only_order_closes_and_does_not_turn():
    client = Client()
    client.order(orderType="Market", qty="0.05")
    order_id = client.order(side="Sell", orderType="Market", qty="1", reduceOnly=True)["orderId"]
    client.step()
    (position,) = client.get("/v5/position/list", category="linear", symbol="BTCUSDT")["list"]
    assert (position["size"], position["side"]) == ("0", "")
    closed = [Decimal(f["closedSize"]) for f in client.told("execution", order_id)]
    assert sum(closed) == Decimal("0.05")


def test_leverage_is_set_once_and_changes_the_margin():
    client = Client()
    body = {"category": "linear", "symbol": "BTCUSDT"}
    client.post("/v5/position/set-leverage", **body, buyLeverage="50", sellLeverage="50")
    for both, code in (("50", 110043), ("101", 110013), ("0.5", 110013), ("x", 10001)):
        with pytest.raises(Refused) as caught:
            client.post("/v5/position/set-leverage", **body, buyLeverage=both, sellLeverage=both)
        assert caught.value.code == code
    client.order(orderType="Market", qty="1")
    (position,) = client.get("/v5/position/list", **body)["list"]
    assert position["leverage"] == "50"
    assert Decimal(position["positionIM"]) == Decimal(position["positionValue"]) / 50


def test_lists_come_in_pages():
    client = Client()
    ids = [client.order()["orderId"] for _ in range(5)]
    seen, cursor = [], ""
    while True:
        query = {"category": "linear", "symbol": "BTCUSDT", "limit": "2", "cursor": cursor}
        page = client.get("/v5/order/realtime", **query)
        seen += [order["orderId"] for order in page["list"]]
        cursor = page["nextPageCursor"]
        if not cursor:
            break
    assert seen == ids[::-1]
    with pytest.raises(Refused, match="cursor"):
        client.get("/v5/order/history", category="linear", cursor="nothing")


def test_money_adds_up_over_random_orders_amendments_and_cancels():
    client, rng = Client(usdt=1_000_000), Random(3)
    for _ in range(400):
        price = client.price("linear", rng.randint(-30, 30))
        side = rng.choice(["Buy", "Sell"])
        qty = f"{rng.randint(1, 80) / 1000:.3f}"
        kind = rng.choice(["Market", "Limit", "Limit", "Limit"])
        client.order(side=side, qty=qty, price=price, orderType=kind)
        if client.account.orders and rng.random() < 0.4:
            record = rng.choice(list(client.account.orders.values()))
            client.account.cancel(record, client.market.now_ns)
        client.step(rng.randint(1, 6))
    executions = list(client.account.executions)
    assert len(executions) > 100
    assert {fill["isMaker"] for fill in executions} == {True, False}
    cash, position, fees = add_up_linear(executions)
    (told,) = client.get("/v5/position/list", category="linear", symbol="BTCUSDT")["list"]
    signed = Decimal(told["size"]) * (-1 if told["side"] == "Sell" else 1)
    assert signed == position
    (wallet,) = client.get("/v5/account/wallet-balance", accountType="UNIFIED")["list"]
    balance = Decimal(wallet["coin"][0]["walletBalance"])
    cost = Decimal(told["positionValue"] or 0) * (-1 if told["side"] == "Sell" else 1)
    assert abs(1_000_000 + cash + cost - fees - balance) < Decimal("1e-6")
    for record in client.account.closed:
        fills = [fill for fill in executions if fill["orderId"] == record.order_id]
        told_qty = sum(Decimal(fill["execQty"]) for fill in fills)
        assert told_qty * 10**12 == record.filled


def test_funding_is_told_as_an_execution_and_paid_once():
    client = Client(events_per_s=1.0)
    client.order(orderType="Market", qty="1")
    client.step()
    funding = client.symbol("linear").funding
    client.market.advance((funding.next_ms - 2_000) * 1_000_000)
    before = client.get("/v5/execution/list", category="linear", execType="Funding")["list"]
    assert before == []
    client.step(400)
    (paid,) = client.get("/v5/execution/list", category="linear", execType="Funding")["list"]
    assert paid["orderType"] == "UNKNOWN"
    value = Decimal(paid["execQty"]) * Decimal(paid["markPrice"])
    owed = value * Decimal(paid["feeRate"])
    assert Decimal(paid["execFee"]) == owed.quantize(Decimal("1e-8"))
    assert [t for t, entry in client.pushes if entry.get("execType") == "Funding"] == ["execution"]
