"""``POST /control/fault``: breaks the venue on purpose. The venue listens on loopback only.

A fault is one object, for example ``{"fault": "gap", "topic": "linear:orderbook.50.BTCUSDT"}``.
``GET /control/faults`` lists the names, ``GET /control/counts`` what has happened so far.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from bot.venue.emulator.faults import FRAME_FAULTS
from bot.venue.emulator.feed import Topic
from bot.venue.emulator.hub import Hub
from bot.venue.emulator.limits import AddressGuard
from bot.venue.emulator.listing import VenueError
from bot.venue.emulator.private_socket import PRIVATE
from bot.venue.emulator.rest import CATEGORIES

MAX_SECONDS = 3600.0
_CODES = range(1000, 1016)


class FaultRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What a caller may say; each fault reads what it needs.

    ``topic`` is ``category:topic``; without it ``restart`` means every live book. ``category``
    limits ``drop`` and ``close``; without it they mean every connection.
    """

    fault: str
    topic: str | None = None
    category: str | None = None
    count: int = 1
    code: int = 1012
    seconds: float = 1.0


class Control:
    """The table of faults over one hub; each entry returns what it did."""

    def __init__(self, hub: Hub, addresses: AddressGuard) -> None:
        self._hub = hub
        self._addresses = addresses
        self._faults: dict[str, Callable[[FaultRequest], dict[str, Any]]] = {
            **dict.fromkeys(FRAME_FAULTS, self._strike),
            "restart": self._restart,
            "drop": self._drop,
            "close": self._close,
            "outage": self._outage,
            "silence": self._silence,
            "pardon": self._pardon,
        }

    def add_to(self, application: web.Application) -> None:
        application.router.add_post("/control/fault", self._post)
        application.router.add_get("/control/faults", self._list)
        application.router.add_get("/control/counts", self._counts)

    def cause(self, request: FaultRequest) -> dict[str, Any]:
        """Make one fault happen. Raises VenueError for one that cannot."""
        fault = self._faults.get(request.fault)
        if fault is None:
            raise VenueError(f"no fault {request.fault!r}: there are {', '.join(self._faults)}")
        return {"fault": request.fault, **fault(request)}

    async def _post(self, request: web.Request) -> web.Response:
        try:
            done = self.cause(msgspec.json.decode(await request.read(), type=FaultRequest))
        except (VenueError, msgspec.DecodeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(done)

    async def _list(self, request: web.Request) -> web.Response:
        del request
        return web.json_response(list(self._faults))

    async def _counts(self, request: web.Request) -> web.Response:
        del request
        return web.json_response(msgspec.to_builtins(self._hub.counts))

    def _strike(self, request: FaultRequest) -> dict[str, Any]:
        topic = _topic(request)
        if topic is None:
            raise VenueError(f"{request.fault} needs a topic, as linear:orderbook.50.BTCUSDT")
        self._hub.arm(request.fault, topic, request.count)
        return {"topic": request.topic, "armed": request.count}

    def _restart(self, request: FaultRequest) -> dict[str, Any]:
        return {"books": self._hub.restart(_topic(request))}

    def _drop(self, request: FaultRequest) -> dict[str, Any]:
        return {"connections": self._hub.drop(_category(request))}

    def _close(self, request: FaultRequest) -> dict[str, Any]:
        if request.code not in _CODES:
            raise VenueError(f"code = {request.code}: a close code is 1000 to 1015")
        return {"connections": self._hub.close(_category(request), request.code)}

    def _outage(self, request: FaultRequest) -> dict[str, Any]:
        """Every connection is cut and nothing but this path answers for ``seconds``."""
        asyncio.get_running_loop().call_later(_seconds(request), self._hub.refuse, False)
        self._hub.refuse(True)
        return {"connections": self._hub.drop(None), "seconds": request.seconds}

    def _silence(self, request: FaultRequest) -> dict[str, Any]:
        """Connections stay open and say nothing for ``seconds``; what was due is lost."""
        asyncio.get_running_loop().call_later(_seconds(request), self._hub.hush, False)
        self._hub.hush(True)
        return {"seconds": request.seconds}

    def _pardon(self, request: FaultRequest) -> dict[str, Any]:
        """Not a fault: end every ban of an address that asked too often."""
        del request
        return {"addresses": self._addresses.pardon()}


def _topic(request: FaultRequest) -> Topic | None:
    if request.topic is None:
        return None
    category, colon, name = request.topic.partition(":")
    if not colon or category not in CATEGORIES:
        raise VenueError(f"topic = {request.topic!r}: write linear:TOPIC or spot:TOPIC")
    return category, name


def _category(request: FaultRequest) -> str | None:
    if request.category is not None and request.category not in (*CATEGORIES, PRIVATE):
        raise VenueError(f"category = {request.category!r}: there are linear, spot and private")
    return request.category


def _seconds(request: FaultRequest) -> float:
    if not 0 < request.seconds <= MAX_SECONDS:
        raise VenueError(f"seconds = {request.seconds}: more than 0, at most {MAX_SECONDS:g}")
    return request.seconds
