"""Orders that wait for a price, and the exits of a position, as a client of the venue sees them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.venue.emulator.clients import Client

SPOT_STOP = {"category": "spot", "orderFilter": "StopOrder", "qty": "0.001"}


def statuses(client: Client, order_id: str) -> list[str]:
    return [entry["orderStatus"] for entry in client.told("order", order_id)]


def exits(client: Client) -> dict[str, dict]:
    """The position's exits that wait, by kind."""
    listed = client.get("/v5/order/realtime", category="linear", symbol="BTCUSDT")["list"]
    return {
        each["stopOrderType"]: each
        for each in listed
        if each["stopOrderType"] in ("TakeProfit", "StopLoss")
    }


def position(client: Client) -> dict:
    (found,) = client.get("/v5/position/list", category="linear", symbol="BTCUSDT")["list"]
    return found


def test_an_order_waits_for_its_trigger_and_then_takes():
    client = Client()
    trigger = client.ask("linear", 3)
    order_id = client.order(
        orderType="Market", triggerPrice=trigger, triggerDirection=1, triggerBy="LastPrice"
    )["orderId"]
    client.step()
    waiting = client.one(order_id)
    assert waiting["orderStatus"] == "Untriggered"
    assert (waiting["triggerPrice"], waiting["triggerDirection"]) == (trigger, 1)
    assert (waiting["stopOrderType"], waiting["createType"]) == ("Stop", "CreateByStopOrder")
    client.until(lambda: client.one(order_id)["orderStatus"] == "Filled")
    assert statuses(client, order_id)[:3] == ["Untriggered", "Triggered", "New"]
    (fill, *_) = client.told("execution", order_id)
    assert fill["stopOrderType"] == "Stop"
    assert position(client)["size"] == "0.01"


def test_a_waiting_order_takes_no_margin_meets_nobody_and_is_deactivated_by_a_cancel():
    client = Client()
    rich = client.order(price=client.price("linear", -50), qty="1", triggerDirection=2,
                        triggerPrice=client.price("linear", -40))["orderId"]  # fmt: skip
    client.step()
    wallet = client.get("/v5/account/wallet-balance", accountType="UNIFIED")["list"][0]
    assert wallet["coin"][0]["totalOrderIM"] == "0"
    sell = client.order(side="Sell", price=client.ask("linear", 900), smpType="CancelBoth")
    client.step()
    assert client.one(sell["orderId"])["orderStatus"] == "New"
    client.post("/v5/order/cancel", category="linear", symbol="BTCUSDT", orderId=rich)
    client.step()
    assert client.one(rich)["orderStatus"] == "Deactivated"


def test_a_trigger_is_amended_while_the_order_waits_and_not_after():
    client = Client()
    order_id = client.order(
        orderType="Market", triggerPrice=client.ask("linear", 5000), triggerDirection=1
    )["orderId"]
    plain = client.order()["orderId"]
    client.step()
    nearer = client.ask("linear", 2)
    body = {"category": "linear", "symbol": "BTCUSDT"}
    client.post("/v5/order/amend", **body, orderId=order_id, triggerPrice=nearer)
    assert client.one(order_id)["triggerPrice"] == nearer
    client.until(lambda: client.one(order_id)["orderStatus"] == "Filled")
    with pytest.raises(Exception, match="waits for nothing"):
        client.post("/v5/order/amend", **body, orderId=plain, triggerPrice=nearer)


def test_a_filled_order_brings_its_exits_and_one_of_them_closes_the_position():
    client = Client()
    profit, loss = client.ask("linear", 4), client.price("linear", -4000)
    order_id = client.order(
        orderType="Market", takeProfit=profit, stopLoss=loss, slTriggerBy="MarkPrice"
    )["orderId"]
    client.step()
    assert client.one(order_id)["takeProfit"] == profit
    waiting = exits(client)
    assert waiting["TakeProfit"]["createType"] == "CreateByTakeProfit"
    assert (waiting["StopLoss"]["triggerPrice"], waiting["StopLoss"]["triggerBy"]) == (
        loss, "MarkPrice",
    )  # fmt: skip
    held = position(client)
    assert (held["takeProfit"], held["stopLoss"]) == (profit, loss)
    client.until(lambda: position(client)["size"] == "0")
    assert statuses(client, waiting["TakeProfit"]["orderId"])[-1] == "Filled"
    ended = client.told("order", waiting["StopLoss"]["orderId"])[-1]
    assert (ended["orderStatus"], ended["cancelType"]) == ("Deactivated", "CancelByTpSlTsClear")
    assert not exits(client)
    assert position(client)["takeProfit"] == ""


