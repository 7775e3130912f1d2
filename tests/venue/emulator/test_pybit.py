"""pybit's own unmodified clients against the venue; only their addresses are ours."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pybit.unified_trading
import pytest
from pybit.exceptions import InvalidRequestError
from pybit.unified_trading import HTTP, WebSocket

from bot.venue.emulator.signing import DEMO_KEY, DEMO_SECRET
from tests.venue.emulator.sockets import running, until


@pytest.fixture(autouse=True)
def no_logging_errors(monkeypatch):
    """The client's thread may outlive pytest's capture of its log."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


@pytest.mark.parametrize("category", ["linear", "spot"])
async def test_pybits_socket_gets_books_trades_tickers_and_klines_of_two_symbols(
    category, monkeypatch
):
    async with running() as local:
        url = local.ws + "/v5/public/{CHANNEL_TYPE}"
        monkeypatch.setattr(pybit.unified_trading, "PUBLIC_WSS", url)
        got: dict[str, list[dict[str, Any]]] = defaultdict(list)

        def keep(message: dict[str, Any]) -> None:
            got[message["topic"]].append(message)

        def subscribe() -> WebSocket:
            socket = WebSocket(channel_type=category, testnet=False)
            symbols = ["BTCUSDT", "ETHUSDT"]
            socket.orderbook_stream(50, symbols, keep)
            socket.trade_stream(symbols, keep)
            socket.ticker_stream(symbols, keep)
            socket.kline_stream(1, symbols, keep)
            return socket

        socket = await asyncio.to_thread(subscribe)
        try:
            await until(lambda: len(got) == 8 and len(got["orderbook.50.BTCUSDT"]) > 20)
        finally:
            await asyncio.to_thread(socket.exit)
        assert set(got) == {
            f"{kind}.{symbol}"
            for kind in ("orderbook.50", "publicTrade", "tickers", "kline.1")
            for symbol in ("BTCUSDT", "ETHUSDT")
        }
        # pybit merges deltas into what it hands on; every level must still be a positive size.
        data = got["orderbook.50.BTCUSDT"][-1]["data"]
        assert len(data["b"]) == len(data["a"]) == 50
        assert all(Decimal(size) > 0 for _, size in data["b"] + data["a"])
        assert max(Decimal(p) for p, _ in data["b"]) < min(Decimal(p) for p, _ in data["a"])
        assert got["tickers.ETHUSDT"][-1]["data"]["lastPrice"]
        await until(lambda: not local.venue.hub.members)


async def test_pybits_rest_client_gets_instruments_klines_time_and_errors():
    async with running() as local:

        def ask() -> None:
            http = HTTP(testnet=False)
            http.endpoint = local.rest
            assert int(http.get_server_time()["result"]["timeNano"]) > 0
            info = http.get_instruments_info(category="linear")["result"]["list"]
            assert [one["symbol"] for one in info] == ["BTCUSDT", "ETHUSDT"]
            query = {"category": "spot", "symbol": "ETHUSDT"}
            rows = http.get_kline(**query, interval=1, limit=100)["result"]["list"]
            assert len(rows) == 100
            assert len(http.get_orderbook(**query, limit=20)["result"]["b"]) == 20
            assert http.get_tickers(**query)["result"]["list"][0]["symbol"] == "ETHUSDT"
            assert http.get_public_trade_history(**query)["result"]["category"] == "spot"
            funding = http.get_funding_rate_history(category="linear", symbol="BTCUSDT")
            assert len(funding["result"]["list"]) == 200
            with pytest.raises(InvalidRequestError, match="Invalid period!"):
                http.get_kline(**query, interval=7)
            http.client.close()

        await asyncio.to_thread(ask)


