"""What a market of files lacks beside its events: ticks, a beginning, an end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bot.core.events import Command, Fees, Input, Instrument, Tick
from bot.run import WARMUP


def with_ticks(inputs: Iterable[Input], every_ns: int) -> Iterator[Input]:
    """A ``Tick`` at every whole multiple of ``every_ns``, behind what has happened by then."""
    due = 0
    for item in inputs:
        if item.ts > due:
            if due:
                yield Tick(due)
            due = -(-item.ts // every_ns) * every_ns
        yield item
    if due:
        yield Tick(due)


def between(
    inputs: Iterable[Input], start_ns: int | None, end_ns: int | None, history_ns: int
) -> Iterator[Input]:
    """The inputs before ``end_ns``; those before ``start_ns`` with trading paused.

    What lies more than ``history_ns`` before the start is left out, but for rules and fees.
    """
    if start_ns is None and end_ns is None:
        return iter(inputs)
    return _between(inputs, start_ns, end_ns, history_ns)


def _between(
    inputs: Iterable[Input], start_ns: int | None, end_ns: int | None, history_ns: int
) -> Iterator[Input]:
    is_paused = False
    for item in inputs:
        if type(item) is Instrument or type(item) is Fees:
            yield item
            continue
        if end_ns is not None and item.ts >= end_ns:
            break
        if start_ns is not None:
            if item.ts < start_ns - history_ns:
                continue
            if item.ts < start_ns and not is_paused:
                is_paused = True
                yield Command(item.ts, "pause", WARMUP)
            elif item.ts >= start_ns and is_paused:
                is_paused, start_ns = False, None
                yield Command(item.ts, "resume", WARMUP)
        yield item
