"""Alerts to people: rate-limited, bounded, never in the way."""

from __future__ import annotations

import asyncio
import http.server
import threading
import time

import pytest

from bot.operate.notify import WAITING, Limits, Notifier, NotifyError, apprise_sender
from tests.operate.brokers import until

S = 10**9


class Told:
    def __init__(self, *, least="info", send=True, pause_s=0.0) -> None:
        self.now = 0
        self.sent: list[tuple[str, str, str]] = []
        self.put: list[tuple[str, object]] = []
        self._pause_s = pause_s
        self.notifier = Notifier(
            "test", "r1", Limits(300 * S, least), lambda: self.now,
            send=self.send if send else None, put=lambda *what: self.put.append(what),
        )  # fmt: skip

    def send(self, title, text, severity):
        time.sleep(self._pause_s)
        self.sent.append((title, text, severity))
        return True


async def test_of_a_kind_one_is_sent_in_a_while_and_the_next_says_how_many_more():
    told = Told()
    for second in range(310):
        told.now = second * S
        told.notifier.tell("gap_storm", "warning", f"at {second}")
    told.notifier.tell("disk", "critical", "full")
    await told.notifier.close(1)
    assert [title for title, _, _ in told.sent] == ["test: gap storm"] * 2 + ["test: disk"]
    assert told.sent[0][1] == "at 0\nrun r1"
    assert "299 more" in told.sent[1][1]
    assert [alert.more for _, alert in told.put] == [0, 299, 0]


async def test_what_is_less_than_wanted_goes_to_mqtt_alone():
    told = Told(least="critical")
    told.notifier.tell("restart", "warning", "x")
    told.notifier.tell("halt", "critical", "x")
    await told.notifier.close(1)
    assert [severity for _, _, severity in told.sent] == ["critical"]
    assert [topic for topic, _ in told.put] == ["alert", "alert"]


async def test_a_slow_address_holds_up_nothing_and_what_waits_is_bounded():
    told = Told(pause_s=0.2)
    task = asyncio.create_task(told.notifier.run())
    began_s = time.monotonic()
    for number in range(WAITING + 50):
        told.notifier.tell(f"kind{number}", "info", "x")
        await asyncio.sleep(0)
    assert time.monotonic() - began_s < 0.2 * WAITING
    assert told.notifier.dropped >= 48
    await until(lambda: told.sent)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await told.notifier.close(0.1)
    assert len(told.sent) < 10


@pytest.mark.filterwarnings("ignore:.*imghdr:DeprecationWarning")  # apprise's
async def test_apprise_sends_to_a_url():
    heard: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        send = apprise_sender([f"json://127.0.0.1:{server.server_port}/"])
        assert send is not None
        assert await asyncio.to_thread(send, "kvtrader: halt", "the disk is full", "critical")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert b"the disk is full" in heard[0]


@pytest.mark.filterwarnings("ignore:.*imghdr:DeprecationWarning")  # apprise's
def test_no_url_is_nobody_and_a_wrong_one_is_told_without_what_it_says():
    assert apprise_sender([]) is None
    with pytest.raises(NotifyError, match="URL 2 of 2") as caught:
        apprise_sender(["json://127.0.0.1/", "nothing://hunter22"])
    assert "hunter22" not in str(caught.value)
