"""Ctrl-C and SIGTERM, the same for every verb that runs until it is told to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ending(told: Callable[[str], object]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM calls ``told`` with its name; a second one ends at once.

    Handlers of our own also hear a signal that the process was started to ignore, as a shell
    starts what it puts into the background.
    """
    loop = asyncio.get_running_loop()

    def forget() -> None:
        for number in _NUMBERS:
            loop.remove_signal_handler(number)

    def on_signal(name: str) -> None:
        forget()
        told(name)

    for number in _NUMBERS:
        loop.add_signal_handler(number, on_signal, number.name)
    try:
        yield
    finally:
        forget()
