"""The venue over real sockets: its paths, its protocol, its limits and its end."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from aiohttp import ClientConnectionError, WSMsgType, WSServerHandshakeError

from bot.venue.emulator import Venue, VenueError, serve
from tests.venue.emulator import oracle
from tests.venue.emulator.sockets import running, until

SECOND = 1_000_000_000


async def test_a_plain_client_gets_every_kind_of_topic_of_both_categories():
    async with running() as local:
        for category in ("linear", "spot"):
            client = await local.connect(category)
            kinds = ("orderbook.1", "orderbook.50", "orderbook.200", "orderbook.1000",
                     "publicTrade", "tickers", "kline.1")  # fmt: skip
            topics = [f"{kind}.ETHUSDT" for kind in kinds]
            answer = await client.ask(op="subscribe", req_id="r1", args=topics)
            assert answer["success"]
            assert answer["req_id"] == "r1"
            missing = set(topics)
            books: dict[str, oracle.Book] = {}
            deltas = 0
            while missing or deltas < 20:
                text = await client.find(lambda text: '"topic"' in text)
                topic = json.loads(text)["topic"]
                missing.discard(topic)
                if topic.startswith("orderbook"):
                    book = books.setdefault(topic, oracle.Book())
                    book.read(text)
                    book.check_uncrossed()
                    deltas += '"delta"' in text


async def test_an_answer_comes_at_least_five_milliseconds_after_its_request_and_before_data():
    async with running() as local:
        client = await local.connect()
        asked = time.monotonic()
        await client.socket.send_json({"op": "subscribe", "args": ["tickers.BTCUSDT"]})
        first = await client.read()
        assert time.monotonic() - asked >= 0.005
        assert '"op":"subscribe"' in first
        assert '"snapshot"' in await client.read()


async def test_one_answer_comes_for_every_request_in_order():
    async with running() as local:
        client = await local.connect()
        for number in range(20):
            await client.socket.send_json(
                {"op": "subscribe", "req_id": str(number), "args": [f"kline.1.{'BE'[number % 2]}"]}
            )
        answers = [json.loads(await client.find(lambda t: '"op"' in t)) for _ in range(20)]
        assert [answer["req_id"] for answer in answers] == [str(number) for number in range(20)]


async def test_the_second_of_two_hasty_subscriptions_is_already_subscribed():
    async with running() as local:
        client = await local.connect()
        request = json.dumps({"op": "subscribe", "args": ["tickers.BTCUSDT"]})
        await client.socket.send_str(request)
        await client.socket.send_str(request)
        assert json.loads(await client.find(lambda t: '"op"' in t))["success"]
        second = json.loads(await client.find(lambda t: '"op"' in t))
        assert second["ret_msg"] == "error:already subscribed,topic:tickers.BTCUSDT"


async def test_unsubscribe_and_subscribe_again_gives_a_fresh_snapshot():
    async with running() as local:
        client = await local.connect()
        topic = "orderbook.50.BTCUSDT"
        await client.ask(op="subscribe", args=[topic])
        await client.find(lambda text: '"delta"' in text)
        await client.ask(op="unsubscribe", args=[topic])
        assert (await client.ask(op="ping"))["ret_msg"] == "pong"
        assert '"topic"' not in client.texts[-2], "nothing between unsubscribe and ping"
        client.texts.clear()
        await client.ask(op="subscribe", args=[topic])
        assert '"snapshot"' in await client.read()
        assert '"delta"' in await client.read()


async def test_clients_come_and_go_without_disturbing_each_other():
    async with running() as local:
        stayer, leaver = await local.connect(), await local.connect()
        book = oracle.Book()
        for client in (stayer, leaver):
            await client.ask(op="subscribe", args=["orderbook.50.BTCUSDT"])
        await leaver.socket.close()
        await until(lambda: len(local.venue.hub.members) == 1)
        while book.deltas < 20:
            book.read(await stayer.find(lambda text: '"topic"' in text))
        await stayer.socket.close()
        await until(lambda: not local.venue.hub.members)


async def test_rest_answers_in_bybits_envelope():
    async with running() as local:
        before = time.time_ns()
        answer = await local.get("/v5/market/time")
        assert list(answer) == ["retCode", "retMsg", "result", "retExtInfo", "time"]
        assert before <= int(answer["result"]["timeNano"]) <= time.time_ns()
        assert int(answer["result"]["timeSecond"]) == int(answer["result"]["timeNano"]) // SECOND
        refused = await local.get("/v5/market/kline", category="futures")
        assert refused["retCode"] == 10001
        assert refused["result"] == {}
        async with local.session.get(f"{local.rest}/v5/market/nothing") as response:
            assert response.status == 404
        async with local.session.get(f"{local.rest}/v5/public/linear") as response:
            assert response.status == 400
        with pytest.raises(WSServerHandshakeError):
            await local.connect("option")


async def test_a_taken_port_is_one_clear_error():
    async with running() as local:
        port = int(local.rest.rpartition(":")[2])
        second = Venue(["linear:BTCUSDT"], history_hours=1)
        with pytest.raises(VenueError, match=rf"127\.0\.0\.1:{port}: the address is already in"):
            await second.start(port)
        await second.close()


async def test_a_silent_client_is_cut():
    async with running(Venue(["linear:BTCUSDT"], history_hours=1, idle_s=0.2)) as local:
        client = await local.connect()
        await client.ask(op="subscribe", args=["tickers.BTCUSDT"])
        while await client.read() is not None:
            pass
        assert client.ended_with in {WSMsgType.CLOSE, WSMsgType.CLOSED}


async def test_a_client_that_does_not_read_is_cut_and_the_others_are_not():
    async with running() as local:
        slow = await local.connect()
        await slow.ask(op="subscribe", args=["publicTrade.BTCUSDT"])
        other = await local.connect()
        await other.ask(op="subscribe", args=["tickers.ETHUSDT"])
        topic = ("linear", "publicTrade.BTCUSDT")
        local.venue.hub.publish([(topic, "x" * 100)] * 20_001)
        await until(lambda: len(local.venue.hub.members) == 1)
        assert '"topic"' in await other.read()


async def test_a_request_that_is_no_text_ends_the_connection():
    async with running() as local:
        client = await local.connect()
        await client.socket.send_bytes(b"\x00")
        assert await client.read() is None


async def test_time_may_run_faster_than_the_wall():
    start, wall = 1_786_310_817_000_000_000, time.monotonic_ns()

    def clock_ns() -> int:
        return start + (time.monotonic_ns() - wall) * 60

    venue = Venue(["linear:BTCUSDT"], history_hours=1, clock_ns=clock_ns)
    async with running(venue) as local:
        client = await local.connect()
        await client.ask(op="subscribe", args=["kline.1.BTCUSDT"])
        closed = []
        while len(closed) < 2:
            message = json.loads(await client.find(lambda text: '"topic"' in text))
            closed += [bar["start"] for bar in message["data"] if bar["confirm"]]
        assert closed[1] == closed[0] + 60_000


async def test_what_breaks_the_market_comes_out_of_wait_and_close():
    venue = Venue(["linear:BTCUSDT"], history_hours=1)

    def broken(to_ns: int) -> list[object]:
        raise ZeroDivisionError(to_ns)

    venue.feed.advance = broken  # type: ignore[method-assign,assignment]
    await venue.start()
    with pytest.raises(ZeroDivisionError):
        await venue.wait()
    with pytest.raises(ZeroDivisionError):
        await venue.close()


async def test_serve_announces_both_urls_and_ends_when_cancelled():
    announced: list[tuple[str, str]] = []
    venue = Venue(["linear:BTCUSDT"], history_hours=1)
    task = asyncio.create_task(serve(venue, 0, lambda ws, rest: announced.append((ws, rest))))
    await until(lambda: announced)
    ((ws, rest),) = announced
    assert ws.startswith("ws://127.0.0.1:")
    assert rest == ws.replace("ws://", "http://")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    host, port = rest.removeprefix("http://").split(":")
    with pytest.raises(OSError, match=port):
        await asyncio.open_connection(host, int(port))


async def test_closing_cuts_clients_that_are_still_there():
    async with running() as local:
        client = await local.connect()
        await local.venue.close()
        assert await client.read() is None
        with pytest.raises(ClientConnectionError):
            await local.connect()
