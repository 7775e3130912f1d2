"""Stepping and committing share one loop."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import cast

import pytest

from bot.core.events import Tick
from bot.ledger.writer import LedgerWriter
from bot.research.backtest import COMMIT_STEPS, TURN_EVERY, Stop, step_through
from bot.run import Run


class _Stepped:
    """Takes inputs and does nothing with them."""

    def take(self, item: Tick) -> None:
        del item

    def finish(self) -> None:
        """Nothing is on its way."""


class _Behind:
    """A writer with so many steps waiting; its commit counts the turns that it gets."""

    def __init__(self, pending: int) -> None:
        self.pending = pending
        self.turns = 0
        self.has_ended = False

    async def commit(self, durable_position: int | None) -> int:
        del durable_position
        while not self.has_ended:
            self.turns += 1
            await asyncio.sleep(0)
        return 0


@pytest.mark.parametrize("waiting", [1, 3, 20])
async def test_a_commit_gets_more_turns_the_further_it_is_behind(waiting: int) -> None:
    writer, seen, turns = _Behind(waiting * COMMIT_STEPS), list[int](), 5

    def look(_: object) -> None:
        seen.append(writer.turns)
        writer.has_ended = len(seen) == turns

    inputs = [Tick(ts) for ts in range(TURN_EVERY * turns)]
    run, ledger = cast("Run", _Stepped()), cast("LedgerWriter", writer)
    await step_through(inputs, run, ledger, stop=Stop(), progress=look)
    gained = [later - earlier for earlier, later in pairwise(seen[1:])]
    assert gained == [1 + waiting] * (turns - 2)
