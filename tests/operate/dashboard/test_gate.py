"""Nobody gets in without the token, and nothing that a client does grows or gets through."""

from __future__ import annotations

import asyncio
import json

import pytest

from bot.operate import serving as serving_module
from bot.operate.dashboard import site as site_module
from tests.operate.dashboard.conftest import HEADERS, OWN, TOKEN, every_path


@pytest.fixture(autouse=True)
def url(tmp_path):
    """One database is enough here."""
    return f"sqlite:///{tmp_path}/ledger.db"


async def raw(port, *parts, wait_s=5.0):
    """Bytes as no browser would send them; what came back until the end or ``wait_s``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    answer = b""
    try:
        async with asyncio.timeout(wait_s):
            while data := await reader.read(65536):
                answer += data
    except (TimeoutError, ConnectionError):
        pass
    writer.close()
    return answer


def head_of(path, host="localhost"):
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode("latin-1")


# --- the token ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent", [{}, {"authorization": "Bearer wrong"}, {"cookie": "kvtrader_1=x"}]
)
async def test_every_path_answers_401_without_the_token(served, client, sent):
    for path in every_path():
        for method in ("GET", "POST", "HEAD", "DELETE"):
            async with client.request(method, served.url + path, headers=sent) as answer:
                assert answer.status == 401, (method, path)
                assert "set-cookie" not in answer.headers
                assert "r1" not in await answer.text()
    assert served.told == []


async def test_the_urls_token_becomes_a_cookie_once_and_leaves_the_address(served, client):
    async with client.get(f"{served.url}/?token={TOKEN}", allow_redirects=False) as answer:
        cookie = answer.headers["set-cookie"]
        assert (answer.status, answer.headers["location"]) == (303, "/")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    async with client.get(served.url) as answer:
        assert answer.status == 200
        assert "kvtrader" in await answer.text()


async def test_a_wrong_token_in_the_address_or_the_form_opens_nothing(served, client):
    for asked in (
        client.get(f"{served.url}/?token=x"),
        client.post(f"{served.url}/login", data={"token": "x"}),
    ):
        async with asked as answer:
            assert answer.status == 401
            assert "set-cookie" not in answer.headers


async def test_the_form_opens_the_page(served, client):
    async with client.post(f"{served.url}/login", data={"token": TOKEN}) as answer:
        assert answer.status == 200
        assert answer.url.path == "/"


# --- commands -------------------------------------------------------------------------------------


async def command(client, served, headers, name="pause", **more):
    body = json.dumps({"name": name, **more})
    async with client.post(f"{served.url}/api/command", data=body, headers=headers) as answer:
        return answer.status


async def test_a_command_with_token_and_header_goes_into_the_queue(served, client):
    assert await command(client, served, HEADERS | OWN, reason="lunch") == 202
    assert served.told == [("pause", "lunch")]


async def test_a_command_of_another_site_is_refused_though_the_cookie_is_there(served, client):
    async with client.get(f"{served.url}/?token={TOKEN}") as answer:
        assert answer.status == 200
    good = OWN | {"origin": served.url, "sec-fetch-site": "same-origin"}
    forged = (
        {},
        OWN,  # a browser says where a POST is from
        good | {"origin": "http://evil.example"},
        good | {"origin": "null"},
        good | {"origin": f"http://127.0.0.1:{served.port + 1}"},
        good | {"sec-fetch-site": "cross-site"},
        good | {"sec-fetch-site": "same-site"},
        {"origin": served.url},  # a form cannot set the header
    )
    for headers in forged:
        assert await command(client, served, headers) == 403, headers
    assert served.told == []
    assert await command(client, served, good) == 202


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"pause", b'{"name":"buy"}', b'{"name":"stop","x":1}', b"\xff"]
)
async def test_what_is_no_command_is_told_and_not_done(served, client, body):
    url = f"{served.url}/api/command"
    async with client.post(url, data=body, headers=HEADERS | OWN) as answer:
        assert answer.status == 400
        assert "names are pause" in (await answer.json())["error"]
    assert served.told == []


async def test_a_flood_of_commands_is_cut(served, client):
    found = [await command(client, served, HEADERS | OWN) for _ in range(12)]
    assert found.count(202) == len(served.told) <= 2 * site_module.MOST_COMMANDS_PER_S
    assert 429 in found


# --- what is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [
    "/static/../gate.py", "/static/%2e%2e/gate.py", "/static/..%2fgate.py", "/static//etc/passwd",
    "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/static/..\\gate.py",
    "/static/vendor/../../site.py",
    "/static/\x00", "/../../etc/passwd",
])  # fmt: skip
async def test_no_path_leads_out_of_the_pages_files(served, path):
    answer = await raw(served.port, head_of(path))
    assert answer.split(b" ")[1] in (b"400", b"404"), answer[:200]
    assert b"root:" not in answer
    assert b"import" not in answer


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example", "[::1", "a" * 5000],
)
async def test_a_forged_host_is_refused_even_with_the_token(served, host):
    answer = await raw(served.port, head_of("/api/run", host))
    assert answer.startswith(b"HTTP/1.1 400"), answer[:200]


@pytest.mark.parametrize("host", ["bot.example", "BOT.example:443", "localhost:1", "[::1]:5"])
async def test_a_name_of_the_settings_or_of_this_machine_is_taken(served, client, host):
    async with client.get(f"{served.url}/api/run", headers=HEADERS | {"host": host}) as answer:
        assert answer.status == 200


async def test_an_oversized_body_is_refused_announced_or_not(served, client):
    async def chunks():
        for _ in range(64):
            yield b"x" * 1024

    for path, data in (
        ("/api/command", b"x" * 10_000),
        ("/login", b"x" * 10_000),
        ("/login", chunks()),
        ("/api/command", chunks()),
    ):
        async with client.post(served.url + path, data=data, headers=HEADERS | OWN) as answer:
            assert answer.status == 413, path
    assert served.told == []


async def test_an_oversized_head_is_refused(served):
    answer = await raw(served.port, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000)
    assert answer.startswith(b"HTTP/1.1 400") or not answer


async def test_a_flood_of_websockets_is_refused_and_the_page_goes_on(served, client):
    head = (
        b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    answers = await asyncio.gather(*(raw(served.port, head) for _ in range(200)))
    assert {answer.split(b" ")[1] for answer in answers if answer} <= {b"401", b"503"}
    async with client.get(f"{served.url}/api/run", headers=HEADERS) as answer:
        assert answer.status == 200


async def test_no_more_streams_than_are_allowed(served, client):
    many = [
        await client.get(f"{served.url}/api/stream", headers=HEADERS)
        for _ in range(site_module.MOST_STREAMS)
    ]
    for each in many:
        assert (await each.content.readline()).startswith(b"data: {")
    async with client.get(f"{served.url}/api/stream", headers=HEADERS) as answer:
        assert answer.status == 503
    for each in many:
        each.close()
    await asyncio.sleep(1)
    async with client.get(f"{served.url}/api/stream", headers=HEADERS) as answer:
        assert answer.status == 200


async def test_a_client_that_never_asks_is_ended(served, monkeypatch):
    monkeypatch.setattr(serving_module, "FIRST_REQUEST_S", 0.2)
    assert await raw(served.port, b"GET / HT", wait_s=3) == b""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    async with asyncio.timeout(3):
        assert await reader.read() == b""
    writer.close()


async def test_a_client_that_does_not_read_is_ended(served, monkeypatch):
    monkeypatch.setattr(site_module, "STALLED_S", 0.3)
    monkeypatch.setattr(site_module, "LIVE_EVERY_S", 0.0)
    head = f"GET /api/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    writer.write(head.encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await asyncio.sleep(2.5)  # The kernel's buffers fill, then the server's.
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        async with asyncio.timeout(5):
            await reader.readexactly(10**9)
    writer.close()


async def test_every_answer_has_a_strict_policy_and_the_page_no_inline_script(served, client):
    for path, headers in (
        ("/", {}),
        ("/", HEADERS),
        ("/static/app.css", HEADERS),
        ("/api/run", HEADERS),
    ):
        async with client.get(served.url + path, headers=headers) as answer:
            policy = answer.headers["content-security-policy"]
            assert "script-src 'self';" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
    page = (site_module.STATIC / "index.html").read_text()
    assert page.count("<script") == page.count("<script src=")
    assert " style=" not in page
    assert " onclick=" not in page
