"""Each fault does what it says, and nothing else."""

from __future__ import annotations

import itertools
import json

import pytest
from aiohttp import ClientConnectionError, WSMsgType

from tests.venue.emulator import oracle
from tests.venue.emulator.sockets import Client, Local, running, until

BOOK = "orderbook.50.BTCUSDT"


async def listening(local: Local, topic: str = BOOK, category: str = "linear") -> Client:
    client = await local.connect(category)
    await client.ask(op="subscribe", args=[topic])
    if topic.startswith("orderbook"):
        await client.find(lambda text: '"delta"' in text)
    return client


def update_ids(client: Client) -> list[int]:
    return [json.loads(text)["data"]["u"] for text in client.texts if '"orderbook.' in text]


async def test_a_gap_skips_one_u_and_a_new_subscription_heals_it():
    async with running() as local:
        client = await listening(local)
        done = await local.fault(fault="gap", topic=f"linear:{BOOK}")
        assert done == {"fault": "gap", "topic": f"linear:{BOOK}", "armed": 1}
        start = len(client.texts)
        while len(client.texts) < start + 30:
            await client.read()
        steps = [b - a for a, b in itertools.pairwise(update_ids(client))]
        assert steps.count(2) == 1
        assert steps.count(1) == len(steps) - 1
        await client.ask(op="unsubscribe", args=[BOOK])
        await client.ask(op="subscribe", args=[BOOK])
        book = oracle.Book()
        while book.deltas < 10:
            book.read(await client.find(lambda text: '"topic"' in text))


async def test_a_count_strikes_so_many_frames():
    async with running() as local:
        client = await listening(local)
        await local.fault(fault="gap", topic=f"linear:{BOOK}", count=3)
        start = len(client.texts)
        while len(client.texts) < start + 20:
            await client.read()
        us = update_ids(client)
        assert us[-1] - us[0] == len(us) - 1 + 3


async def test_a_malformed_frame_is_half_a_frame_once():
    async with running() as local:
        client = await listening(local)
        await local.fault(fault="malformed", topic=f"linear:{BOOK}")
        broken = await client.find(lambda text: not text.endswith("}"))
        with pytest.raises(json.JSONDecodeError):
            json.loads(broken)
        for _ in range(5):
            json.loads(await client.read())


async def test_a_crossed_book_stays_crossed_until_a_fresh_snapshot():
    async with running() as local:
        client = await local.connect()
        await client.ask(op="subscribe", args=[BOOK])
        book = oracle.Book()
        book.read(await client.read())
        book.read(await client.read())
        await local.fault(fault="crossed", topic=f"linear:{BOOK}")
        crossed_at = None
        for step in range(15):
            book.read(await client.read())
            crossed = book.sorted_bids()[0][0] >= book.sorted_asks()[0][0]
            if crossed and crossed_at is None:
                crossed_at = step
        assert crossed_at is not None
        await client.ask(op="unsubscribe", args=[BOOK])
        await client.ask(op="subscribe", args=[BOOK])
        book.read(await client.find(lambda text: '"snapshot"' in text))
        book.check_uncrossed()


async def test_a_crossed_one_level_book_still_has_one_level():
    async with running() as local:
        client = await local.connect("spot")
        topic = "orderbook.1.ETHUSDT"
        await client.ask(op="subscribe", args=[topic])
        await local.fault(fault="crossed", topic=f"spot:{topic}")
        text = await client.find(
            lambda text: (
                '"topic"' in text
                and float(json.loads(text)["data"]["b"][0][0])
                >= float(json.loads(text)["data"]["a"][0][0])
            )
        )
        assert len(json.loads(text)["data"]["b"]) == 1


async def test_an_unknown_topic_comes_between_the_known():
    async with running() as local:
        client = await listening(local)
        await local.fault(fault="unknown_topic", topic=f"linear:{BOOK}")
        await client.find(lambda text: "mystery" in text)
        us = update_ids(client)
        assert us == list(range(us[0], us[0] + len(us)))


@pytest.mark.parametrize(
    ("topic", "field"), [(BOOK, "b"), ("publicTrade.BTCUSDT", "S"), ("kline.1.BTCUSDT", "open")]
)
async def test_a_null_field_is_null(topic, field):
    async with running() as local:
        client = await listening(local, topic)
        await local.fault(fault="null_field", topic=f"linear:{topic}")
        message = json.loads(await client.find(lambda text: ":null" in text))
        data = message["data"][0] if isinstance(message["data"], list) else message["data"]
        assert data[field] is None
        assert list(data.values()).count(None) == 1


