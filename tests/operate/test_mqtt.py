"""A run's connection to a broker: amqtt in this process, and mosquitto where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path
from shutil import which

import aiomqtt
import msgspec
import pytest

from bot.core.errors import PlainError
from bot.operate import mqtt
from bot.operate.commands import Commands
from bot.operate.messages import FillMessage, Status
from bot.operate.mqtt import Broker, BrokerError, Mqtt, Wiring, send_fills, tls_context
from bot.operate.outbox import FillCursor, Outbox
from tests.operate.brokers import BadNet, Listener, Mosquitto, accepts, amqtt_broker, until
from tests.processes import free_port


def fill(n: int) -> FillMessage:
    return FillMessage(
        "r1", n, n, n, n, n, 1, "s", "linear:BTCUSDT", "Buy", Decimal("0.1"), Decimal(1), True,
        Decimal(0), "USDT", "take", 1, None, Decimal(0), "conservative", Decimal(0), Decimal(n),
    )  # fmt: skip


class Trader:
    """What a run is to its connection: facts that grow, and a queue for commands."""

    def __init__(self, folder: Path, *, takes_commands: bool = True, limit: int = 50) -> None:
        self.outbox = Outbox(limit)
        self.cursor = FillCursor(folder / "fills.json")
        self.fills: list[FillMessage] = []
        self.commands: list[tuple[str, str]] = []
        self.ledger_is_away = False
        self.wiring = Wiring(
            "kvtrader/test", self.outbox, self.cursor, self.read, self.status, 60.0,
            Commands(self.put if takes_commands else None, lambda: 7),
        )  # fmt: skip

    def put(self, name: str, reason: str) -> None:
        self.commands.append((name, reason))

    async def read(self, first: int, most: int) -> Sequence[FillMessage]:
        if self.ledger_is_away:
            raise PlainError("the ledger is away")
        return [each for each in self.fills if each.fact >= first][:most]

    def status(self, state: mqtt.State) -> Status:
        return Status(state, "test", "r1", 1, "0", "active", dropped=self.outbox.dropped)

    def fills_come(self, *numbers: int) -> None:
        self.fills += [fill(n) for n in numbers]
        self.outbox.fills_due.set()

    @contextlib.asynccontextmanager
    async def connected(self, broker: Broker) -> AsyncIterator[Mqtt]:
        connection = Mqtt(broker, self.wiring)
        task = asyncio.create_task(connection.run())
        try:
            yield connection
            await connection.close(3.0)
            await asyncio.wait_for(task, 10)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def trader(tmp_path) -> Trader:
    return Trader(tmp_path)


@pytest.fixture(params=["amqtt", "mosquitto"])
async def port(request, tmp_path):
    """A broker of each kind."""
    if request.param == "amqtt":
        async with amqtt_broker(free_port()) as found:
            yield found
        return
    broker = Mosquitto(tmp_path, "allow_anonymous true")
    await until(lambda: accepts(broker.port))
    yield broker.port
    broker.kill()


def numbers(payloads: list[bytes]) -> list[int]:
    return [msgspec.json.decode(each, type=FillMessage).fact for each in payloads]


# --- what goes out --------------------------------------------------------------------------------


async def test_status_telemetry_and_fills_arrive_and_the_end_says_offline(port, trader):
    async with Listener(port) as listener:
        async with trader.connected(Broker("127.0.0.1", port)):
            await until(lambda: listener.of("status"))
            trader.outbox.put("order", fill(1))
            trader.fills_come(3, 4, 9)
            await until(lambda: len(listener.of("fill")) == 3 and listener.of("order"))
        await until(lambda: len(listener.of("status")) == 2)
    states = [json.loads(each)["state"] for each in listener.of("status")]
    assert states == ["online", "offline"]
    assert numbers(listener.of("fill")) == [3, 4, 9]
    assert trader.cursor.next_fact == 10


async def test_whoever_comes_later_hears_the_last_status(port, trader):
    async with trader.connected(Broker("127.0.0.1", port)) as connection:
        await until(lambda: connection.is_connected)
        async with Listener(port) as late:
            await until(lambda: late.of("status"))
            assert json.loads(late.of("status")[0])["state"] == "online"


async def test_the_broker_says_offline_when_the_bot_is_lost(port, trader):
    async with Listener(port) as listener, BadNet(port) as net:
        async with trader.connected(Broker("127.0.0.1", net.port)):
            await until(lambda: listener.of("status"))
            net.refuses = True
            net.cut()
            await until(lambda: len(listener.of("status")) == 2)
            assert json.loads(listener.of("status")[1])["state"] == "offline"
            net.refuses = False
            await until(lambda: len(listener.of("status")) == 3)
            assert json.loads(listener.of("status")[2])["state"] == "online"


async def test_who_swallows_a_cancellation_is_told_again():
    async def deaf_once() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async with asyncio.timeout(20):
        await mqtt._first_of(deaf_once(), asyncio.sleep(0))


async def test_what_was_put_last_still_goes_out_at_the_end(port, trader):
    async with Listener(port) as listener:
        async with trader.connected(Broker("127.0.0.1", port)) as connection:
            await until(lambda: connection.is_connected)
            for n in range(40):
                trader.outbox.put("order", fill(n))
            trader.fills_come(*range(40))
        await until(lambda: len(listener.of("order")) == len(listener.of("fill")) == 40)
    assert numbers(listener.of("fill")) == list(range(40))


# --- a broker that is away, slow, or wrong --------------------------------------------------------


async def test_without_a_broker_telemetry_is_bounded_and_fills_come_when_it_is_there(trader):
    port = free_port()
    async with trader.connected(Broker("127.0.0.1", port)) as connection:
        for n in range(200):
            trader.outbox.put("order", fill(n))
        trader.fills_come(*range(100))
        await asyncio.sleep(0.1)
        assert (len(trader.outbox), trader.outbox.dropped) == (50, 150)
        async with amqtt_broker(port), Listener(port) as listener:
            await until(lambda: len(listener.of("fill")) >= 100 and len(listener.of("order")) >= 50)
            assert connection.connects == 1
    assert sorted(set(numbers(listener.of("fill")))) == list(range(100))
    assert numbers(listener.of("order")) == list(range(150, 200))


async def test_at_the_end_a_broker_that_is_away_is_waited_for_while_it_lacks_fills(trader):
    port = free_port()
    connection = Mqtt(Broker("127.0.0.1", port), trader.wiring)
    serving = asyncio.create_task(connection.run())
    trader.fills_come(1, 2, 3)
    closing = asyncio.create_task(connection.close(30.0))
    await asyncio.sleep(0)
    async with amqtt_broker(port), Listener(port) as listener:
        assert await closing == 0
        await asyncio.wait_for(serving, 10)
        await until(lambda: len(listener.of("fill")) == 3)
    assert trader.cursor.next_fact == 4


async def test_the_end_is_bounded_and_tells_what_is_left_for_a_later_delivery(trader):
    port = free_port()
    broker = Broker("127.0.0.1", port)
    connection = Mqtt(broker, trader.wiring)
    serving = asyncio.create_task(connection.run())
    trader.fills_come(*range(5, 25))
    assert await connection.close(0.1) == 20
    await asyncio.wait_for(serving, 10)
    later = (broker, trader.wiring.prefix, trader.cursor, trader.read)
    with pytest.raises(BrokerError, match="check mqtt"):
        await send_fills(*later, 1.0)
    async with amqtt_broker(port), Listener(port) as listener:
        assert await send_fills(*later, 5.0) == 20
        assert await send_fills(*later, 5.0) == 0
        await until(lambda: len(listener.of("fill")) == 20)


async def test_a_broker_that_is_away_and_lacks_nothing_holds_no_end_up(trader):
    connection = Mqtt(Broker("127.0.0.1", free_port()), trader.wiring)
    serving = asyncio.create_task(connection.run())
    await asyncio.sleep(0)
    assert await asyncio.wait_for(connection.close(300.0), 30) == 0
    await asyncio.wait_for(serving, 10)


async def test_fills_go_on_where_the_last_process_stopped(tmp_path, trader):
    async with amqtt_broker(free_port()) as port, Listener(port) as listener:
        trader.fills_come(1, 2)
        async with trader.connected(Broker("127.0.0.1", port)):
            await until(lambda: len(listener.of("fill")) == 2)
        again = Trader(tmp_path)
        again.fills_come(1, 2, 3)
        async with again.connected(Broker("127.0.0.1", port)):
            await until(lambda: len(listener.of("fill")) == 3)
    assert numbers(listener.of("fill")) == [1, 2, 3]


async def test_a_ledger_that_is_away_delays_fills_and_nothing_else(trader):
    async with amqtt_broker(free_port()) as port, Listener(port) as listener:
        async with trader.connected(Broker("127.0.0.1", port)):
            trader.ledger_is_away = True
            trader.fills_come(1)
            trader.outbox.put("order", fill(5))
            await until(lambda: listener.of("order"))
            assert not listener.of("fill")
            trader.ledger_is_away = False
            await until(lambda: listener.of("fill"))


@pytest.mark.parametrize("seed", [1, 2])
async def test_on_a_bad_net_every_fill_arrives_and_nothing_grows(trader, seed, monkeypatch):
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.5)
    chance = random.Random(seed)
    async with amqtt_broker(free_port()) as port, Listener(port) as listener, BadNet(port) as net:
        async with trader.connected(Broker("127.0.0.1", net.port)):
            trouble = asyncio.create_task(net.misbehave(chance, 3.0))
            n = 0
            while not trouble.done():
                trader.outbox.put("order", fill(n))
                trader.fills_come(n)
                n += 1
                assert len(trader.outbox) <= 50
                await asyncio.sleep(0.01)
            await trouble
            await until(lambda: set(numbers(listener.of("fill"))) == set(range(n)), 40)
    assert trader.cursor.next_fact == n > 100


GARBAGE = {
    "nothing": b"",
    "zeros": b"\x00" * 64,
    "noise": b"\xff" * 4096,
    "http": b"HTTP/1.1 400 Bad\r\n\r\n",
    "not authorized": b"\x20\x02\x00\x05",
    "an answer of 256 MB": b"\x20\xff\xff\xff\x7f",
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE)
async def test_what_is_no_broker_is_a_broker_that_is_away(trader, answer, monkeypatch):
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.2)
    calls = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.write(answer)
        await reader.read(1000)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with trader.connected(Broker("127.0.0.1", port)) as connection:
        await until(lambda: calls >= 2)
        assert connection.connects == 0
    server.close()
    await server.wait_closed()


# --- commands -------------------------------------------------------------------------------------


async def test_a_command_is_queued_once_and_answered_where_it_asks(port, trader):
    async with Listener(port) as listener:
        async with trader.connected(Broker("127.0.0.1", port)) as connection:
            await until(lambda: connection.is_connected)
            await asyncio.sleep(0.2)
            body = b'{"name": "pause", "id": "a1", "reply_to": "desk", "reason": "lunch"}'
            await listener.send(body)
            await listener.send(body)
            await until(lambda: len(listener.of("reply/desk")) == 2)
    assert trader.commands == [("pause", "lunch")]
    first, second = (json.loads(each) for each in listener.of("reply/desk"))
    assert first == {"id": "a1", "ok": True, "detail": "queued", "ts": 7}
    assert (second["ok"], second["detail"]) == (False, "this id was done before")


async def test_a_retained_command_is_not_done_at_the_next_connect(port, trader):
    async with Listener(port) as listener:
        await listener.send(b'{"name": "stop", "reply_to": "x"}', retain=True)
        async with trader.connected(Broker("127.0.0.1", port)):
            await until(lambda: listener.of("reply/x"))
        assert "retained" in json.loads(listener.of("reply/x")[0])["detail"]
    assert trader.commands == []


async def test_commands_that_are_off_are_refused(tmp_path):
    trader = Trader(tmp_path, takes_commands=False)
    async with amqtt_broker(free_port()) as port, Listener(port) as listener:
        async with trader.connected(Broker("127.0.0.1", port)) as connection:
            await until(lambda: connection.is_connected)
            await asyncio.sleep(0.2)
            await listener.send(b'{"name": "flatten", "reply_to": "x"}')
            await until(lambda: listener.of("reply/x"))
    assert "mqtt.commands" in json.loads(listener.of("reply/x")[0])["detail"]


async def test_a_flood_of_commands_is_not_listened_to_while_fills_go_on(trader):
    async with amqtt_broker(free_port()) as port, Listener(port) as listener:
        async with trader.connected(Broker("127.0.0.1", port)) as connection:
            await until(lambda: connection.is_connected)
            await asyncio.sleep(0.2)
            with contextlib.suppress(aiomqtt.MqttError):
                for _ in range(20):
                    await asyncio.gather(*(listener.send(b'{"name": "pause"}') for _ in range(8)))
                    if connection.floods:
                        break
            await until(lambda: connection.connects == 2)
            heard = len(trader.commands)
            # how many depends on where a second turns: so many in one, fewer in the one before
            assert connection.floods == 1
            assert mqtt.FLOOD_PER_S <= heard < 2 * mqtt.FLOOD_PER_S
            await listener.send(b'{"name": "pause"}')
            trader.fills_come(1)
            await until(lambda: listener.of("fill"))
            assert len(trader.commands) == heard


# --- who we are -----------------------------------------------------------------------------------


async def test_user_and_password_are_asked_for_and_never_told(tmp_path, trader, caplog):
    folder = tmp_path / "broker"
    folder.mkdir()
    passwords = folder / "passwords"
    program = which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    subprocess.run(
        [program, "-b", "-c", str(passwords), "bot", "hunter22"], check=True, capture_output=True
    )
    broker = Mosquitto(folder, "allow_anonymous false", f"password_file {passwords}")
    try:
        await until(lambda: accepts(broker.port))
        wrong = Broker("127.0.0.1", broker.port, "bot", "wrong-one")
        right = Broker("127.0.0.1", broker.port, "bot", "hunter22")
        assert "hunter22" not in repr(right)
        async with trader.connected(wrong) as connection:
            await asyncio.sleep(0.5)
            assert connection.connects == 0
        async with trader.connected(right) as connection:
            await until(lambda: connection.is_connected)
    finally:
        broker.kill()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho's socket
async def test_with_tls_only_a_certificate_that_we_trust_is_spoken_to(tmp_path, trader):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    broker = Mosquitto(tmp_path, "allow_anonymous true", f"certfile {cert}", f"keyfile {key}")
    try:
        await until(lambda: accepts(broker.port))
        async with trader.connected(
            Broker("127.0.0.1", broker.port, tls=tls_context())
        ) as connection:
            await asyncio.sleep(0.5)
            assert connection.connects == 0
        trusted = Broker("127.0.0.1", broker.port, tls=tls_context(cert))
        async with trader.connected(trusted) as connection:
            await until(lambda: connection.is_connected)
    finally:
        broker.kill()


def test_a_certificate_that_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(BrokerError, match=r"no\.pem: not usable for TLS"):
        tls_context(tmp_path / "no.pem")
