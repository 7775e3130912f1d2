"""Requests of a stream and the venue's answers to them, over a real socket."""

from __future__ import annotations

import pytest
from picows import WSMsgType
from structlog.testing import capture_logs

from bot.core.events import Frame
from tests.venue.loopback import Box, Client, ack, market, running, serving, until

TOPICS = tuple(f"publicTrade.COIN{n}USDT" for n in range(23))


def refuse(client: Client, request: dict, ret_msg: str) -> None:
    client.say(success=False, ret_msg=ret_msg, req_id=request["req_id"], op=request["op"])


async def test_requests_hold_at_most_ten_topics_and_together_all_of_them_once():
    async with serving() as venue:
        stream = market(venue.url, Box(), TOPICS + TOPICS[:3])
        async with running(stream):
            await until(lambda: stream.state == "live")
        requests = venue.clients[0].requests
    assert [len(request["args"]) for request in requests] == [10, 10, 3]
    assert [topic for request in requests for topic in request["args"]] == list(TOPICS)
    assert len({request["req_id"] for request in requests}) == 3


async def test_a_stream_is_live_when_the_last_request_is_granted():
    held = []
    async with serving(lambda client, request: held.append(request)) as venue:
        stream = market(venue.url, Box(), TOPICS)
        async with running(stream):
            await until(lambda: len(held) == 3)
            for request in reversed(held):
                assert stream.state == "subscribing"
                frames = stream.counters.frames
                ack(venue.clients[0], request)
                await until(lambda seen=frames: stream.counters.frames > seen)
            assert stream.state == "live"


async def test_answers_without_an_id_are_for_the_oldest_request():
    def answer(client: Client, request: dict) -> None:
        client.say(success=True, ret_msg="subscribe", conn_id="c", op="subscribe")

    async with serving(answer) as venue:
        stream = market(venue.url, Box(), TOPICS)
        async with running(stream):
            await until(lambda: stream.state == "live")


async def test_a_refusal_without_an_id_and_an_op_is_not_waited_for():
    def answer(client: Client, request: dict) -> None:
        client.say(success=False, ret_msg="Params Error", conn_id="c", op="")

    async with serving(answer) as venue:
        stream = market(venue.url, Box(), TOPICS[:1], connect_timeout_s=100.0)
        async with running(stream):
            await until(lambda: stream.counters.refused == 1)
            assert stream.state == "live"


async def test_one_bad_topic_is_refused_alone_and_asked_again_at_the_next_connect():
    def answer(client: Client, request: dict) -> None:
        if TOPICS[4] in request["args"]:
            refuse(client, request, f"error:handler not found,topic:{TOPICS[4]}")
        else:
            ack(client, request)

    async with serving(answer) as venue:
        stream = market(venue.url, Box(), TOPICS)
        with capture_logs() as logs:
            async with running(stream):
                await until(lambda: stream.state == "live")
                alone = [request["args"] for request in venue.clients[0].requests[3:]]
                assert alone == [[topic] for topic in TOPICS[:10]]
                assert stream.counters.refused == 1
                venue.clients[0].transport.disconnect(graceful=False)
                await until(lambda: stream.counters.refused == 2)
        refusals = [entry for entry in logs if entry["event"] == "subscription refused"]
    assert refusals[0]["topic"] == TOPICS[4]
    assert refusals[0]["ret_msg"] == f"error:handler not found,topic:{TOPICS[4]}"
    assert TOPICS[4] in venue.clients[1].requests[0]["args"]


async def test_a_topic_that_is_already_subscribed_is_no_refusal():
    async with serving(
        lambda client, request: refuse(client, request, "error:already subscribed,topic:x")
    ) as venue:
        stream = market(venue.url, Box())
        async with running(stream):
            await until(lambda: stream.state == "live")
            assert stream.counters.refused == 0


async def test_resubscribing_waits_for_the_unsubscribe_and_keeps_the_connection():
    held = []

    def answer(client: Client, request: dict) -> None:
        if request["op"] == "unsubscribe":
            held.append(request)
        else:
            ack(client, request)

    async with serving(answer) as venue:
        inbox = Box()
        stream = market(venue.url, inbox, TOPICS)
        async with running(stream):
            await until(lambda: stream.state == "live")
            client = venue.clients[0]
            for _ in range(5):
                stream.resubscribe(TOPICS[7])
            await until(lambda: held)
            stream.resubscribe(TOPICS[7])  # while one is under way
            client.send(b'{"topic":"other"}')
            await until(lambda: inbox.frames()[-1] == b'{"topic":"other"}')
            assert len(client.asked("subscribe")) == 3
            ack(client, held[0])
            await until(lambda: len(client.asked("subscribe")) == 4 and stream.state == "live")
        assert held[0]["args"] == client.asked("subscribe")[3]["args"] == [TOPICS[7]]
        assert len(client.asked("unsubscribe")) == stream.counters.resubscribes == 1
        assert stream.counters.connects == 1


