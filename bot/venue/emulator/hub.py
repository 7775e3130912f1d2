"""Who listens to what: connections, their topics, and the faults between feed and socket.

The hub knows sockets only as ``Outlet``; every method is synchronous and runs in the loop.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from bot.venue.emulator.commands import Connection, answer
from bot.venue.emulator.faults import BOOK_ONLY, FRAME_FAULTS, FrameFault
from bot.venue.emulator.feed import Feed, Outgoing, Topic
from bot.venue.emulator.listing import VenueError
from bot.venue.emulator.private_socket import PRIVATE, PrivateDesk

MAX_ARMED = 1000


class Outlet(Protocol):
    """A socket as the hub sees it."""

    def send(self, text: str) -> None:
        """Queue a frame; never blocks."""

    def abort(self) -> None:
        """Cut the connection without a word."""

    def close(self, code: int) -> None:
        """Close with a close frame."""


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
        self._silent = False
        self.members: dict[str, Member] = {}
        self._listeners: dict[Topic, dict[str, Member]] = {}
        self._armed: dict[Topic, deque[FrameFault]] = {}
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
                self._send(member, first)
            self._listeners.setdefault(topic, {})[member.connection.id] = member

    def publish(self, outgoing: Iterable[Outgoing]) -> None:
        for topic, text in outgoing:
            listeners = self._listeners.get(topic)
            if not listeners:
                continue
            texts = self._struck(topic, text) if topic in self._armed else [text]
            for one in texts:
                for member in tuple(listeners.values()):
                    self._send(member, one)

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
        if fault not in FRAME_FAULTS:
            raise VenueError(f"no frame fault {fault!r}: there are {', '.join(FRAME_FAULTS)}")
        if topic not in self._listeners:
            live = ", ".join(":".join(known) for known in self._listeners) or "none"
            raise VenueError(f"nobody listens to {':'.join(topic)}; live topics: {live}")
        if fault in BOOK_ONLY and not topic[1].startswith("orderbook."):
            raise VenueError(f"{fault} strikes order books only, not {topic[1]}")
        queue = self._armed.setdefault(topic, deque())
        if not 1 <= count <= MAX_ARMED - len(queue):
            raise VenueError(f"count = {count}: between 1 and {MAX_ARMED} strikes can wait")
        queue.extend([FRAME_FAULTS[fault]] * count)

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

    def _struck(self, topic: Topic, text: str) -> list[str]:
        queue = self._armed[topic]
        fault = queue.popleft()
        if not queue:
            del self._armed[topic]
        self.counts.faults += 1
        return fault(text, self.feed.subscribe(topic))

    def _send(self, member: Member, text: str) -> None:
        if not self._silent:
            self.counts.frames += 1
            member.outlet.send(text)

    def _unsubscribe(self, member: Member, names: tuple[str, ...]) -> None:
        for name in names:
            topic = (member.connection.category, name)
            member.connection.topics.discard(name)
            listeners = self._listeners.get(topic, {})
            listeners.pop(member.connection.id, None)
            if not listeners and topic in self._listeners:
                del self._listeners[topic]
                self._armed.pop(topic, None)
                self.feed.release(topic)
