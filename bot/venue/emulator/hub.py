"""Who listens to what: connections, their topics, and the faults between feed and socket.

The hub knows sockets only as ``Outlet``; every method is synchronous and runs in the loop.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Protocol

from msgspec import Struct

from bot.venue.emulator.commands import Connection, answer
from bot.venue.emulator.faults import FRAME_FAULTS, skewed
from bot.venue.emulator.feed import Feed, Outgoing, Topic
from bot.venue.emulator.listing import VenueError
from bot.venue.emulator.private_socket import PRIVATE, PrivateDesk
from bot.venue.emulator.strikes import STRIKING, Mix, Strikes


class Outlet(Protocol):
    """A socket as the hub sees it."""

    def send(self, text: str) -> None:
        """Queue a frame; never blocks."""

    def abort(self) -> None:
        """Cut the connection without a word."""

    def close(self, code: int) -> None:
        """Close with a close frame."""

    def truncate(self, text: str) -> None:
        """Send half of a frame, then cut the connection."""

    def choke(self, frames: int) -> None:
        """Treat the client as one that reads nothing: cut it when so many frames wait."""


class Member:
    """A connected client."""

    __slots__ = ("connection", "outlet")

    def __init__(self, connection: Connection, outlet: Outlet) -> None:
        self.connection = connection
        self.outlet = outlet


class Counts(Struct):
    """What the hub has done since it began."""

    connections: int = 0
    requests: int = 0
    frames: int = 0
    faults: int = 0


class Hub:
    """Subscriptions and delivery."""

    def __init__(self, feed: Feed, private: PrivateDesk | None = None) -> None:
        self.feed = feed
        self._private = private
        self.counts = Counts()
        self.refusing = False
        self.stalling = False
        self.moved = asyncio.Event()
        self.skew_ms = 0
        self.mix: Mix | None = None
        self.on_drawn: Callable[[str, Topic], None] = _nothing
        self._silent = False
        self._strikes = Strikes()
        self.members: dict[str, Member] = {}
        self._listeners: dict[Topic, dict[str, Member]] = {}
        self._ids = itertools.count(1)

    def join(self, category: str, outlet: Outlet) -> Member:
        self.counts.connections += 1
        member = Member(Connection(f"local-{next(self._ids):06d}", category, set()), outlet)
        self.members[member.connection.id] = member
        return member

    def leave(self, member: Member) -> None:
        if member.connection.category == PRIVATE:
            assert self._private is not None
            self._private.left(member.connection)
        else:
            self._unsubscribe(member, tuple(member.connection.topics))
        self.members.pop(member.connection.id, None)

    def request(self, member: Member, text: str) -> None:
        """Answer a client's request, then send what its new topics start with."""
        if member.connection.id not in self.members:
            return  # it left while its request was under way
        self.counts.requests += 1
        category = member.connection.category
        if category == PRIVATE:
            assert self._private is not None
            self._send(member, self._private.answer(member.connection, text))
            return
        reply = answer(member.connection, text, lambda topic: self.feed.knows((category, topic)))
        self._send(member, reply.text)
        self._unsubscribe(member, reply.unsubscribe)
        for name in reply.subscribe:
            topic = (category, name)
            member.connection.topics.add(name)
            for first in self.feed.subscribe(topic):
                for struck in self._through_mix(topic, first):
                    self._send(member, struck)
            self._listeners.setdefault(topic, {})[member.connection.id] = member

    def publish(self, outgoing: Iterable[Outgoing]) -> None:
        for topic, text in outgoing:
            listeners = self._listeners.get(topic)
            if not listeners:
                continue
            drawn = self.mix.draw(topic) if self.mix is not None else None
            fault = self._strikes.next_fault(topic) or (drawn if drawn in STRIKING else None)
            self.counts.faults += fault is not None
            for one in self._through(topic, text, fault):
                self._spread(topic, one)
            if drawn is not None and drawn not in STRIKING:
                self.on_drawn(drawn, topic)

    def deliver(self, addressed: Iterable[tuple[str, str]]) -> None:
        """Send (connection id, text) to private connections."""
        for connection_id, text in addressed:
            member = self.members.get(connection_id)
            if member is not None:
                self._send(member, text)

    def arm(self, fault: str, topic: Topic, count: int = 1) -> None:
        """Let ``fault`` strike the next ``count`` frames of a topic that somebody listens to.

        Raises VenueError for an unknown fault, and for a topic that it cannot strike.
        """
        self._must_be_live(topic)
        self._strikes.arm(fault, topic, count)

    def live_topics(self) -> list[Topic]:
        return list(self._listeners)

    def delay(self, topic: Topic) -> None:
        """Hold a topic's frames back until ``end_delay``. Raises VenueError."""
        self._must_be_live(topic)
        self.counts.faults += 1
        self._strikes.delay(topic)

    def end_delay(self, topic: Topic) -> None:
        for text in self._strikes.end_delay(topic):
            self._spread(topic, text)

    def truncate(self, topic: Topic) -> int:
        """Cut every listener in the middle of a frame: the topic's first one. How many."""
        self._must_be_live(topic)
        self.counts.faults += 1
        texts = self.feed.subscribe(topic) or ['{"topic":"' + topic[1] + '"}']
        listeners = tuple(self._listeners[topic].values())
        for member in listeners:
            member.outlet.truncate(texts[0])
        return len(listeners)

    def choke(self, category: str | None, frames: int) -> int:
        """Take clients for slow readers; returns how many."""
        members = self._of(category)
        for member in members:
            member.outlet.choke(frames)
        return len(members)

    def stall(self, stalling: bool) -> None:
        """From here on new connections are accepted and hear nothing, or are served again."""
        self.counts.faults += stalling
        self.stalling = stalling
        if not stalling:
            self.moved.set()
            self.moved = asyncio.Event()

    def skew(self, skew_ms: int) -> None:
        """From here on the venue's clock is so far ahead."""
        self.counts.faults += 1
        self.skew_ms = skew_ms

    def restart(self, topic: Topic | None) -> int:
        """Begin one book, or all live books, again at ``u`` = 1; returns how many.

        Raises VenueError if there was none.
        """
        topics = [topic] if topic else list(self._listeners)
        restarted = sum(self.feed.restart(one) for one in topics)
        if not restarted:
            raise VenueError("no live order book to restart (a capture's cannot be)")
        self.counts.faults += 1
        return restarted

    def refuse(self, refusing: bool) -> None:
        """From here on nobody gets in, or everybody again; the server asks ``refusing``."""
        self.counts.faults += refusing
        self.refusing = refusing

    def hush(self, silent: bool) -> None:
        """From here on nothing is sent, or everything again."""
        self.counts.faults += silent
        self._silent = silent

    def drop(self, category: str | None) -> int:
        """Cut connections, of one category or all; returns how many."""
        members = self._of(category)
        for member in members:
            member.outlet.abort()
        return len(members)

    def close(self, category: str | None, code: int) -> int:
        """Close connections with a code; returns how many."""
        members = self._of(category)
        for member in members:
            member.outlet.close(code)
        return len(members)

    def _of(self, category: str | None) -> list[Member]:
        self.counts.faults += 1
        return [
            member
            for member in self.members.values()
            if category is None or member.connection.category == category
        ]

    def _through(self, topic: Topic, text: str, fault: str | None) -> list[str]:
        return self._strikes.through(topic, text, fault, lambda: self.feed.subscribe(topic))

    def _through_mix(self, topic: Topic, text: str) -> list[str]:
        """A new subscriber's own first frame: armed faults wait for everybody's next."""
        drawn = self.mix.draw(topic) if self.mix is not None else None
        if drawn not in FRAME_FAULTS:
            return [text]
        self.counts.faults += 1
        return FRAME_FAULTS[drawn](text, [text])

    def _spread(self, topic: Topic, text: str) -> None:
        for member in tuple(self._listeners.get(topic, {}).values()):
            self._send(member, text)

    def _must_be_live(self, topic: Topic) -> None:
        if topic not in self._listeners:
            live = ", ".join(":".join(known) for known in self._listeners) or "none"
            raise VenueError(f"nobody listens to {':'.join(topic)}; live topics: {live}")

    def _send(self, member: Member, text: str) -> None:
        if not self._silent:
            self.counts.frames += 1
            member.outlet.send(skewed(text, self.skew_ms) if self.skew_ms else text)

    def _unsubscribe(self, member: Member, names: tuple[str, ...]) -> None:
        for name in names:
            topic = (member.connection.category, name)
            member.connection.topics.discard(name)
            listeners = self._listeners.get(topic, {})
            listeners.pop(member.connection.id, None)
            if not listeners and topic in self._listeners:
                del self._listeners[topic]
                self._strikes.forget(topic)
                self.feed.release(topic)


def _nothing(fault: str, topic: Topic) -> None:
    """Nobody makes the faults that a mix draws."""
    del fault, topic