async def test_null_data_and_duplicates():
    async with running() as local:
        client = await listening(local, "publicTrade.BTCUSDT")
        await local.fault(fault="null_data", topic="linear:publicTrade.BTCUSDT")
        await client.find(lambda text: text.endswith('"data":null}'))
        await local.fault(fault="duplicate", topic="linear:publicTrade.BTCUSDT")
        for _ in range(10):
            await client.read()
        doubled = len(client.texts) - len(set(client.texts))
        assert doubled == 1


async def test_a_restart_begins_every_live_book_again_at_one():
    async with running() as local:
        client = await listening(local)
        await client.ask(op="subscribe", args=["orderbook.200.ETHUSDT", "tickers.ETHUSDT"])
        done = await local.fault(fault="restart")
        assert done["books"] == 2
        for topic in (BOOK, "orderbook.200.ETHUSDT"):
            restarted: list[str] = []
            seen = 0
            while len(restarted) < 2:
                if seen == len(client.texts):
                    await client.read()
                text = client.texts[seen]
                seen += 1
                if topic in text and ('"u":1,' in text or restarted):
                    restarted.append(text)
            assert '"snapshot"' in restarted[0]
            assert '"delta"' in restarted[1]
            assert '"u":2,' in restarted[1]


async def test_a_drop_ends_connections_of_one_category_without_a_close_frame():
    async with running() as local:
        linear, spot = await listening(local), await listening(local, category="spot")
        assert await local.fault(fault="drop", category="linear") == {
            "fault": "drop",
            "connections": 1,
        }
        while await linear.read() is not None:
            pass
        assert linear.socket.close_code == 1006
        assert await spot.read() is not None


@pytest.mark.parametrize("code", [1000, 1012])
async def test_a_close_ends_connections_with_its_code(code):
    async with running() as local:
        client = await listening(local)
        await local.fault(fault="close", code=code)
        while await client.read() is not None:
            pass
        assert client.ended_with is WSMsgType.CLOSE
        assert client.socket.close_code == code


async def test_an_outage_cuts_and_refuses_everybody():
    async with running() as local:
        client = await listening(local)
        assert (await local.fault(fault="outage", seconds=60))["connections"] == 1
        while await client.read() is not None:
            pass
        for _ in range(3):
            with pytest.raises(ClientConnectionError):
                await local.get("/v5/market/time")
            with pytest.raises(ClientConnectionError):
                await local.connect()


async def test_an_outage_ends_by_itself():
    async with running() as local:
        await local.fault(fault="outage", seconds=0.1)
        await until(lambda: not local.venue.hub.refusing)
        await listening(local)


async def test_silence_keeps_the_connection_and_loses_what_was_due():
    async with running() as local:
        client = await listening(local)
        await local.fault(fault="silence", seconds=0.3)
        start = len(client.texts)
        while len(client.texts) < start + 20:
            await client.read()
        us = update_ids(client)
        assert not client.socket.closed
        assert us[-1] - us[0] > len(us) - 1


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"fault": "fire"}, "no fault 'fire': there are gap, "),
        ({}, "fault"),
        ({"fault": "gap"}, "gap needs a topic"),
        ({"fault": "gap", "topic": "orderbook.50.BTCUSDT"}, "write linear:TOPIC"),
        ({"fault": "gap", "topic": "linear:orderbook.50.XUSDT"}, "nobody listens"),
        ({"fault": "gap", "topic": f"linear:{BOOK}", "count": 0}, "count = 0"),
        ({"fault": "crossed", "topic": "linear:tickers.BTCUSDT"}, "order books only"),
        ({"fault": "drop", "category": "option"}, "category = 'option'"),
        ({"fault": "close", "code": 7}, "code = 7"),
        ({"fault": "outage", "seconds": -1}, "seconds = -1"),
        ({"fault": "restart", "topic": "linear:tickers.BTCUSDT"}, "no live order book"),
        ({"fault": "gap", "volume": 11}, "volume"),
    ],
)
async def test_a_fault_that_cannot_be_is_refused_by_name(request_, words):
    async with running() as local:
        client = await listening(local)
        await client.ask(op="subscribe", args=["tickers.BTCUSDT"])
        answer = await local.fault(**request_)
        assert words in answer["error"]
        assert local.venue.hub.counts.faults == 0


async def test_the_list_of_faults_and_the_counts_can_be_read():
    async with running() as local:
        await listening(local)
        async with local.session.get(f"{local.rest}/control/faults") as response:
            assert set(await response.json()) > {"gap", "crossed", "drop", "outage", "restart"}
        async with local.session.get(f"{local.rest}/control/counts") as response:
            counts = await response.json()
        assert counts["connections"] == counts["requests"] == 1
        assert counts["frames"] >= 2
