"""What a client may say on a public socket, and the venue's answers. No sockets here.

Texts as Bybit sends them where they are known: failed requests change nothing at all.
https://bybit-exchange.github.io/docs/v5/ws/connect
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from msgspec import Struct

MAX_SPOT_ARGS = 10
MAX_ARGS_CHARS = 21_000
"""All topics of a connection together."""


class Answer(Struct, frozen=True):
    """The text to send back, and the topics that it adds to or removes from the connection."""

    text: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()


class Connection(Struct):
    """What the answers depend on."""

    id: str
    category: str
    topics: set[str]


def answer(connection: Connection, text: str, knows: Callable[[str], bool]) -> Answer:
    """Answer one request; ``knows`` says whether the category has a topic."""
    try:
        request = json.loads(text)
    except ValueError:
        return _failure(connection, "", "", "error:request is not valid JSON")
    if not isinstance(request, dict):
        return _failure(connection, "", "", "error:request is not an object")
    op, req_id = str(request.get("op", "")), str(request.get("req_id", ""))
    if op == "ping":
        return Answer(_pong(connection, req_id))
    if op not in {"subscribe", "unsubscribe"}:
        return _failure(connection, op, req_id, "error:invalid op")
    problem = _problem(connection, op, request.get("args"), knows)
    if problem:
        return _failure(connection, op, req_id, problem)
    topics = tuple(dict.fromkeys(request["args"]))
    ok = _reply(connection, op, req_id, success=True, ret_msg=_success(connection, op))
    if op == "subscribe":
        return Answer(ok, subscribe=topics)
    return Answer(ok, unsubscribe=topics)


def _problem(
    connection: Connection, op: str, args: Any, knows: Callable[[str], bool]
) -> str | None:
    """Why a (un)subscription fails, in the venue's words; None if it does not."""
    if not isinstance(args, list) or not all(isinstance(topic, str) for topic in args):
        return "error:args must be a list of topics"
    if not args:
        return "error:args is empty"
    if connection.category == "spot" and len(args) > MAX_SPOT_ARGS:
        return f"args size >{MAX_SPOT_ARGS}"
    if op == "subscribe" and sum(map(len, [*connection.topics, *args])) > MAX_ARGS_CHARS:
        return f"error:args of the connection exceed {MAX_ARGS_CHARS} characters"
    for topic in args:
        if not knows(topic):
            return f"error:handler not found,topic:{topic}"
        if op == "subscribe" and topic in connection.topics:
            return f"error:already subscribed,topic:{topic}"
    return None


def _success(connection: Connection, op: str) -> str:
    return op if connection.category == "spot" else ""


def _failure(connection: Connection, op: str, req_id: str, ret_msg: str) -> Answer:
    return Answer(_reply(connection, op, req_id, success=False, ret_msg=ret_msg))


def _pong(connection: Connection, req_id: str) -> str:
    """Spot's pong has no ``req_id``."""
    req_id = "" if connection.category == "spot" else req_id
    return _reply(connection, "ping", req_id, success=True, ret_msg="pong")


def _reply(connection: Connection, op: str, req_id: str, *, success: bool, ret_msg: str) -> str:
    """Futures echo an empty ``req_id`` in acknowledgements; spot leaves it out."""
    reply: dict[str, object] = {
        "success": success,
        "ret_msg": ret_msg,
        "conn_id": connection.id,
    }
    if req_id or (connection.category != "spot" and op != "ping"):
        reply["req_id"] = req_id
    reply["op"] = op
    # The venue's encoder escapes these three, as Go's does.
    text = json.dumps(reply, separators=(",", ":"))
    return text.replace(">", "\\u003e").replace("<", "\\u003c").replace("&", "\\u0026")
