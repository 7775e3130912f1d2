"""Which topics go on which connection, within Bybit's limits. Nothing here opens a socket."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

CATEGORIES = ("linear", "spot")
ARGS_MAX_CHARS = 21_000
"""All topics of one public connection: https://bybit-exchange.github.io/docs/v5/ws/connect"""
REQUEST_MAX_TOPICS = 10
"""Bybit's limit for spot. Linear has none, but a short request loses little when refused."""


class Plan(NamedTuple):
    """One connection: its name, its category, and the topics it carries."""

    conn: str
    category: str
    topics: tuple[str, ...]


def plan(symbols: Iterable[str], kinds: Sequence[str]) -> list[Plan]:
    """The fewest connections for every kind of topic ("orderbook.50") of every symbol.

    All topics of a symbol share a connection, so that its trades keep their order relative to
    its books. Connections are named "linear.1", "spot.1", "spot.2". Raises ValueError for a
    symbol that is not written ``category:SYMBOL``, and for kinds too long for any connection.
    """
    filling: dict[str, list[list[str]]] = {}
    for symbol in dict.fromkeys(symbols):
        category, _, name = symbol.partition(":")
        if category not in CATEGORIES or not name:
            raise ValueError(f"symbol {symbol!r}: give linear:NAME or spot:NAME")
        topics = [f"{kind}.{name}" for kind in dict.fromkeys(kinds)]
        connections = filling.setdefault(category, [[]])
        if args_chars(connections[-1]) + args_chars(topics) > ARGS_MAX_CHARS:
            connections.append([])
        connections[-1].extend(topics)
        check_args(symbol, topics)
    return [
        Plan(f"{category}.{number}", category, tuple(topics))
        for category, connections in filling.items()
        for number, topics in enumerate(connections, 1)
        if topics
    ]


def args_chars(topics: Iterable[str]) -> int:
    """Characters that the topics take in requests, each with its quotes and comma."""
    return sum(len(topic) + 3 for topic in topics)


def check_args(name: str, topics: Sequence[str]) -> None:
    """Raise ValueError if one connection cannot carry the topics."""
    chars = args_chars(topics)
    if chars > ARGS_MAX_CHARS:
        raise ValueError(
            f"{name}: {len(topics)} topics take {chars} characters, Bybit allows "
            f"{ARGS_MAX_CHARS} on a connection; spread the symbols with plan()"
        )


def requests(topics: Sequence[str]) -> list[tuple[str, ...]]:
    """The topics in the order given, cut into subscribe requests."""
    return [
        tuple(topics[start : start + REQUEST_MAX_TOPICS])
        for start in range(0, len(topics), REQUEST_MAX_TOPICS)
    ]