async def test_pybits_clients_trade_and_hear_of_it(monkeypatch):
    async with running() as local:
        monkeypatch.setattr(pybit.unified_trading, "PRIVATE_WSS", local.ws + "/v5/private")
        keys = {"api_key": DEMO_KEY, "api_secret": DEMO_SECRET}
        got: dict[str, list[dict[str, Any]]] = defaultdict(list)

        def keep(message: dict[str, Any]) -> None:
            got[message["topic"]] += message["data"]

        def listen() -> WebSocket:
            socket = WebSocket(channel_type="private", testnet=False, **keys)
            socket.order_stream(keep)
            socket.execution_stream(keep)
            socket.position_stream(keep)
            socket.wallet_stream(keep)
            return socket

        def trade() -> dict[str, Any]:
            http = HTTP(testnet=False, **keys)
            http.endpoint = local.rest
            btc = {"category": "linear", "symbol": "BTCUSDT"}
            book = http.get_orderbook(**btc, limit=1)["result"]
            low = f"{Decimal(book['b'][0][0]) * Decimal('0.9'):.1f}"
            taken = http.place_order(**btc, side="Buy", orderType="Market", qty="0.01")
            rests = http.place_order(
                **btc, side="Buy", orderType="Limit", qty="0.01", price=low, orderLinkId="rests"
            )["result"]
            assert rests["orderLinkId"] == "rests"
            (open_order,) = http.get_open_orders(**btc)["result"]["list"]
            assert open_order["orderId"] == rests["orderId"]
            http.amend_order(**btc, orderLinkId="rests", qty="0.02")
            (open_order,) = http.get_open_orders(**btc)["result"]["list"]
            assert open_order["qty"] == "0.020"
            with pytest.raises(InvalidRequestError, match="duplicate"):
                http.place_order(
                    **btc, side="Buy", orderType="Limit", qty="0.01", price=low, orderLinkId="rests"
                )
            http.cancel_order(**btc, orderLinkId="rests")
            high = f"{Decimal(book['a'][0][0]) * Decimal('1.1'):.1f}"
            http.place_order(
                **btc,
                side="Buy",
                orderType="Market",
                qty="0.01",
                triggerPrice=high,
                triggerDirection=1,
                triggerBy="MarkPrice",
                orderLinkId="waits",
            )
            http.set_trading_stop(**btc, tpslMode="Full", stopLoss=low, positionIdx=0)
            waiting = http.get_open_orders(**btc)["result"]["list"]
            kinds = [(each["stopOrderType"], each["orderStatus"]) for each in waiting]
            assert kinds[:2] == [("StopLoss", "Untriggered"), ("Stop", "Untriggered")]
            http.cancel_order(**btc, orderLinkId="waits")
            http.set_trading_stop(**btc, tpslMode="Full", stopLoss="0", positionIdx=0)
            executions = http.get_executions(category="linear")["result"]["list"]
            assert {each["orderId"] for each in executions} == {taken["result"]["orderId"]}
            (position,) = http.get_positions(**btc)["result"]["list"]
            assert (position["side"], position["size"]) == ("Buy", "0.01")
            (wallet,) = http.get_wallet_balance(accountType="UNIFIED", coin="USDT")["result"][
                "list"
            ]
            assert Decimal(wallet["totalEquity"]) < 100_000
            rates = http.get_fee_rates(**btc)["result"]["list"]
            assert rates[0]["takerFeeRate"] == "0.00055"
            http.client.close()
            return rests

        socket = await asyncio.to_thread(listen)
        try:
            await until(
                lambda: [m for m in local.venue.hub.members.values() if m.connection.topics]
            )
            rests = await asyncio.to_thread(trade)
            await until(lambda: [o["orderStatus"] for o in got["order"]].count("Deactivated") == 2)
        finally:
            await asyncio.to_thread(socket.exit)
        statuses = [o["orderStatus"] for o in got["order"] if o["orderId"] == rests["orderId"]]
        assert statuses == ["New", "New", "Cancelled"]
        assert got["execution"][0]["execType"] == "Trade"
        assert got["position"][-1]["size"] == "0.01"
        assert got["wallet"][-1]["accountType"] == "UNIFIED"
        await until(lambda: not local.venue.hub.members)


async def test_pybit_sleeps_off_a_rate_limit_and_gets_through():
    async with running() as local:

        def ask() -> None:
            http = HTTP(testnet=False, api_key=DEMO_KEY, api_secret=DEMO_SECRET, max_retries=5)
            http.endpoint = local.rest
            for _ in range(7):
                assert http.get_fee_rates(category="linear")["retCode"] == 0
            http.client.close()

        await asyncio.to_thread(ask)
