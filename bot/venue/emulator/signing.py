"""Who is asking: Bybit's signatures over REST requests and over a private socket's ``auth``.

https://bybit-exchange.github.io/docs/v5/guide#authentication
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from bot.venue.emulator.codes import Refused

DEMO_KEY = "demo-key"
DEMO_SECRET = "demo-secret"  # noqa: S105  opens nothing but a market on this machine
EARLY_MS = 1000
"""How far ahead of the venue's clock a request may be stamped."""
_WINDOW_DEFAULT_MS = 5000


def signature(secret: str, text: str) -> str:
    """HMAC SHA256 as lower-case hex."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def check_request(
    headers: Mapping[str, str], payload: str, secrets: Mapping[str, str], now_ms: int
) -> str:
    """The API key that signed a request; ``payload`` is its raw query string or body.

    ``headers`` must be case-insensitive. Raises Refused with 10001, 10002, 10003 or 10004.
    """
    key = headers.get("X-BAPI-API-KEY", "")
    if key not in secrets:
        raise Refused(10003)
    window = headers.get("X-BAPI-RECV-WINDOW", "")
    stamp_ms = _integer(headers.get("X-BAPI-TIMESTAMP", ""), "X-BAPI-TIMESTAMP")
    window_ms = _integer(window, "X-BAPI-RECV-WINDOW") if window else _WINDOW_DEFAULT_MS
    if not now_ms - window_ms <= stamp_ms < now_ms + EARLY_MS:
        raise Refused(
            10002,
            "invalid request, please check your server timestamp or recv_window param. "
            f"req_timestamp[{stamp_ms}],server_timestamp[{now_ms}],recv_window[{window_ms}]",
        )
    origin = f"{stamp_ms}{key}{window}{payload}"
    given = headers.get("X-BAPI-SIGN", "")
    if not hmac.compare_digest(signature(secrets[key], origin).encode(), given.encode()):
        raise Refused(10004, f"error sign! origin_string[{origin}]")
    return key


def check_auth(args: Any, secrets: Mapping[str, str], now_ms: int) -> str:
    """The API key of an ``auth`` request's ``[key, expires_ms, signature]``.

    https://bybit-exchange.github.io/docs/v5/ws/connect#authentication. Raises Refused.
    """
    match args:
        case [str(key), int(expires_ms) | str(expires_ms), str(given)]:
            pass
        case _:
            raise Refused(10001, "Params Error")
    if key not in secrets:
        raise Refused(10003)
    if _integer(str(expires_ms), "expires") <= now_ms:
        raise Refused(10002, f"Params Error: expires[{expires_ms}] is past, now[{now_ms}]")
    wanted = signature(secrets[key], f"GET/realtime{expires_ms}")
    if not hmac.compare_digest(wanted.encode(), given.encode()):
        raise Refused(10004, "error sign!")
    return key


def _integer(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise Refused(10001, f"params error: {name} is invalid")
    return int(text)
