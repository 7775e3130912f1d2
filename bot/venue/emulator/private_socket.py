"""What a client may say on ``/v5/private``, and which of its sockets hears what.

Nothing without ``auth``; a topic is heard for all categories ("order") or one ("order.linear").
https://bybit-exchange.github.io/docs/v5/ws/connect
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bot.venue.emulator.accounts import Push
from bot.venue.emulator.codes import Refused
from bot.venue.emulator.commands import Connection
from bot.venue.emulator.records import Fields
from bot.venue.emulator.signing import check_auth

PRIVATE = "private"
"""The category of private connections, as the hub and the control calls name it."""
TOPICS = frozenset(
    {
        "order", "order.linear", "order.spot", "execution", "execution.linear", "execution.spot",
        "execution.fast", "execution.fast.linear", "execution.fast.spot", "position",
        "position.linear", "wallet",
    }
)  # fmt: skip
_FAST = ("category", "symbol", "execId", "execPrice", "execQty", "orderId", "isMaker",
         "orderLinkId", "side", "execTime", "seq")  # fmt: skip
_ACTIVE = re.compile(r"(\d{1,4})(s|m)")
_ACTIVE_LEAST_S, _ACTIVE_MOST_S = 30.0, 600.0


class PrivateDesk:
    """Answers requests and addresses pushes; ``now_ms`` is the venue's clock."""

    def __init__(self, secrets: Mapping[str, str], now_ms: Callable[[], int]) -> None:
        self._secrets = secrets
        self._now_ms = now_ms
        self._owners: dict[str, tuple[str, Connection]] = {}
        self._ids = itertools.count(1)

    def answer(self, connection: Connection, text: str) -> str:
        try:
            request = json.loads(text)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return _reply(connection, "", "", "Params Error")
        op, req_id = str(request.get("op", "")), str(request.get("req_id", ""))
        args = request.get("args")
        if op == "ping":
            return self._pong(connection, req_id)
        if op == "auth":
            return self._auth(connection, req_id, args)
        if op not in ("subscribe", "unsubscribe"):
            return _reply(connection, op, req_id, "error:invalid op")
        if connection.id not in self._owners:
            return _reply(connection, op, req_id, "Request not authorized")
        problem = _problem(connection, op, args)
        if problem:
            return _reply(connection, op, req_id, problem)
        assert isinstance(args, list)
        if op == "subscribe":
            connection.topics.update(args)
        else:
            connection.topics.difference_update(args)
        return _reply(connection, op, req_id)

    def left(self, connection: Connection) -> None:
        self._owners.pop(connection.id, None)

    def addressed(self, pushes: Iterable[tuple[str, Push]]) -> list[tuple[str, str]]:
        """(connection id, text) for everybody who listens."""
        found: list[tuple[str, str]] = []
        for key, push in pushes:
            for owner, connection in self._owners.values():
                if owner != key:
                    continue
                found += [
                    (connection.id, self._text(topic, push))
                    for topic in _topics_of(push)
                    if topic in connection.topics
                ]
        return found

    def _text(self, topic: str, push: Push) -> str:
        data = push.data if not topic.startswith("execution.fast") else _fast(push.data)
        message: Fields = {
            "id": f"local{next(self._ids):012d}",
            "topic": topic,
            "creationTime": self._now_ms(),
            "data": data,
        }
        if topic.startswith("execution.fast"):
            del message["id"]
        return json.dumps(message, separators=(",", ":"))

    def _auth(self, connection: Connection, req_id: str, args: Any) -> str:
        try:
            key = check_auth(args, self._secrets, self._now_ms())
        except Refused as refused:
            return _reply(connection, "auth", req_id, refused.text)
        self._owners[connection.id] = (key, connection)
        return _reply(connection, "auth", req_id)

    def _pong(self, connection: Connection, req_id: str) -> str:
        pong: Fields = {"req_id": req_id} if req_id else {}
        pong |= {"op": "pong", "args": [str(self._now_ms())], "conn_id": connection.id}
        return json.dumps(pong, separators=(",", ":"))


def active_s(text: str | None) -> float | None:
    """``max_active_time`` of a private URL ("30s" to "600s", or minutes) in seconds.

    None where the client did not say. Raises ValueError for what Bybit would not take.
    """
    if text is None:
        return None
    match = _ACTIVE.fullmatch(text)
    seconds = float(match[1]) * (60 if match[2] == "m" else 1) if match else 0.0
    if not _ACTIVE_LEAST_S <= seconds <= _ACTIVE_MOST_S:
        raise ValueError(f"max_active_time = {text!r}: from 30s to 600s, or 1m to 10m")
    return seconds


def _topics_of(push: Push) -> list[str]:
    topics = [push.topic]
    if push.category:
        topics.append(f"{push.topic}.{push.category}")
    if push.topic == "execution":
        topics += ["execution.fast", f"execution.fast.{push.category}"]
    return topics


def _fast(data: list[Fields]) -> list[Fields]:
    return [{name: fields[name] for name in _FAST} for fields in data]


def _problem(connection: Connection, op: str, args: Any) -> str:
    """Why a (un)subscription fails, or ""."""
    if not isinstance(args, list) or not args or not all(isinstance(t, str) for t in args):
        return "Params Error"
    for topic in args:
        if topic not in TOPICS:
            return f"error:handler not found,topic:{topic}"
        if op == "subscribe" and topic in connection.topics:
            return f"error:already subscribed,topic:{topic}"
    for name in ("order", "execution", "position", "execution.fast"):
        if (
            op == "subscribe"
            and name in args
            and any(t == f"{name}.{c}" for t in args for c in ("linear", "spot"))
        ):
            return f"error:{name} and its categorised topics cannot be in one request"
    return ""


def _reply(connection: Connection, op: str, req_id: str, problem: str = "") -> str:
    reply: Fields = {"req_id": req_id} if req_id else {}
    reply |= {"success": not problem, "ret_msg": problem, "op": op, "conn_id": connection.id}
    return json.dumps(reply, separators=(",", ":"))