def test_exits_of_a_position_are_set_replaced_and_taken_away():
    client = Client()
    stop = {"category": "linear", "symbol": "BTCUSDT", "tpslMode": "Full", "positionIdx": 0}
    with pytest.raises(Exception, match="zero position"):
        client.post("/v5/position/trading-stop", **stop, stopLoss="1000")
    client.order(orderType="Market")
    client.step()
    first, second = client.price("linear", -3000), client.price("linear", -2000)
    client.post("/v5/position/trading-stop", **stop, stopLoss=first)
    client.post("/v5/position/trading-stop", **stop, stopLoss=second)
    client.step()
    assert exits(client)["StopLoss"]["triggerPrice"] == second
    assert position(client)["stopLoss"] == second
    client.post("/v5/position/trading-stop", **stop, stopLoss="0")
    client.step()
    assert not exits(client)
    assert client.pushes[-1][0] in ("position", "wallet")


def test_a_spot_stop_waits_for_the_last_price():
    client = Client()
    trigger = client.ask("spot", 30)
    order_id = client.order(**SPOT_STOP, orderType="Market", marketUnit="baseCoin",
                            triggerPrice=trigger)["orderId"]  # fmt: skip
    client.step()
    assert client.one(order_id, "spot")["orderStatus"] == "Untriggered"
    client.until(lambda: client.one(order_id, "spot")["orderStatus"] == "Filled", 20_000)


def test_a_stop_that_the_account_cannot_pay_when_it_is_triggered_is_rejected():
    client = Client(usdt=1000)
    order_id = client.order(
        orderType="Market", qty="1", triggerPrice=client.ask("linear", 2), triggerDirection=1
    )["orderId"]
    client.until(lambda: client.one(order_id)["orderStatus"] == "Rejected")
    assert statuses(client, order_id) == ["Untriggered", "Triggered", "Rejected"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"triggerPrice": "60000.05", "triggerDirection": 2}, 10001),
        ({"triggerPrice": "60000", "triggerDirection": 3}, 10001),
        ({"triggerPrice": "60000", "triggerDirection": 2, "triggerBy": "Bid"}, 10001),
        ({"triggerPrice": "60000", "triggerDirection": 1}, 110092),
        ({"triggerPrice": "80000", "triggerDirection": 2}, 110093),
        ({"takeProfit": "100"}, 10001),
        ({"stopLoss": "99999"}, 10001),
        ({"stopLoss": "60000", "tpslMode": "Partial"}, 10001),
        ({"stopLoss": "60000", "slOrderType": "Limit"}, 10001),
        ({"stopLoss": "60000", "slLimitPrice": "59000"}, 10001),
        (SPOT_STOP | {"triggerPrice": "60000.001"}, 170134),
        (SPOT_STOP | {"orderFilter": "tpslOrder", "triggerPrice": "60000"}, 10001),
        (SPOT_STOP | {"orderFilter": "Order", "triggerPrice": "60000"}, 10001),
        (SPOT_STOP, 10001),
        ({"category": "spot", "qty": "0.001", "price": "60000", "stopLoss": "50000"}, 10001),
        (SPOT_STOP | {"orderType": "Market", "triggerPrice": "60000"}, 10001),
    ],
)  # fmt: skip
def test_a_trigger_or_exit_that_makes_no_sense_is_refused_with_bybits_code(changes, code):
    client = Client()
    assert client.refusal(**changes).code == code
    assert not client.account.orders


def test_ten_stops_wait_and_no_more():
    client = Client()
    stop = {"triggerPrice": client.ask("linear", 5000), "triggerDirection": 1}
    for _ in range(10):
        client.order(**stop, orderType="Market")
    assert client.refusal(**stop, orderType="Market").code == 110009


def test_a_position_whose_margin_is_gone_is_taken_over_and_told_as_an_execution():
    client = Client(usdt=2000)
    client.post("/v5/position/set-leverage", category="linear", symbol="BTCUSDT",
                buyLeverage="100", sellLeverage="100")  # fmt: skip
    client.order(orderType="Market", qty="1")
    client.step()
    listing = client.clearing.market.listing("linear:BTCUSDT")
    position_ = client.account.core.position("linear:BTCUSDT")
    position_.cost += position_.cost // 10  # bought so much dearer
    assert client.account.core.is_spent(listing)
    client.until(lambda: position(client)["size"] == "0")
    taken = [entry for topic, entry in client.pushes
             if topic == "execution" and entry["execType"] == "BustTrade"]  # fmt: skip
    assert [(each["side"], each["execQty"]) for each in taken] == [("Sell", "1")]
    assert Decimal(taken[0]["execPnl"]) < 0
