"""What the codec remembers between two inputs, as structs: its connections, topics and counts."""
# ruff: noqa: SLF001 - a state is what others may not see; this one file may.

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from bot.core.events import Ticker
from bot.venue.wire import Codec, Topic


class SavedTopic(Struct):
    kind: str
    symbol: str
    depth: int
    is_live: bool
    u: int
    ticker: Ticker | None
    waiting_since: int


class SavedCodec(Struct):
    """All but ``problems``, which are for the log alone."""

    frames: int
    counts: dict[str, int]
    _categories: dict[str, str]
    _topics: dict[str, dict[str, SavedTopic]]


def save(codec: Codec) -> SavedCodec:
    """The state between two inputs; it shares nothing that changes with the codec."""
    topics = {
        conn: {text: _saved(topic) for text, topic in topics.items()}
        for conn, topics in codec._topics.items()
    }
    return SavedCodec(codec.frames, dict(codec.counts), dict(codec._categories), topics)


def restore(codec: Codec, saved: SavedCodec) -> None:
    """Put a saved state into a fresh codec."""
    codec.frames = saved.frames
    codec.counts = Counter(saved.counts)
    codec._categories = saved._categories
    codec._topics = {
        conn: {text: _topic(each) for text, each in topics.items()}
        for conn, topics in saved._topics.items()
    }


def _saved(topic: Topic) -> SavedTopic:
    return SavedTopic(*(getattr(topic, name) for name in SavedTopic.__struct_fields__))


def _topic(saved: SavedTopic) -> Topic:
    topic = Topic(saved.kind, saved.symbol, saved.depth)
    for name in SavedTopic.__struct_fields__:
        setattr(topic, name, getattr(saved, name))
    return topic
