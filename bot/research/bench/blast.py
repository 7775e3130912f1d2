"""A venue of a few lines in a process of its own: prebuilt frames as fast as a socket takes them.

It knows WebSocket frames (RFC 6455) and one subscribe request, and nothing of a market, so that
what is measured is the client. The path says how: ``PACED`` is 2,000 messages a second with the
time each was sent, any other is all at once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

PATH = "/v5/public/linear"
PACED = PATH + "?paced"
PACE_S = 1 / 2000
_ACK_AFTER_S = 0.02
"""A client registers its request before the answer comes, as over a network."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE, _TEXT = 0x8, 0x1


class Blaster:
    """The server as its client sees it: where it listens, and when it sent what."""

    def __init__(self, port: int, sent: Connection) -> None:
        self.port = port
        self._sent = sent

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def sent_ns(self) -> list[int]:
        """``time.monotonic_ns`` before each message of the last paced connection."""
        stamps: list[int] = self._sent.recv()
        return stamps


@contextmanager
def blasting(messages: Sequence[bytes], paced: int) -> Iterator[Blaster]:
    """Serve ``messages``, the first ``paced`` of them at a pace, until left."""
    spawned = multiprocessing.get_context("spawn")
    ours, theirs = spawned.Pipe()
    process = spawned.Process(target=_serve, args=(theirs, list(messages), paced), daemon=True)
    process.start()
    try:
        yield Blaster(ours.recv(), ours)
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, messages: list[bytes], paced: int) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    framed = [_framed(message) for message in messages]
    whole = b"".join(framed)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        while True:
            client, _ = listener.accept()
            with client:
                try:
                    _serve_one(client, pipe, whole, framed[:paced])
                except OSError:
                    continue  # the client left; the next one comes


def _serve_one(
    client: socket.socket, pipe: Connection, whole: bytes, paced: Sequence[bytes]
) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    path = _shake_hands(client)
    _acknowledge(client)
    if path == PACED:
        pipe.send(_pace(client, paced))
    else:
        client.sendall(whole)
    _drain(client)


def _pace(client: socket.socket, framed: Sequence[bytes]) -> list[int]:
    clock, sleep, sent = time.monotonic_ns, time.sleep, []
    due_ns, pace_ns = clock(), int(PACE_S * 1e9)
    for frame in framed:
        due_ns += pace_ns
        rest_ns = due_ns - clock()
        if rest_ns > 0:
            sleep(rest_ns / 1e9)
        sent.append(clock())
        client.sendall(frame)
    return sent


def _shake_hands(client: socket.socket) -> str:
    """Answer the upgrade; returns the path that was asked for."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += _some(client)
    lines = head.split(b"\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in lines[1:] if b": " in line)
    key = next(line.split(b": ", 1)[1] for line in lines if line.lower().startswith(_KEY))
    assert fields[b"upgrade"] == b"websocket"
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    return lines[0].split(b" ")[1].decode()


_KEY = b"sec-websocket-key: "


def _acknowledge(client: socket.socket) -> None:
    """Wait for the first subscribe request and grant it."""
    request: dict[str, Any] = {}
    while request.get("op") != "subscribe":
        request = json.loads(_read_text(client))
    time.sleep(_ACK_AFTER_S)
    answer = {"success": True, "ret_msg": "", "conn_id": "bench", "op": "subscribe"}
    client.sendall(_framed(json.dumps(answer | {"req_id": request["req_id"]}).encode()))


def _read_text(client: socket.socket) -> bytes:
    """One masked text frame of a client; its requests are short and whole."""
    head = _exactly(client, 2)
    size = head[1] & 0x7F
    if size == 126:
        size = int.from_bytes(_exactly(client, 2), "big")
    mask = _exactly(client, 4)
    data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(_exactly(client, size)))
    return data if head[0] & 0xF == _TEXT else b"{}"


def _drain(client: socket.socket) -> None:
    """Wait until the client has heard enough."""
    while client.recv(1 << 16)[0] & 0xF != _CLOSE:
        pass


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += _some(client, size - len(data))
    return data


def _some(client: socket.socket, most: int = 4096) -> bytes:
    data = client.recv(most)
    if not data:
        raise ConnectionError("the client left")
    return data


def _framed(message: bytes) -> bytes:
    """A text frame of a server: whole, not masked."""
    size = len(message)
    if size < 126:
        return bytes((0x80 | _TEXT, size)) + message
    if size < 1 << 16:
        return bytes((0x80 | _TEXT, 126)) + size.to_bytes(2, "big") + message
    return bytes((0x80 | _TEXT, 127)) + size.to_bytes(8, "big") + message
