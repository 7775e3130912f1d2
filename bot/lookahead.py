"""Does any decision depend on the future? The run again, with the future cut off.

What a strategy reads by itself cannot be cut. So it is watched, too: one that opens a file of the
input has the future in its hands, whatever it does with it.
"""

from __future__ import annotations

import inspect
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from types import FrameType
from typing import Any

from msgspec.structs import replace

from bot.backtest import opened
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
    doors = _Doors(found, options)
    with _watched(doors):
        whole, stamps = _run(found, None)
    if doors.opened:
        return {"ok": False, "facts": len(whole), "cuts": [], **doors.opened}
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
    first = last = 0

    def ending(inputs: Iterable[Input]) -> Iterable[Input]:
        return (
            inputs
            if end_ns is None
            else (itertools.takewhile(lambda item: item.ts < end_ns, inputs))
        )

    opening = opened(replace(found, make=lambda: ending(found.make())))
    run = Run(opening.engine, sink)
    for item in opening.inputs:
        run.take(item)
        first, last = first or item.ts, item.ts
    return sink.lines, (first, last)


def _text(line: bytes | None) -> str:
    return "nothing" if line is None else line.decode().strip()


# --- files ------------------------------------------------------------------------------------


class _Doors:
    """Sees a strategy's module open a file of the input, or one below a folder of it."""

    def __init__(self, found: Market, options: BacktestOptions) -> None:
        self.opened: dict[str, str] = {}
        paths = options.paths or (options.store,)
        self._inputs = tuple(os.path.realpath(path) for path in paths)
        self._modules = {use.use.rpartition(".")[0] for use in found.settings.strategies}

    def saw(self, path: str, frame: FrameType | None) -> None:
        name = os.path.realpath(path)
        if not any(name == each or name.startswith(each + os.sep) for each in self._inputs):
            return
        while frame is not None:
            module = frame.f_globals.get("__name__")
            if module == __name__:
                return  # whoever asked for the check
            if module in self._modules:
                self.opened = {"strategy": str(module), "opened": path}
                return
            frame = frame.f_back


_watching: list[_Doors] = []
"""Whom the hook tells; a hook of the interpreter stays for good, so there is one."""


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _watching:
        path = arguments[0]
        if isinstance(path, str | bytes | os.PathLike):
            frame = inspect.currentframe()
            _watching[-1].saw(os.fsdecode(path), frame and frame.f_back)


@contextmanager
def _watched(doors: _Doors) -> Iterator[None]:
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    _watching.append(doors)
    try:
        yield
    finally:
        _watching.remove(doors)


_hooked: list[bool] = []
