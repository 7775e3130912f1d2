"""Plays a raw v5 capture again: its frames, at their recorded distances, to whoever subscribed.

The recording's clock starts with the first subscription. Stamps stay as recorded. What a late
subscriber needs (a full book, a full ticker) is kept current from the frames already played.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard
from msgspec import Struct

from bot.venue.emulator.feed import Outgoing, Topic
from bot.venue.emulator.listing import VenueError
from bot.venue.emulator.rest import BadParameterError, Query, Result, Routes, category_of, number

MAX_FRAMES = 2_000_000


class Recorded(Struct, frozen=True, gc=False):
    """A frame and its time since the first one."""

    after_ns: int
    topic: Topic
    text: str


class Playback:
    """A capture as a feed. Raises VenueError for a file that is no capture."""

    def __init__(self, path: Path) -> None:
        self._instruments: dict[str, list[Any]] = {}
        self._frames = self._load(path)
        self._topics = {frame.topic for frame in self._frames}
        self._next = 0
        self._wanted = False
        self._start_ns: int | None = None
        self._kept: dict[Topic, Kept] = {}

    @property
    def finished(self) -> bool:
        return self._next == len(self._frames)

    def knows(self, topic: Topic) -> bool:
        return topic in self._topics or (
            topic[0] == "linear" and topic[1].startswith("allLiquidation.")
        )

    def subscribe(self, topic: Topic) -> list[str]:
        self._wanted = True
        kept = self._kept.get(topic)
        return [kept.snapshot()] if kept else []

    def release(self, topic: Topic) -> None:
        """The recording goes on for others."""

    def restart(self, topic: Topic) -> bool:
        del topic
        return False

    def advance(self, to_ns: int) -> list[Outgoing]:
        outgoing: list[Outgoing] = []
        if not self._wanted:
            return outgoing
        if self._start_ns is None:
            self._start_ns = to_ns
        after_ns = to_ns - self._start_ns
        while not self.finished and self._frames[self._next].after_ns <= after_ns:
            frame = self._frames[self._next]
            self._next += 1
            self._keep(frame)
            outgoing.append((frame.topic, frame.text))
        return outgoing

    def routes(self) -> Routes:
        """The REST paths that a recording can answer."""
        return {
            "/v5/market/instruments-info": self._instruments_info,
            "/v5/market/kline": self._kline,
            "/v5/market/risk-limit": self._risk_limit,
        }

    def _keep(self, frame: Recorded) -> None:
        kind = frame.topic[1].partition(".")[0]
        if kind == "publicTrade":
            return
        kept = self._kept.get(frame.topic)
        if kept is None:
            kept = self._kept[frame.topic] = Kept()
        kept.apply(json.loads(frame.text))

    def _instruments_info(self, query: Query) -> Result:
        category = category_of(query)
        instruments = self._instruments.get(category)
        if instruments is None:
            raise BadParameterError(f"the capture holds no instruments of {category}")
        name = query.get("symbol")
        found = [one for one in instruments if not name or one["symbol"] == name]
        if name and not found:
            raise BadParameterError(f"params error: symbol invalid {name}")
        return {"category": category, "list": found, "nextPageCursor": ""}

    def _risk_limit(self, query: Query) -> Result:
        """A capture has no tiers."""
        return {"category": category_of(query), "list": [], "nextPageCursor": ""}

    def _kline(self, query: Query) -> Result:
        """The bars closed so far: a recording has no history."""
        category, name = category_of(query), query.get("symbol", "")
        topic = (category, f"kline.{query.get('interval', '')}.{name}")
        kept = self._kept.get(topic)
        bars = [] if kept is None else list(kept.closed.values())
        bars.reverse()
        limit = number(query, "limit", 200, 1, 1000)
        names = ("start", "open", "high", "low", "close", "volume", "turnover")
        rows = [[str(bar[field]) for field in names] for bar in bars[:limit]]
        return {"category": category, "symbol": name, "list": rows}

    def _load(self, path: Path) -> list[Recorded]:
        categories: dict[str, str] = {}
        recorded: list[tuple[float, Topic, str]] = []
        for number_, line in enumerate(_lines(path), 1):
            try:
                entry = json.loads(line)
                kind = entry["t"]
                if kind == "connect":
                    categories[entry["conn"]] = entry["addr"].rpartition("/")[2]
                elif kind == "http":
                    self._keep_answer(entry["url"], entry["data"])
                elif kind == "recv":
                    topic = _topic_of(entry["data"])
                    if topic:
                        category = categories[entry["conn"]]
                        recorded.append((entry["ts"], (category, topic), entry["data"]))
            except (ValueError, KeyError, TypeError) as error:
                raise VenueError(f"{path}, line {number_}: not a v5 capture: {error!r}") from error
            if len(recorded) > MAX_FRAMES:
                raise VenueError(f"{path} has more than {MAX_FRAMES} frames: cut it")
        if not recorded:
            raise VenueError(f"{path} has no received frames")
        recorded.sort(key=lambda frame: frame[0])  # stable: connections are merged by time
        first = recorded[0][0]
        return [Recorded(round((ts - first) * 1e9), topic, text) for ts, topic, text in recorded]

    def _keep_answer(self, url: str, text: str) -> None:
        if "/v5/market/instruments-info" in url:
            result = json.loads(text)["result"]
            self._instruments.setdefault(result["category"], []).extend(result["list"])


class Kept:
    """What one topic's frames so far add up to."""

    def __init__(self) -> None:
        self.closed: dict[int, dict[str, Any]] = {}
        self._message: dict[str, Any] = {}
        self._sides: dict[str, dict[str, str]] = {"b": {}, "a": {}}

    def apply(self, message: dict[str, Any]) -> None:
        kind = message["topic"].partition(".")[0]
        if kind == "orderbook":
            self._apply_book(message)
        elif kind == "tickers" and message["type"] == "delta":
            message["data"] = self._message.get("data", {}) | message["data"]
        elif kind == "kline":
            self.closed.update((bar["start"], bar) for bar in message["data"] if bar["confirm"])
        self._message = message

    def snapshot(self) -> str:
        """The last frame, with everything that a new subscriber does not know yet."""
        message = dict(self._message)
        if "type" in message:
            message["type"] = "snapshot"
        if message["topic"].startswith("orderbook."):
            bids, asks = (self._sides[side].items() for side in "ba")
            message["data"] = message["data"] | {
                "b": [list(level) for level in sorted(bids, key=_price, reverse=True)],
                "a": [list(level) for level in sorted(asks, key=_price)],
            }
        return json.dumps(message, separators=(",", ":"))

    def _apply_book(self, message: dict[str, Any]) -> None:
        for name, side in self._sides.items():
            if message["type"] == "snapshot":
                side.clear()
            for price, size in message["data"][name]:
                if size == "0":
                    side.pop(price, None)
                else:
                    side[price] = size


def _price(level: tuple[str, str]) -> float:
    return float(level[0])


def _topic_of(text: str) -> str | None:
    """The topic of a data frame; None for acknowledgements and pongs."""
    message = json.loads(text)
    topic = message.get("topic")
    return topic if isinstance(topic, str) else None


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a plain or zstd file, which may have several zstd frames."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(4) == zstandard.MAGIC_NUMBER.to_bytes(4, "little")
            raw.seek(0)
            if not packed:
                yield from raw
                return
            reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
            rest = b""
            while block := reader.read(1 << 20):
                *lines, rest = (rest + block).split(b"\n")
                yield from lines
            if rest:
                yield rest
    except OSError as error:
        raise VenueError(f"{path}: cannot be read: {error.strerror}") from error
    except zstandard.ZstdError as error:
        raise VenueError(f"{path}: damaged: {error}") from error
