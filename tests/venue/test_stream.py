"""A stream against a real WebSocket server on this machine."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
import ssl
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from picows import WSCloseCode

from bot.core.events import Connected, Disconnected, Frame
from bot.venue.address import VenueUnreachable
from bot.venue.limit import RateLimit
from tests.venue.loopback import (
    Box,
    Client,
    Highest,
    Naps,
    Venue,
    ack,
    market,
    running,
    serving,
    until,
)
from tests.virtual_time import run_virtually


async def test_connected_comes_first_and_every_frame_follows_as_it_was_sent():
    messages = [b'{"topic":"a","n":%d,"pad":"%s"}' % (n, b"\xc3\xa9" * n) for n in range(300)]

    def answer(client: Client, request: dict) -> None:
        ack(client, request)
        for message in messages:
            client.send(message)

    async with serving(answer) as venue:
        inbox = Box()
        async with running(market(venue.url, inbox)) as task:
            await until(lambda: len(inbox.frames()) == 301)
            assert not task.done()
    assert inbox.items[0] == Connected(inbox.items[0].ts, "linear.1", "linear")
    assert b'"op"' in inbox.frames()[0]
    assert inbox.frames()[1:] == messages
    stamps = [item.ts for item in inbox.items]
    assert stamps == sorted(stamps)
    assert {item.conn for item in inbox.items} == {"linear.1"}
    assert venue.paths == ["/v5/public/linear"]


async def test_counters_tell_what_happened():
    async with serving() as venue:
        inbox = Box()
        stream = market(venue.url, inbox)
        async with running(stream):
            await until(lambda: stream.state == "live")
            venue.clients[0].send(b"x" * 70_000)
            await until(lambda: stream.counters.frames == 2)
        assert stream.counters.bytes == sum(map(len, inbox.frames()))
        assert (stream.counters.connects, stream.counters.disconnects) == (1, 0)


async def test_pings_are_json_and_pongs_enter_the_inbox():
    def answer(client: Client, request: dict) -> None:
        if request["op"] == "ping":
            client.say(success=True, ret_msg="pong", conn_id="c", op="ping")
        else:
            ack(client, request)

    async with serving(answer) as venue:
        inbox = Box()
        stream = market(venue.url, inbox, ping_s=0.01)
        async with running(stream):
            await until(lambda: sum(b"pong" in data for data in inbox.frames()) >= 3)
        pings = venue.clients[0].asked("ping")
        assert len(venue.clients) == 1
        assert len({ping["req_id"] for ping in pings}) == len(pings) <= stream.counters.pings


def close_1000(client: Client) -> None:
    client.transport.send_close(WSCloseCode.OK, b"bye")


def close_1012(client: Client) -> None:
    client.transport.send_close(WSCloseCode.SERVICE_RESTART)


def close_without_code(client: Client) -> None:
    client.transport.underlying_transport.write(b"\x88\x00")


def abort(client: Client) -> None:
    client.transport.disconnect(graceful=False)


def masked_frame(client: Client) -> None:
    client.transport.underlying_transport.write(b"\x81\x81\x00\x00\x00\x00x")


@pytest.mark.parametrize(
    ("blow", "reason"),
    [
        (close_1000, "closed by the venue: 1000 bye"),
        (close_1012, "closed by the venue: 1012"),
        (close_without_code, "closed by the venue: 1005"),
        (abort, "connection lost"),
        (masked_frame, "connection lost"),
    ],
)
async def test_a_lost_connection_is_one_disconnect_and_everything_is_subscribed_again(blow, reason):
    async with serving() as venue:
        inbox = Box()
        stream = market(venue.url, inbox)
        async with running(stream):
            await until(lambda: stream.state == "live")
            blow(venue.clients[0])
            await until(lambda: len(venue.clients) == 2 and stream.state == "live")
        assert inbox.reasons() == [reason]
        kinds = [type(item) for item in inbox.items if not isinstance(item, Frame)]
        assert kinds == [Connected, Disconnected, Connected]
        first, second = (client.asked("subscribe") for client in venue.clients)
        assert [request["args"] for request in first] == [request["args"] for request in second]
        assert venue.clients[0].closed


def no_pong(client: Client, request: dict[str, Any]) -> None:
    if request["op"] != "ping":
        ack(client, request)


async def _quiet_market() -> None:
    def pong(client: Client, request: dict[str, Any]) -> None:
        if request["op"] == "ping":
            client.say(success=True, ret_msg="pong", conn_id="c", op="ping")
        else:
            ack(client, request)

    async with serving(pong) as venue:
        inbox = Box()
        stream = market(
            venue.url, inbox, silence_s=10.0, clock=lambda: asyncio.get_running_loop().time()
        )
        async with running(stream):
            await asyncio.sleep(300.0)
        assert len(venue.clients) == 1
        assert inbox.reasons() == []
        assert 300 / 20 <= stream.counters.pings <= 2 * 300 / 5


def test_a_market_in_which_nothing_happens_is_pinged_and_kept():
    """Five minutes without an update, in a time that is not the wall's."""
    run_virtually(_quiet_market())


