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

from bot.venue.emulator.feed import Topic
from bot.venue.emulator.hub import Hub
from bot.venue.emulator.limits import AddressGuard
from bot.venue.emulator.listing import VenueError
from bot.venue.emulator.private_socket import PRIVATE
from bot.venue.emulator.rest import CATEGORIES
from bot.venue.emulator.strikes import STRIKING, Mix, weights_of

MAX_SECONDS = 3600.0
_CODES = range(1000, 1016)


class FaultRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What a caller may say; each fault reads what it needs.

    ``topic`` is ``category:topic``; without it ``restart`` and ``delay`` mean every live book or
    topic. ``category`` limits faults of connections; without it they mean every connection.
    """

    fault: str
    topic: str | None = None
    category: str | None = None
    count: int = 1
    code: int = 1012
    seconds: float = 1.0
    frames: int = 200
    seed: int = 1
    rate: float = 0.01
    only: list[str] = []


MIXED = {
    **dict.fromkeys(STRIKING, 1.0),
    **dict.fromkeys(("restart", "delay", "truncate", "drop", "close", "slow_consumer"), 0.3),
    **dict.fromkeys(("silence", "half_open", "outage", "skew"), 0.1),
}
"""What a mix draws from, and how often each relative to the others."""
_MIX_SKEW_S = 5.0


class Control:
    """The table of faults over one hub; each entry returns what it did."""

    def __init__(self, hub: Hub, addresses: AddressGuard) -> None:
        self._hub = hub
        self._addresses = addresses
        self._faults: dict[str, Callable[[FaultRequest], dict[str, Any]]] = {
            **dict.fromkeys(STRIKING, self._strike),
            "delay": self._delay,
            "truncate": self._truncate,
            "restart": self._restart,
            "drop": self._drop,
            "close": self._close,
            "slow_consumer": self._slow_consumer,
            "half_open": self._half_open,
            "outage": self._outage,
            "silence": self._silence,
            "skew": self._skew,
            "mix": self._mix,
            "pardon": self._pardon,
        }
        self._mixed_s = 1.0
        hub.on_drawn = self._drawn

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

    def _delay(self, request: FaultRequest) -> dict[str, Any]:
        """A topic's frames come late by ``seconds``, all at once and in order; or all topics'."""
        topic = _topic(request)
        topics = [topic] if topic is not None else self._hub.live_topics()
        seconds = _seconds(request)
        for each in topics:
            self._hub.delay(each)
            asyncio.get_running_loop().call_later(seconds, self._hub.end_delay, each)
        return {"topics": len(topics), "seconds": seconds}

    def _truncate(self, request: FaultRequest) -> dict[str, Any]:
        topic = _topic(request)
        if topic is None:
            raise VenueError("truncate needs a topic, as linear:orderbook.50.BTCUSDT")
        return {"connections": self._hub.truncate(topic)}

    def _slow_consumer(self, request: FaultRequest) -> dict[str, Any]:
        """The venue takes its clients for slow ones: it cuts each when ``frames`` wait for it."""
        if request.frames < 1:
            raise VenueError(f"frames = {request.frames}: at least 1")
        return {"connections": self._hub.choke(_category(request), request.frames)}

    def _half_open(self, request: FaultRequest) -> dict[str, Any]:
        """For ``seconds`` new connections are accepted and hear nothing, then are cut."""
        asyncio.get_running_loop().call_later(_seconds(request), self._hub.stall, False)
        self._hub.stall(True)
        return {"seconds": request.seconds}

    def _skew(self, request: FaultRequest) -> dict[str, Any]:
        """The venue's clock is ``seconds`` ahead, or behind if negative, until set to 0."""
        if not -MAX_SECONDS <= request.seconds <= MAX_SECONDS:
            raise VenueError(f"seconds = {request.seconds}: at most {MAX_SECONDS:g} either way")
        self._hub.skew(round(request.seconds * 1000))
        return {"seconds": request.seconds}

    def _mix(self, request: FaultRequest) -> dict[str, Any]:
        """From here on each frame meets a fault with probability ``rate``; 0 ends it.

        ``only`` names the faults to draw from; those that last do so for ``seconds``.
        """
        if not 0 <= request.rate <= 1:
            raise VenueError(f"rate = {request.rate}: a probability, from 0 to 1")
        weights = weights_of(request.only, MIXED)
        self._mixed_s = _seconds(request)
        self._hub.mix = Mix(request.seed, request.rate, weights) if request.rate else None
        return {"seed": request.seed, "rate": request.rate, "faults": list(weights)}

    def _drawn(self, fault: str, topic: Topic) -> None:
        """A mix has drawn a fault that is more than a frame's."""
        mix = self._hub.mix
        assert mix is not None
        seconds = self._mixed_s
        if fault == "skew":
            seconds = mix.between(-_MIX_SKEW_S, _MIX_SKEW_S)
        code = 1000 if mix.between(0, 1) < 0.5 else 1012
        name = ":".join(topic)
        if fault == "restart" and not topic[1].startswith("orderbook."):
            return
        if fault == "half_open":  # nobody would notice without having to connect again
            self._hub.drop(topic[0])
        self._faults[fault](
            FaultRequest(fault, topic=name, seconds=seconds, code=code, category=topic[0])
        )

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
