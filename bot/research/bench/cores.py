"""Processors for the program that is measured and for those that load it, where there are two."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PATIENCE_S: Final = 30.0


@contextmanager
def load_apart() -> Iterator[set[int] | None]:
    """Keep this process, and what it starts, off one processor; gives that one.

    None, and nothing is done, where this process may use only one, or the system has no affinity.
    """
    if not hasattr(os, "sched_setaffinity") or len(mine := os.sched_getaffinity(0)) < 2:
        yield None
        return
    kept = {min(mine)}
    os.sched_setaffinity(0, mine - kept)
    try:
        yield kept
    finally:
        os.sched_setaffinity(0, mine)


def move(pid: int, processors: set[int]) -> None:
    """Let a process, with every thread that it has and will have, run there."""
    for thread in _listed(Path(f"/proc/{pid}/task")):
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(thread, processors)


def move_child(pid: int, processors: set[int]) -> None:
    """Wait for a process's first child and let it run there. Does nothing if none comes."""
    given_up_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < given_up_s:
        with suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for child in children:
                move(int(child), processors)
            if children:
                return
        time.sleep(0.05)


def _listed(folder: Path) -> list[int]:
    with suppress(OSError):
        return [int(each.name) for each in folder.iterdir()]
    return []