async def test_a_silent_venue_is_left_and_connected_again():
    async with serving(no_pong) as venue:
        inbox = Box()
        async with running(market(venue.url, inbox, silence_s=0.05)):
            await until(lambda: len(inbox.reasons()) >= 2)
        assert set(inbox.reasons()) == {"silent for 0.05 s"}


async def test_a_stream_on_a_faster_clock_is_silent_for_ten_seconds_in_a_tenth_of_one():
    async def pause(delay_s: float) -> None:
        await asyncio.sleep(delay_s / 100)

    began_s = time.monotonic()
    async with serving(no_pong) as venue:
        inbox = Box()
        stream = market(
            venue.url, inbox, silence_s=10.0, clock=lambda: time.monotonic() * 100, pause=pause
        )
        async with running(stream):
            await until(inbox.reasons)
    assert inbox.reasons()[0] == "silent for 10 s"
    assert time.monotonic() - began_s < 9


async def test_a_venue_that_answers_no_request_is_left():
    async def talk(client: Client) -> None:
        while not client.closed:
            client.send(b'{"topic":"a"}')
            await asyncio.sleep(0.01)

    talks = []
    async with serving(
        answer=lambda client, request: None,
        welcome=lambda client: talks.append(asyncio.create_task(talk(client))),
    ) as venue:
        inbox = Box()
        async with running(market(venue.url, inbox, connect_timeout_s=0.1)):
            await until(inbox.reasons)
    await asyncio.gather(*talks)
    assert inbox.reasons()[0] == "no answer to a request for 0.1 s"


async def test_backoff_doubles_to_its_bound_while_connections_die_young():
    naps = Naps()
    async with serving(welcome=close_1000) as venue:
        stream = market(venue.url, Box(), sleep=naps, random=Highest())
        async with running(stream):
            await until(lambda: len(naps.asked_s) >= 8)
    assert naps.asked_s[:8] == [0.5, 1, 2, 4, 8, 16, 30, 30]


async def test_backoff_starts_anew_after_a_connection_that_lasted():
    naps = Naps()
    async with serving(
        lambda client, request: asyncio.get_running_loop().call_later(0.03, close_1000, client)
    ) as venue:
        stream = market(venue.url, Box(), sleep=naps, random=Highest(), backoff_s=(0.01, 0.02))
        async with running(stream):
            await until(lambda: len(naps.asked_s) >= 4)
    assert naps.asked_s[:4] == [0.01] * 4


async def test_backoff_is_drawn_between_zero_and_the_bound():
    naps = Naps()
    stream = market("ws://127.0.0.1:9/", Box(), sleep=naps, random=Random(5))
    async with running(stream):
        await until(lambda: len(naps.asked_s) >= 30)
    bounds = [min(30.0, 0.5 * 2**n) for n in range(len(naps.asked_s))]
    shares = [nap / bound for nap, bound in zip(naps.asked_s, bounds, strict=True)]
    assert all(0 <= share <= 1 for share in shares)
    assert min(shares) < 0.2
    assert max(shares) > 0.8


async def test_connects_beyond_the_limit_wait():
    waits = Naps()
    connects = RateLimit(3, 300.0, clock=lambda: 0.0, sleep=waits)
    stream = market("ws://127.0.0.1:9/", Box(), connects=connects)
    async with running(stream):
        await until(lambda: len(waits.asked_s) >= 2)
    assert stream.counters.failed_connects == 3
    assert set(waits.asked_s) == {300.0}


FLOOD = [b'{"n":%06d,"pad":"%s"}' % (n, b"x" * 1000) for n in range(20_000)]


def flood(client: Client, request: dict) -> None:
    ack(client, request)
    for message in FLOOD:
        client.send(message)