async def test_resubscribing_again_and_again_makes_no_storm():
    async with serving() as venue:
        stream = market(venue.url, Box(), TOPICS)
        async with running(stream):
            await until(lambda: stream.state == "live")
            for _ in range(100):
                for topic in TOPICS:
                    stream.resubscribe(topic)
                frames = stream.counters.frames
                venue.clients[0].send(b"{}")
                await until(lambda seen=frames: stream.counters.frames > seen)
        # In 10 s one a topic, or 10 where there are fewer.
        assert stream.counters.resubscribes == len(TOPICS) == 23
        assert len(venue.clients[0].asked("unsubscribe")) == 23


async def test_a_refused_resubscribe_ends_the_connection():
    def answer(client: Client, request: dict) -> None:
        if request["op"] == "unsubscribe":
            refuse(client, request, "no")
        else:
            ack(client, request)

    async with serving(answer) as venue:
        inbox = Box()
        stream = market(venue.url, inbox)
        async with running(stream):
            await until(lambda: stream.state == "live")
            stream.resubscribe("publicTrade.BTCUSDT")
            await until(lambda: len(venue.clients) == 2 and stream.state == "live")
    assert inbox.reasons() == ["unsubscribe of publicTrade.BTCUSDT refused: no"]


async def test_a_wish_to_resubscribe_does_not_outlive_its_connection():
    async with serving() as venue:
        stream = market(venue.url, Box())
        stream.resubscribe("publicTrade.BTCUSDT")
        async with running(stream):
            await until(lambda: stream.state == "live")
            assert venue.clients[0].asked("unsubscribe") == []
        with pytest.raises(ValueError, match=r"linear\.1 does not carry 'publicTrade\.XRPUSDT'"):
            stream.resubscribe("publicTrade.XRPUSDT")


@pytest.mark.parametrize("data", [b'{"op":', b'{"op":7}', b'"op"', b'{"op":"\xff"}'])
async def test_an_answer_that_cannot_be_read_is_counted_and_harms_nothing(data: bytes):
    async with serving() as venue:
        inbox = Box()
        stream = market(venue.url, inbox)
        async with running(stream):
            await until(lambda: stream.state == "live")
            venue.clients[0].send(data)
            venue.clients[0].send(b"after")
            await until(lambda: inbox.frames()[-1] == b"after")
            assert inbox.frames()[-2] == data
            assert (stream.counters.faults, stream.counters.disconnects) == (1, 0)


async def test_an_unasked_error_is_logged():
    async with serving() as venue:
        inbox = Box()
        stream = market(venue.url, inbox)
        with capture_logs() as logs:
            async with running(stream):
                await until(lambda: stream.state == "live")
                venue.clients[0].say(success=False, ret_msg="Params Error", op="", req_id="?")
                await until(lambda: len(inbox.frames()) == 2)
        assert "Params Error" in [entry.get("ret_msg") for entry in logs]


async def test_fragments_become_one_frame():
    async with serving() as venue:
        inbox = Box()
        stream = market(venue.url, inbox)
        async with running(stream):
            await until(lambda: stream.state == "live")
            transport = venue.clients[0].transport
            transport.send(WSMsgType.TEXT, b"one ", fin=False)
            transport.send_ping(b"between")
            transport.send(WSMsgType.CONTINUATION, b"", fin=False)
            transport.send(WSMsgType.CONTINUATION, b"whole")
            venue.clients[0].send(b"next")
            await until(lambda: len(inbox.frames()) == 3)
    assert inbox.frames()[1:] == [b"one whole", b"next"]


class Brittle(Box):
    """An inbox that fails once."""

    def put(self, item):
        if isinstance(item, Frame) and item.data == b"boom":
            raise RuntimeError("no")
        super().put(item)


async def test_a_frame_that_cannot_be_put_ends_the_connection_in_the_open():
    async with serving() as venue:
        inbox = Brittle()
        stream = market(venue.url, inbox)
        with capture_logs() as logs:
            async with running(stream):
                await until(lambda: stream.state == "live")
                venue.clients[0].send(b"boom")
                await until(lambda: len(venue.clients) == 2 and stream.state == "live")
    assert stream.counters.faults == 1
    assert inbox.reasons() == ["frame failed: RuntimeError('no')"]
    assert [entry["log_level"] for entry in logs if entry["event"] == "frame failed"] == ["error"]


def test_too_many_topics_for_a_connection_are_an_error_that_names_the_limit():
    with pytest.raises(ValueError, match=r"linear\.1: 1000 topics take .* Bybit allows 21000"):
        market("ws://127.0.0.1:9/", None, tuple(f"publicTrade.COIN{n:04}USDT" for n in range(1000)))
