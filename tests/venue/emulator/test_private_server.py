"""The private side over sockets: signatures, headers, bans, auth, topics."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError

from bot.venue.emulator import Venue
from bot.venue.emulator.signing import DEMO_KEY, DEMO_SECRET, signature
from tests.venue.emulator.sockets import Client, Local, running

ORDER = {
    "category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Market", "qty": "0.01",
}  # fmt: skip


async def call(
    local: Local, method: str, path: str, *, key: str = DEMO_KEY, late_ms: int = 0, **asked: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """A signed request; returns the answer and its headers."""
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    payload = query if method == "GET" else json.dumps(asked)
    stamp = str(time.time_ns() // 1_000_000 - late_ms)
    headers = {
        "X-BAPI-API-KEY": key,
        "X-BAPI-TIMESTAMP": stamp,
        "X-BAPI-RECV-WINDOW": "5000",
        "X-BAPI-SIGN": signature(DEMO_SECRET, f"{stamp}{key}5000{payload}"),
    }
    url = local.rest + path + (f"?{query}" if method == "GET" else "")
    data = None if method == "GET" else payload
    async with local.session.request(method, url, headers=headers, data=data) as response:
        assert response.status == 200
        return await response.json(), dict(response.headers)


async def private(local: Local, *topics: str, query: str = "") -> Client:
    client = Client(await local.session.ws_connect(f"{local.ws}/v5/private{query}"))
    expires = time.time_ns() // 1_000_000 + 5000
    sign = signature(DEMO_SECRET, f"GET/realtime{expires}")
    answer = await client.ask(op="auth", args=[DEMO_KEY, expires, sign])
    assert (answer["success"], answer["ret_msg"], answer["op"]) == (True, "", "auth")
    if topics:
        answer = await client.ask(op="subscribe", req_id="r", args=list(topics))
        assert answer["success"], answer
        assert answer["req_id"] == "r"
    return client


async def test_signed_requests_are_told_apart_by_code():
    async with running() as local:
        path = "/v5/position/list"
        asked = {"category": "linear", "symbol": "BTCUSDT"}
        answer, headers = await call(local, "GET", path, **asked)
        assert answer["retCode"] == 0
        assert headers["X-Bapi-Limit"] == "50"
        assert (await call(local, "GET", path, key="other", **asked))[0]["retCode"] == 10003
        late, _ = await call(local, "GET", path, late_ms=6000, **asked)
        assert late["retCode"] == 10002
        assert "recv_window[5000]" in late["retMsg"]
        async with local.session.get(f"{local.rest}{path}") as response:
            assert (await response.json())["retCode"] == 10003
        broken, _ = await call(local, "POST", "/v5/order/create", category="linear")
        assert broken["retCode"] == 10001


async def test_the_eleventh_order_of_a_second_is_one_too_many():
    async with running() as local:
        for left in range(9, -1, -1):
            answer, headers = await call(local, "POST", "/v5/order/create", **ORDER)
            assert answer["retCode"] == 0
            assert headers["X-Bapi-Limit-Status"] == str(left)
        answer, headers = await call(local, "POST", "/v5/order/create", **ORDER)
        assert answer["retCode"] == 10006
        assert answer["retMsg"] == "Too many visits. Exceeded the API Rate Limit."
        assert int(headers["X-Bapi-Limit-Reset-Timestamp"]) > answer["time"]


async def test_too_many_requests_ban_the_address_until_it_is_pardoned():
    async with running() as local:
        for _ in range(600):
            async with local.session.get(f"{local.rest}/v5/market/time") as response:
                assert response.status == 200
        for path in ("/v5/market/time", "/v5/position/list"):
            async with local.session.get(local.rest + path) as response:
                assert response.status == 403
        assert (await local.fault(fault="pardon"))["addresses"] == 1
        assert (await local.get("/v5/market/time"))["retCode"] == 0


async def test_nothing_is_heard_without_auth():
    async with running() as local:
        client = Client(await local.session.ws_connect(f"{local.ws}/v5/private"))
        answer = await client.ask(op="subscribe", args=["order"])
        assert (answer["success"], answer["ret_msg"]) == (False, "Request not authorized")
        expires = time.time_ns() // 1_000_000 + 5000
        wrong = signature("wrong", f"GET/realtime{expires}")
        answer = await client.ask(op="auth", args=[DEMO_KEY, expires, wrong])
        assert not answer["success"]
        answer = await client.ask(op="subscribe", args=["order"])
        assert not answer["success"]


async def test_the_private_pong_has_its_own_shape():
    async with running() as local:
        client = await private(local)
        before = time.time_ns() // 1_000_000
        pong = await client.ask(op="ping", req_id="p1")
        assert list(pong) == ["req_id", "op", "args", "conn_id"]
        assert pong["op"] == "pong"
        assert before <= int(pong["args"][0]) <= time.time_ns() // 1_000_000
        assert "req_id" not in await client.ask(op="ping")


async def test_requests_that_cannot_be_granted_change_nothing():
    async with running() as local:
        client = await private(local, "order")
        for args, text in (
            (["order"], "error:already subscribed,topic:order"),
            (["tickers.BTCUSDT"], "error:handler not found,topic:tickers.BTCUSDT"),
            (["execution", "execution.linear"], "cannot be in one request"),
            ([], "Params Error"),
            ("order", "Params Error"),
        ):
            answer = await client.ask(op="subscribe", args=args)
            assert not answer["success"]
            assert text in answer["ret_msg"]
        assert not (await client.ask(op="order.create"))["success"]
        await client.socket.send_str("no json")
        assert not json.loads(await client.read())["success"]


async def test_each_topic_comes_as_bybit_writes_it_and_the_answer_first():
    async with running() as local:
        topics = ("order", "execution", "execution.fast", "position", "wallet", "order.linear")
        client = await private(local, *topics[:5])
        assert (await client.ask(op="subscribe", args=["order.linear"]))["success"]
        stranger = await private(local)
        answer, _ = await call(local, "POST", "/v5/order/create", **ORDER)
        order_id = answer["result"]["orderId"]
        got: dict[str, dict[str, Any]] = {}
        while set(got) < set(topics):
            message = json.loads(await client.read())
            got.setdefault(message["topic"], message)
            assert message["creationTime"] >= answer["time"]
        assert list(got["order"]) == ["id", "topic", "creationTime", "data"]
        assert got["order.linear"]["data"] == got["order"]["data"]
        assert got["execution"]["data"][0]["orderId"] == order_id
        assert "id" not in got["execution.fast"]
        assert len(got["execution.fast"]["data"][0]) == 11
        assert got["position"]["data"][0]["entryPrice"]
        assert got["wallet"]["data"][0]["accountType"] == "UNIFIED"
        await stranger.ask(op="ping")
        assert not any('"topic"' in text for text in stranger.texts)
        await client.ask(op="unsubscribe", args=list(topics))
        client.texts.clear()
        await call(local, "POST", "/v5/order/create", **ORDER)
        await client.ask(op="ping")
        await client.ask(op="ping")
        assert not any('"topic"' in text for text in client.texts)


async def test_every_key_has_an_account_of_its_own():
    venue = Venue(
        ["linear:BTCUSDT"], history_hours=1, secrets={DEMO_KEY: DEMO_SECRET, "two": DEMO_SECRET}
    )
    async with running(venue) as local:
        await call(local, "POST", "/v5/order/create", **ORDER)
        query = {"category": "linear"}
        mine, _ = await call(local, "GET", "/v5/execution/list", **query)
        theirs, _ = await call(local, "GET", "/v5/execution/list", key="two", **query)
        assert mine["result"]["list"]
        assert theirs["result"]["list"] == []


@pytest.mark.parametrize("text", ["10s", "601s", "11m", "soon"])
async def test_a_max_active_time_out_of_bounds_is_refused(text):
    async with running() as local:
        with pytest.raises(WSServerHandshakeError):
            await local.session.ws_connect(f"{local.ws}/v5/private?max_active_time={text}")
        await private(local, query="?max_active_time=1m")


async def test_faults_of_connections_strike_private_ones_too():
    async with running() as local:
        client = await private(local)
        public = await local.connect()
        assert (await local.fault(fault="close", category="private"))["connections"] == 1
        while await client.read() is not None:
            pass
        assert client.ended_with is WSMsgType.CLOSE
        assert (await public.ask(op="ping"))["success"]


async def test_a_capture_has_no_private_side(real_capture):
    async with running(Venue(capture=real_capture)) as local:
        async with local.session.get(f"{local.rest}/v5/position/list") as response:
            assert response.status == 404
        with pytest.raises(WSServerHandshakeError):
            await local.session.ws_connect(f"{local.ws}/v5/private")


async def test_risk_limits_are_public_and_continuous():
    async with running() as local:
        result = (await local.get("/v5/market/risk-limit", category="linear"))["result"]
        tiers = [tier for tier in result["list"] if tier["symbol"] == "BTCUSDT"]
        for low, high in itertools.pairwise(tiers):
            edge = float(low["riskLimitValue"])
            margins = [
                edge * float(tier["maintenanceMargin"]) - float(tier["mmDeduction"] or 0)
                for tier in (low, high)
            ]
            assert abs(margins[0] - margins[1]) < 1e-6
        refused = await local.get("/v5/market/risk-limit", category="spot")
        assert refused["retCode"] == 10001
