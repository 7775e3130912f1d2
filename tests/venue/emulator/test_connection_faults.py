"""Faults of order, time and connections, and mixes of all of them from a seed."""

from __future__ import annotations

import asyncio
import itertools
import json
import time

import pytest
from aiohttp import ClientConnectionError

from bot.venue.emulator import Venue
from bot.venue.emulator.control import MIXED
from bot.venue.emulator.faults import skewed
from bot.venue.emulator.strikes import MAX_HELD, Mix, Strikes
from tests.processes import ROOT
from tests.venue.emulator.sockets import Client, Local, running, until

BOOK = "orderbook.50.BTCUSDT"
TOPIC = ("linear", BOOK)


async def listening(local: Local) -> Client:
    client = await local.connect()
    await client.ask(op="subscribe", args=[BOOK])
    await client.find(lambda text: '"delta"' in text)
    return client


def update_ids(texts: list[str]) -> list[int]:
    return [json.loads(text)["data"]["u"] for text in texts if '"orderbook.' in text]


async def test_a_reordered_frame_comes_after_the_next_one():
    async with running() as local:
        client = await listening(local)
        await local.fault(fault="reorder", topic=f"linear:{BOOK}")
        start = len(client.texts)
        while len(client.texts) < start + 20:
            await client.read()
        steps = [b - a for a, b in itertools.pairwise(update_ids(client.texts))]
        assert [step for step in steps if step != 1] == [2, -1, 2]


async def test_delayed_frames_come_late_all_of_them_in_order():
    async with running() as local:
        client = await listening(local)
        await client.ask(op="subscribe", args=["publicTrade.BTCUSDT"])
        done = await local.fault(fault="delay", topic=f"linear:{BOOK}", seconds=0.3)
        assert done == {"fault": "delay", "topics": 1, "seconds": 0.3}
        start = len(client.texts)
        while len(client.texts) < start + 60:
            await client.read()
        us = update_ids(client.texts)
        assert us == list(range(us[0], us[0] + len(us)))
        late = [m["ts"] for m in map(json.loads, client.texts) if m.get("topic") == BOOK]
        assert late == sorted(late)


async def test_a_truncated_frame_ends_its_connection_in_the_middle():
    async with running() as local:
        client = await listening(local)
        assert (await local.fault(fault="truncate", topic=f"linear:{BOOK}"))["connections"] == 1
        while await client.read() is not None:
            pass
        for text in client.texts:
            json.loads(text)
        await until(lambda: not local.venue.hub.members)
        await listening(local)


async def test_a_slow_consumer_is_cut_when_enough_frames_wait_for_it():
    async with running() as local:
        client = await listening(local)
        before = local.venue.hub.counts.frames
        assert (await local.fault(fault="slow_consumer", frames=20))["connections"] == 1
        while await client.read() is not None:
            pass
        assert 20 <= local.venue.hub.counts.frames - before < 60


async def test_a_half_open_venue_accepts_and_says_nothing_then_serves_again():
    async with running() as local:
        old = await listening(local)
        await local.fault(fault="half_open", seconds=0.4)
        host, port = local.rest.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /v5/market/time HTTP/1.1\r\nHost: x\r\n\r\n")
        reading = asyncio.create_task(reader.read())
        assert await old.read() is not None
        assert not reading.done()
        (heard,) = await asyncio.gather(reading, return_exceptions=True)
        assert heard == b"" or isinstance(heard, ConnectionResetError)
        writer.close()
        await until(lambda: not local.venue.hub.stalling)
        await listening(local)


async def test_a_venue_that_stalls_can_be_closed():
    async with running() as local:
        await local.fault(fault="half_open", seconds=600)
        waiting = asyncio.create_task(local.get("/v5/market/time"))
        await asyncio.sleep(0.05)
        await local.venue.close()
        with pytest.raises(ClientConnectionError):
            await waiting


