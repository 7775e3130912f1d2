"""The signed half of the REST server: who asks, how often, and what for.

Each answer carries the rate-limit headers of its key and path.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from bot.venue.emulator.clearing import Clearing
from bot.venue.emulator.codes import TEXTS, Refused
from bot.venue.emulator.limits import RollingLimits
from bot.venue.emulator.order_requests import Body
from bot.venue.emulator.private_rest import Answer, PrivateAnswers
from bot.venue.emulator.rest import envelope, refusal
from bot.venue.emulator.signing import check_request


class PrivateGate:
    """Checks and answers signed requests.

    ``clock_ns`` is the market's time, ``now_ms`` what the venue says it is, for the signatures.
    """

    def __init__(
        self,
        clearing: Clearing,
        secrets: Mapping[str, str],
        clock_ns: Callable[[], int],
        now_ms: Callable[[], int],
    ) -> None:
        self._clearing = clearing
        self._secrets = secrets
        self._clock_ns = clock_ns
        self._now_ms = now_ms
        self._limits = RollingLimits()
        self._routes = PrivateAnswers(clearing).routes()

    def add_to(self, application: web.Application) -> None:
        for method, path in self._routes:
            application.router.add_route(method, path, self._serve)

    async def _serve(self, request: web.Request) -> web.Response:
        raw = await request.read()
        answer = self._routes[request.method, request.path]  # type: ignore[index]
        body, headers = self._answer(request, answer, raw)
        return web.Response(
            body=msgspec.json.encode(body),
            content_type="application/json",
            headers=headers,
        )

    def _answer(
        self, request: web.Request, answer: Answer, raw: bytes
    ) -> tuple[dict[str, Any], dict[str, str]]:
        now_ms = self._now_ms()
        headers: dict[str, str] = {}
        # As it was sent: a query that was decoded and encoded again has another signature.
        payload = raw.decode("utf-8", "replace")
        if request.method == "GET":
            payload = request.raw_path.partition("?")[2]
        try:
            key = check_request(request.headers, payload, self._secrets, now_ms)
            body = dict(request.query) if request.method == "GET" else _body(payload)
            category = str(body.get("category", ""))
            allowance = self._limits.take(key, request.path, category, now_ms)
            headers = allowance.headers()
            if not allowance.ok:
                return refusal(10006, TEXTS[10006], now_ms), headers
            result = answer(self._clearing.accounts[key], body, self._clock_ns())
        except Refused as refused:
            return refusal(refused.code, refused.text, now_ms), headers
        return envelope(result, now_ms), headers


def _body(text: str) -> Body:
    try:
        body = json.loads(text)
    except ValueError as error:
        raise Refused(10001, "params error: the body is not valid JSON") from error
    if not isinstance(body, dict):
        raise Refused(10001, "params error: the body is not an object")
    return body
