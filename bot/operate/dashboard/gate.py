"""Who gets in: the token, the host's name, the origin, and the size of what is sent.

Every request passes here first. Without the token every path answers 401, but for the form that
takes it. A command needs more: a browser's request must come from this very page.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs, urlsplit

from bot.operate.serving import LOOPBACK, App, Receive, Scope, Send

BODY_MAX_BYTES: Final = 2_048
CSRF_HEADER: Final = b"x-kvtrader"
_STYLE: Final = (
    "body{font:16px system-ui;max-width:22rem;margin:20vh auto;padding:0 1rem}"
    "input,button{font:inherit;padding:.5rem;width:100%;box-sizing:border-box;margin:.3rem 0}"
)
_STYLE_HASH: Final = hashlib.sha256(_STYLE.encode()).digest()
_FORM: Final = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>kvtrader</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>{_STYLE}</style><h1>kvtrader</h1><p>The address that the bot printed when it started has the
token in it. Open that, or paste the token here.</p><form method="post" action="/login">
<input name="token" type="password" aria-label="token" autocomplete="current-password" autofocus>
<button>Open</button></form></html>"""
_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'{style}; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)


class Gate:
    """An ASGI app in front of ``app``. ``names`` are hosts by which it may be called, besides
    those of this machine."""

    def __init__(self, app: App, *, token: str, port: int, names: tuple[str, ...] = ()) -> None:
        self._app = app
        self._token = hashlib.sha256(token.encode()).digest()
        # What the browser keeps is of no use as a token, and dies with it.
        self._session = hmac.new(token.encode(), b"session", hashlib.sha256).hexdigest()
        self._cookie = f"kvtrader_{port}"
        self._names = LOOPBACK | {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} here")
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if _name_of(host) not in self._names:
            await _answer(send, 400, f"unknown host {host[:100]!r}: see dashboard.names\n")
        elif scope["path"] == "/login" and scope["method"] == "POST":
            await self._login(scope, headers, receive, send)
        elif scope["path"] == "/" and b"token=" in scope["query_string"]:
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            await self._admit(scope, given, send)
        elif not self._is_known(headers):
            await _answer(send, 401, _FORM if scope["path"] == "/" else "the token is missing\n")
        elif scope["method"] not in ("GET", "HEAD") and not self._is_own(headers, host):
            await _answer(send, 403, "not from this page\n")
        elif _is_too_long(headers):
            await _answer(send, 413, f"at most {BODY_MAX_BYTES} bytes\n")
        else:
            await self._app(scope, receive, _with_headers(send))

    async def _login(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        body = None if _is_too_long(headers) else await read_body(receive)
        if body is None:
            await _answer(send, 413, f"at most {BODY_MAX_BYTES} bytes\n")
            return
        await self._admit(scope, parse_qs(body.decode("latin-1")).get("token", [""])[0], send)

    async def _admit(self, scope: Scope, given: str, send: Send) -> None:
        """Trade the token for a cookie, and lead to a page without it in the address."""
        if not self._is_token(given):
            await _answer(send, 401, _FORM)
            return
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        cookie = f"{self._cookie}={self._session}; Path=/; HttpOnly; SameSite=Strict{secure}"
        await _answer(send, 303, "", (b"location", b"/"), (b"set-cookie", cookie.encode()))

    def _is_known(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() == "bearer":
            return self._is_token(given.strip())
        try:
            cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            return False
        morsel = cookies.get(self._cookie)
        return morsel is not None and hmac.compare_digest(
            morsel.value.encode(), self._session.encode()
        )

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(hashlib.sha256(given.encode()).digest(), self._token)

    def _is_own(self, headers: dict[bytes, bytes], host: str) -> bool:
        """Whether no other site made the browser send this. Only our own page (or a tool) can set
        the header; the browser itself says where a request is from."""
        if headers.get(CSRF_HEADER) is None:
            return False
        if headers.get(b"sec-fetch-site", b"same-origin") != b"same-origin":
            return False
        origin = headers.get(b"origin")
        if origin is None:
            return b"authorization" in headers
        return urlsplit(origin.decode("latin-1")).netloc.lower() == host.lower()


async def read_body(receive: Receive) -> bytes | None:
    """The body of a request, None where it is too long."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > BODY_MAX_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _name_of(host: str) -> str:
    """``127.0.0.1`` of ``127.0.0.1:8787``; "" for what is no host."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_too_long(headers: dict[bytes, bytes]) -> bool:
    length = headers.get(b"content-length", b"0")
    return not length.isdigit() or int(length) > BODY_MAX_BYTES


async def _answer(
    send: Send, status: int, text: str, *more: tuple[bytes, bytes]
) -> None:  # fmt: skip
    kind = b"text/html" if text.startswith("<") else b"text/plain"
    headers = [
        (b"content-type", kind + b"; charset=utf-8"),
        (b"content-length", str(len(text.encode())).encode()),
        (b"connection", b"close"),
        *_security(with_form=True),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


def _with_headers(send: Send) -> Send:
    security = _security()

    async def sending(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))  # type: ignore[call-overload]
            message = {**message, "headers": [*headers, *security]}
        await send(message)

    return sending  # type: ignore[return-value]


def _security(*, with_form: bool = False) -> list[tuple[bytes, bytes]]:
    style = f" 'sha256-{base64.b64encode(_STYLE_HASH).decode()}'" if with_form else ""
    policy = _CSP.format(style=style).encode()
    return [*_ALWAYS, (b"content-security-policy", policy), (b"cache-control", b"no-store")]
