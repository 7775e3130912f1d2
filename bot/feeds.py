"""The market streams of a run or a recording, made from the settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from bot.config_trade import Feed
from bot.inbox import Inbox
from bot.venue.address import public_url
from bot.venue.stream import MarketStream, connect_limit
from bot.venue.topics import plan

FIRST_CONNECTS = 3
"""Connects that may fail at the start before the venue counts as unreachable."""


def usual_topics(feed: Feed) -> tuple[str, ...]:
    """The kinds of topic that a paper run reads."""
    return (f"orderbook.{feed.depth}", "publicTrade", "tickers", f"kline.{feed.interval}")


def streams(
    symbols: Iterable[str], kinds: Sequence[str], feed: Feed, ws: str, inbox: Inbox
) -> list[MarketStream]:
    """The fewest connections that carry ``kinds`` of ``symbols``; ``ws`` is a network or a URL."""
    connects = connect_limit()
    return [
        MarketStream(
            public_url(ws, category),
            conn,
            category,
            topics,
            inbox,
            connects=connects,
            random=Random(),  # noqa: S311 - spreads reconnects, keeps no secret
            connect_timeout_s=feed.connect_timeout_s,
            silence_s=feed.silence_s,
            give_up_after=FIRST_CONNECTS,
        )
        for conn, category, topics in plan(symbols, kinds)
    ]