async def slow_reader_gets_everything(venue: Venue) -> None:
    inbox = Box(limit=50)
    stream = market(venue.url, inbox, silence_s=0.05)
    async with running(stream):
        await until(lambda: stream.counters.paused)
        read = stream.counters.frames
        await asyncio.sleep(0.3)  # longer than silence_s: not reading is not silence
        assert stream.counters.frames == read < 2_000
        assert stream.counters.paused == 1
        taken = []
        while len(taken) < len(FLOOD) + 2:
            taken += inbox.take()
            await asyncio.sleep(0)
    assert [item.data for item in taken[2:]] == FLOOD
    assert stream.counters.connects == 1
    assert stream.counters.paused > 10


async def test_a_full_inbox_stops_reading_and_loses_nothing():
    async with serving(flood) as venue:
        await slow_reader_gets_everything(venue)


async def test_an_unreachable_venue_is_given_up_with_one_line():
    naps = Naps()
    stream = market("ws://127.0.0.1:9/v5/public/linear", Box(), give_up_after=3, sleep=naps)
    with pytest.raises(VenueUnreachable) as raised:
        await stream.run()
    assert str(raised.value) == (
        "ws://127.0.0.1:9/v5/public/linear cannot be reached: Connection refused."
    )
    assert len(naps.asked_s) == 2
    assert stream.state == "closed"


async def test_a_venue_that_was_reached_once_is_never_given_up():
    naps = Naps()
    async with serving() as venue:
        stream = market(venue.url, Box(), give_up_after=1, sleep=naps)
        task = asyncio.create_task(stream.run())
        await until(lambda: stream.state == "live")
    await until(lambda: stream.counters.failed_connects >= 5)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_refused_handshake_says_the_status():
    async with serving() as venue:
        stream = market(venue.url.replace("/v5", "/v6"), Box(), give_up_after=1)
        with pytest.raises(VenueUnreachable, match="404"):
            await stream.run()


async def test_a_peer_that_never_answers_the_handshake_is_unreachable():
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10_000)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server:
        stream = market(url, Box(), give_up_after=1, connect_timeout_s=0.05)
        with pytest.raises(VenueUnreachable, match="timeout"):
            await stream.run()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that signs itself, and a server's context with it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to make a certificate with")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return cert, context


async def test_a_certificate_that_nobody_vouches_for_is_refused(certificate):
    async with serving(ssl_context=certificate[1]) as venue:
        stream = market(venue.url, Box(), give_up_after=1)
        with pytest.raises(VenueUnreachable, match=r"self.signed certificate"):
            await stream.run()
        assert venue.clients == []


async def test_a_full_inbox_stops_reading_over_tls_as_well(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    async with serving(flood, ssl_context=certificate[1]) as venue:
        assert venue.url.startswith("wss://")
        await slow_reader_gets_everything(venue)


async def test_a_peer_that_hangs_up_in_the_handshake_is_unreachable():
    def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        stream = market(url, Box(), give_up_after=1)
        with pytest.raises(VenueUnreachable, match=r"during the handshake|reset by peer"):
            await stream.run()


async def test_cancelling_during_the_handshake_leaves_nothing_behind():
    asked, answer = asyncio.Event(), asyncio.Event()
    ended = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key = next(
            line.split()[1]
            for line in (await reader.readuntil(b"\r\n\r\n")).splitlines()
            if line.lower().startswith(b"sec-websocket-key")
        )
        asked.set()
        await answer.wait()
        token = base64.b64encode(
            hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        )
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + token + b"\r\n\r\n\x81\x02{}"
        )
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        ended.set()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    inbox = Box()
    async with server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with running(market(url, inbox)):
            await asked.wait()
        answer.set()
        await asyncio.wait_for(ended.wait(), 5)
    assert inbox.items == []


class Closed(Box):
    """An inbox that takes no disconnect."""

    def put(self, item):
        match item:
            case Disconnected():
                raise RuntimeError("closed")
        super().put(item)


async def test_an_inbox_that_refuses_a_disconnect_stops_the_stream():
    async with serving() as venue:
        stream = market(venue.url, Closed())
        task = asyncio.create_task(stream.run())
        await until(lambda: stream.state == "live")
        abort(venue.clients[0])
        with pytest.raises(ExceptionGroup) as raised:
            await asyncio.wait_for(task, 5)
    assert str(raised.value.exceptions[0]) == "closed"


async def test_cancelling_closes_the_socket_and_reports_no_failure():
    async with serving() as venue:
        inbox = Box()
        stream = market(venue.url, inbox)
        async with running(stream):
            await until(lambda: stream.state == "live")
        assert stream.state == "closed"
        await until(lambda: venue.clients[0].closed)
        assert inbox.reasons() == []
        before = len(inbox.items)
        await asyncio.sleep(0.01)
        assert len(inbox.items) == before
