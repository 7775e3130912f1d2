"""What can be made of a frame, as one table; ``POST /control/fault`` and tests arm it.

These faults are functions from the next frame of a topic to the frames that go out instead;
``strikes.py`` says whom they strike, and those that act on connections are in ``hub.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

FrameFault: TypeAlias = Callable[[str, list[str]], list[str]]
"""(the frame that was due, what a new subscriber would get now) -> what goes out instead."""


_STAMPS = re.compile(r'"(ts|cts|T|timestamp|creationTime|updatedTime|execTime)":("?)(\d{13})')
_CROSSED_SPREADS = 200
_NAMES_AND_TIMES = frozenset({"s", "symbol", "start", "end", "interval", "i", "T"})


def _gap(frame: str, snapshot: list[str]) -> list[str]:
    """The frame never arrives: the next one's ``u`` is one too high."""
    del frame, snapshot
    return []


def _duplicate(frame: str, snapshot: list[str]) -> list[str]:
    del snapshot
    return [frame, frame]


def _malformed(frame: str, snapshot: list[str]) -> list[str]:
    """Half a text in a whole frame; the other half is lost."""
    del snapshot
    return [frame[: len(frame) // 2]]


def _unknown_topic(frame: str, snapshot: list[str]) -> list[str]:
    """A topic that nobody subscribed to comes first."""
    del snapshot
    return ['{"topic":"mystery.1.XYZUSDT","type":"snapshot","ts":0,"data":{}}', frame]


def _null_field(frame: str, snapshot: list[str]) -> list[str]:
    """The first field of the payload that is more than a name or a time becomes null."""
    del snapshot
    message = json.loads(frame)
    data = message["data"][0] if isinstance(message["data"], list) else message["data"]
    data[next(name for name in data if name not in _NAMES_AND_TIMES)] = None
    return [_text(message)]


def _null_data(frame: str, snapshot: list[str]) -> list[str]:
    del snapshot
    message = json.loads(frame)
    message["data"] = None
    return [_text(message)]


def _crossed(frame: str, snapshot: list[str]) -> list[str]:
    """The frame also brings a bid above the best ask, and no later delta removes it."""
    now = json.loads(snapshot[0])["data"]
    (best_ask, size), best_bid = now["a"][0], now["b"][0][0]
    # Far above: the snapshot may be some frames newer than the frame that is struck.
    above = Decimal(best_ask) + _CROSSED_SPREADS * (Decimal(best_ask) - Decimal(best_bid))
    message = json.loads(frame)
    bids = message["data"]["b"]
    bids.insert(0, [str(above), size])
    if message["topic"].startswith("orderbook.1."):
        del bids[1:]
    return [_text(message)]


FRAME_FAULTS: dict[str, FrameFault] = {
    "gap": _gap,
    "duplicate": _duplicate,
    "malformed": _malformed,
    "unknown_topic": _unknown_topic,
    "null_field": _null_field,
    "null_data": _null_data,
    "crossed": _crossed,
}
"""By name; each strikes the next frames of one topic."""
BOOK_ONLY = frozenset({"crossed"})


def skewed(text: str, skew_ms: int) -> str:
    """The frame as a venue would write it whose clock is ``skew_ms`` ahead."""
    return _STAMPS.sub(lambda m: f'"{m[1]}":{m[2]}{int(m[3]) + skew_ms}', text)


def _text(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))
