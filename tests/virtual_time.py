"""An event loop whose time passes only while nothing is to be done: real sockets, no waiting.

Timers, sleeps and timeouts happen at the moments they were set for, in order, as fast as the
machine can; so what a test says of seconds does not depend on how busy the machine is.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type, misc]
    """Looks at the sockets; where it would wait, the time jumps instead."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        # Loopback delivers within the system call that sends, so what is under way is seen here.
        ready: list[Any] = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:  # no timer: only a socket or a thread can end the wait
            return super().select(None)
        self.now_s += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop for one test; ``time`` begins at 0 s."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now_s


def run_virtually(body: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine in a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(body)