async def test_a_skewed_clock_shifts_every_stamp_until_it_is_set_right():
    async with running() as local:
        client = await listening(local)
        await local.fault(fault="skew", seconds=-100)
        message = json.loads(await client.read())
        while message["ts"] > time.time() * 1000 - 50_000:
            message = json.loads(await client.read())
        assert abs(message["ts"] - (time.time() - 100) * 1000) < 20_000
        assert message["cts"] < (time.time() - 80) * 1000
        skewed_s = int((await local.get("/v5/market/time"))["result"]["timeSecond"])
        assert abs(skewed_s - (time.time() - 100)) < 20
        await local.fault(fault="skew", seconds=0)
        answer = await local.get("/v5/market/time")
        assert abs(answer["time"] / 1000 - time.time()) < 20


def test_skewing_touches_stamps_and_nothing_else():
    text = '{"ts":1700000000000,"u":1700000000000,"data":[{"T":1700000000001,"p":"1"}]}'
    assert skewed(text, 5) == (
        '{"ts":1700000000005,"u":1700000000000,"data":[{"T":1700000000006,"p":"1"}]}'
    )


def test_a_mix_is_the_same_again_from_its_seed_and_strikes_at_its_rate():
    def drawn(seed: int) -> list[str | None]:
        mix = Mix(seed, 0.1, MIXED)
        return [mix.draw(TOPIC) for _ in range(20_000)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    struck = [name for name in drawn(1) if name is not None]
    assert 1800 < len(struck) < 2200
    assert set(struck) == set(MIXED)
    mix = Mix(1, 1.0, {"crossed": 1.0})
    assert {mix.draw(("linear", "publicTrade.X")) for _ in range(10)} == {None}


def test_a_delay_that_holds_too_much_ends_early():
    strikes = Strikes()
    strikes.delay(TOPIC)
    for number in range(MAX_HELD):
        assert strikes.through(TOPIC, str(number), None, list) == []
    late = strikes.through(TOPIC, "last", None, list)
    assert late == [*map(str, range(MAX_HELD)), "last"]
    assert strikes.through(TOPIC, "next", None, list) == ["next"]


async def test_a_mix_strikes_until_its_rate_is_zero():
    async with running() as local:
        client = await listening(local)
        done = await local.fault(fault="mix", seed=4, rate=0.5, only=["gap"])
        assert done == {"fault": "mix", "seed": 4, "rate": 0.5, "faults": ["gap"]}
        for _ in range(40):
            await client.read()
        await local.fault(fault="mix", rate=0)
        while "fault" in await client.read():
            pass
        counted = local.venue.hub.counts.faults
        assert counted > 10
        for _ in range(20):
            await client.read()
        assert local.venue.hub.counts.faults == counted


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"fault": "mix", "rate": 2}, "rate = 2.0: a probability"),
        ({"fault": "mix", "only": ["earthquake"]}, "no fault 'earthquake' in a mix"),
        ({"fault": "skew", "seconds": 1e9}, "at most 3600 either way"),
        ({"fault": "slow_consumer", "frames": 0}, "frames = 0: at least 1"),
        ({"fault": "truncate"}, "truncate needs a topic"),
        ({"fault": "delay", "topic": f"linear:{BOOK}"}, "nobody listens to"),
        ({"fault": "half_open", "seconds": 0}, "seconds = 0.0: more than 0"),
    ],
)
async def test_a_fault_that_cannot_be_is_one_clear_error(request_, text):
    async with running(Venue(["linear:BTCUSDT"], history_hours=1)) as local:
        assert text in (await local.fault(**request_))["error"]


async def test_every_fault_is_documented_and_no_other():
    page = (ROOT / "docs" / "local-venue.md").read_text(encoding="utf-8")
    told = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    venue = Venue(["linear:BTCUSDT"], history_hours=1)
    async with (
        running(venue) as local,
        local.session.get(f"{local.rest}/control/faults") as response,
    ):
        assert set(await response.json()) == told
