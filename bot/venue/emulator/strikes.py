"""Faults on their way to a topic's next frames: armed ones, frames held back, and the mix.

What a frame fault makes of a frame is in ``faults.py``; this is who is struck, and when.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from random import Random

from msgspec import Struct

from bot.venue.emulator.faults import BOOK_ONLY, FRAME_FAULTS
from bot.venue.emulator.feed import Topic
from bot.venue.emulator.listing import VenueError

MAX_ARMED = 1000
MAX_HELD = 20_000
"""Frames of a delayed topic; with more its delay ends early."""
REORDER = "reorder"
STRIKING = (*FRAME_FAULTS, REORDER)
"""Faults of single frames; all others act on topics, connections or the whole venue."""


class Lane(Struct):
    """One topic's. ``overtaken`` waits for the next frame, ``late`` for the end of a delay."""

    armed: deque[str]
    overtaken: str | None = None
    late: list[str] | None = None


class Mix:
    """Draws faults from a seed: the same frames are struck in the same way again."""

    def __init__(self, seed: int, rate: float, weights: dict[str, float]) -> None:
        self._rng = Random(seed)  # noqa: S311  faults, not secrets
        self._rate = rate
        self._names: Sequence[str] = tuple(weights)
        self._weights = tuple(weights.values())

    def draw(self, topic: Topic) -> str | None:
        """The fault that meets the next frame of ``topic``, mostly none."""
        if self._rng.random() >= self._rate:
            return None
        (name,) = self._rng.choices(self._names, self._weights)
        if name in BOOK_ONLY and not topic[1].startswith("orderbook."):
            return None
        return name

    def between(self, least: float, most: float) -> float:
        return self._rng.uniform(least, most)


class Strikes:
    """Every topic's lane."""

    def __init__(self) -> None:
        self._lanes: dict[Topic, Lane] = {}

    def arm(self, fault: str, topic: Topic, count: int) -> None:
        """Let ``fault`` strike the next ``count`` frames of ``topic``. Raises VenueError."""
        if fault not in STRIKING:
            raise VenueError(f"no frame fault {fault!r}: there are {', '.join(STRIKING)}")
        if fault in BOOK_ONLY and not topic[1].startswith("orderbook."):
            raise VenueError(f"{fault} strikes order books only, not {topic[1]}")
        lane = self._lane(topic)
        if not 1 <= count <= MAX_ARMED - len(lane.armed):
            raise VenueError(f"count = {count}: between 1 and {MAX_ARMED} strikes can wait")
        lane.armed.extend([fault] * count)

    def delay(self, topic: Topic) -> None:
        """From here on the topic's frames are held back."""
        lane = self._lane(topic)
        if lane.late is None:
            lane.late = []

    def end_delay(self, topic: Topic) -> list[str]:
        """What was held back, in order."""
        lane = self._lanes.get(topic)
        if lane is None or lane.late is None:
            return []
        late, lane.late = lane.late, None
        return late

    def forget(self, topic: Topic) -> None:
        self._lanes.pop(topic, None)

    def next_fault(self, topic: Topic) -> str | None:
        """The armed fault whose turn it is."""
        lane = self._lanes.get(topic)
        return lane.armed.popleft() if lane is not None and lane.armed else None

    def through(
        self, topic: Topic, text: str, fault: str | None, snapshot: Callable[[], list[str]]
    ) -> list[str]:
        """What goes out now instead of ``text``."""
        lane = self._lanes.get(topic)
        if lane is None and fault != REORDER:
            return [text] if fault is None else FRAME_FAULTS[fault](text, snapshot())
        lane = lane or self._lane(topic)
        if fault == REORDER and lane.overtaken is None:
            lane.overtaken = text
            return []
        texts = [text]
        if fault is not None and fault != REORDER:
            texts = FRAME_FAULTS[fault](text, snapshot())
        if lane.overtaken is not None:
            texts.append(lane.overtaken)
            lane.overtaken = None
        if lane.late is None:
            return texts
        lane.late += texts
        return self.end_delay(topic) if len(lane.late) > MAX_HELD else []

    def _lane(self, topic: Topic) -> Lane:
        return self._lanes.setdefault(topic, Lane(deque()))


def weights_of(names: Iterable[str], known: dict[str, float]) -> dict[str, float]:
    """The chosen part of ``known``, all of it for no names. Raises VenueError."""
    chosen = tuple(names)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise VenueError(f"no fault {unknown[0]!r} in a mix: there are {', '.join(known)}")
    return {name: known[name] for name in chosen} if chosen else known
