"""Does any decision depend on the future? The run again, with the future cut off."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from msgspec.structs import replace

from bot import build
from bot.backtest import predicted
from bot.backtest_market import BacktestOptions, Market, market
from bot.config import Settings
from bot.core.events import Event, Fact, Input
from bot.ledger.digest import line_of
from bot.run import Memory, Run

CUTS = 5


class _Timed(Memory):
    """Keeps every fact's line with the local time of the step that made it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, bytes]] = []

    def add(self, position: int, event: Event | None, facts: Sequence[Fact]) -> None:
        super().add(position, event, facts)
        if event is not None:
            self.lines += [(event.ts, line_of(fact)) for fact in facts]


def check(
    settings: Settings,
    options: BacktestOptions,
    *,
    is_chosen: bool,
    cuts: int = CUTS,
    seed: int = 1,
) -> dict[str, Any]:
    """Compare every fact before each of ``cuts`` random times with a run that ends there.

    Only the input is cut, before anything reads it ahead. Raises what a backtest raises.
    """
    found = market(settings, options, is_chosen=is_chosen)
    whole, stamps = _run(found, None)
    random = Random(seed)  # noqa: S311 - picks places, keeps no secret
    first, last = stamps
    result: dict[str, Any] = {"ok": True, "facts": len(whole), "cuts": []}
    for _ in range(cuts if last > first else 0):
        cut = random.randrange(first, last)
        shorter, _ = _run(found, cut)
        before = [line for ts, line in whole if ts < cut]
        again = [line for ts, line in shorter if ts < cut]
        result["cuts"].append(cut)
        if before != again:
            pairs = itertools.zip_longest(before, again)
            place, pair = next((n, pair) for n, pair in enumerate(pairs) if pair[0] != pair[1])
            result |= {
                "ok": False, "cut": cut, "fact": place,
                "with_the_future": _text(pair[0]), "without": _text(pair[1]),
            }  # fmt: skip
            break
    return result


def _run(found: Market, end_ns: int | None) -> tuple[list[tuple[int, bytes]], tuple[int, int]]:
    """Facts of a run over the inputs before ``end_ns``, and the first and last time seen."""
    sink = _Timed()
    run = Run(build.engine(found.settings), sink)
    first = last = 0

    def ending(inputs: Iterable[Input]) -> Iterable[Input]:
        return (
            inputs
            if end_ns is None
            else (itertools.takewhile(lambda item: item.ts < end_ns, inputs))
        )

    inputs, _ = predicted(replace(found, make=lambda: ending(found.make())))
    for item in inputs:
        run.take(item)
        first, last = first or item.ts, item.ts
    return sink.lines, (first, last)


def _text(line: bytes | None) -> str:
    return "nothing" if line is None else line.decode().strip()
