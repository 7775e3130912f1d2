"""Every order that Bybit would not take, with its code; a refused order leaves nothing behind."""

from __future__ import annotations

import pytest

from bot.venue.emulator.codes import Refused
from tests.venue.emulator.clients import Client

SPOT = {"category": "spot", "price": "60000", "qty": "0.001"}


@pytest.fixture(scope="module")
def client() -> Client:
    return Client()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"category": "inverse"}, 10001),
        ({"symbol": "XYZUSDT"}, 10001),
        ({"side": "buy"}, 10001),
        ({"orderType": "Stop"}, 10001),
        ({"timeInForce": "GTD"}, 10001),
        ({"qty": "0.0105"}, 10001),
        ({"qty": "0"}, 10001),
        ({"qty": "-1"}, 10001),
        ({"qty": "NaN"}, 10001),
        ({"qty": "1e3000"}, 10001),
        ({"qty": "2000"}, 10001),
        ({"price": "60000.05"}, 10001),
        ({"price": ""}, 10001),
        ({"qty": "0.001", "price": "4000"}, 110094),
        ({"orderLinkId": "no spaces"}, 10001),
        ({"orderLinkId": "x" * 37}, 10001),
        ({"positionIdx": 1}, 10001),
        ({"triggerPrice": "1"}, 10001),
        ({"orderFilter": "StopOrder"}, 10001),
        ({"smpType": "CancelAll"}, 10001),
        ({"reduceOnly": True}, 110017),
        ({"qty": "100"}, 110007),
        ({"orderType": "Market", "slippageToleranceType": "Percent",
          "slippageTolerance": "11"}, 10001),
        ({"orderType": "Market", "slippageToleranceType": "Points"}, 10001),
        (SPOT | {"symbol": "XYZUSDT"}, 170121),
        (SPOT | {"side": "buy"}, 170117),
        (SPOT | {"orderType": "Stop"}, 170116),
        (SPOT | {"timeInForce": "GTD"}, 170115),
        (SPOT | {"qty": "0.0000001"}, 170137),
        (SPOT | {"price": "60000.001"}, 170134),
        (SPOT | {"qty": "0"}, 170130),
        (SPOT | {"qty": "200", "price": "65000"}, 170135),
        (SPOT | {"price": "64900", "qty": "0.00007"}, 170140),
        (SPOT | {"price": "64900", "qty": "5"}, 170131),
        (SPOT | {"side": "Sell", "price": "60000"}, 170194),
        (SPOT | {"price": "70000"}, 170193),
        (SPOT | {"orderType": "Market", "marketUnit": "both"}, 10001),
        (SPOT | {"orderType": "Market", "qty": "0.00001"}, 170140),
    ],
)  # fmt: skip
def test_a_bad_order_is_refused_with_bybits_code(client, changes, code):
    refused = client.refusal(**changes)
    assert refused.code == code, refused
    assert refused.text
    assert not client.account.orders
    assert not client.account.closed
    client.step()
    assert not client.pushes


def test_a_futures_price_beyond_its_limit_is_moved_unless_the_account_wants_it_refused():
    client = Client()
    moved = client.one(client.order(price="70000")["orderId"])
    mark = client.symbol("linear").funding.mark
    assert moved["avgPrice"], "at the limit it still takes"
    assert 1.01 * mark - 1 < float(moved["price"]) < 1.02 * mark + 1
    client.post("/v5/account/set-limit-px-action", category="linear", modifyEnable=False)
    assert client.refusal(price="70000").code == 110003
    assert client.refusal(price="60000", side="Sell").code == 110003


def test_a_link_id_serves_once_in_each_category():
    client = Client()
    client.order(orderLinkId="mine")
    assert client.refusal(orderLinkId="mine").code == 110072
    spot = {"category": "spot", "price": client.price("spot", -10), "qty": "0.001"}
    assert client.refusal(**spot, orderLinkId="mine").code == 170141


def test_five_hundred_orders_rest_and_no_more():
    client = Client(usdt=10**9)
    for _ in range(500):
        client.order()
    assert client.refusal().code == 110020


def test_a_spot_sell_needs_the_coins():
    client = Client()
    sell = {"category": "spot", "side": "Sell", "price": client.ask("spot", 50), "qty": "0.001"}
    assert client.refusal(**sell).code == 170131


@pytest.mark.parametrize("path", ["/v5/order/amend", "/v5/order/cancel"])
def test_what_is_not_there_cannot_be_changed(path):
    client = Client()
    for category, code in (("linear", 110001), ("spot", 170213)):
        body = {"category": category, "symbol": "BTCUSDT", "orderId": "nothing", "qty": "0.02"}
        with pytest.raises(Refused) as caught:
            client.post(path, **body)
        assert caught.value.code == code
    with pytest.raises(Refused, match="orderId or orderLinkId is required"):
        client.post(path, category="linear", symbol="BTCUSDT")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 10001),
        ({"qty": "0.01"}, 10001),
        ({"qty": "0.0101"}, 10001),
        ({"price": "0.05"}, 10001),
        ({"qty": "500"}, 110007),
    ],
)
def test_an_amendment_that_makes_a_bad_order_is_refused(changes, code):
    client = Client()
    order_id = client.order()["orderId"]
    client.step()
    with pytest.raises(Refused) as caught:
        client.post(
            "/v5/order/amend", category="linear", symbol="BTCUSDT", orderId=order_id, **changes
        )
    assert caught.value.code == code
    assert client.one(order_id)["qty"] == "0.010"
