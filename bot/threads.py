"""Threads that let the event loop go first."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

_BEHIND = 10
"""How far behind the loop (nice): a tenth of its share where all want one processor, and it does
not wait for the rest of their turn when it wakes."""
_LEAST = 19


def stand_back() -> None:
    """Lower the calling thread's priority; threads that it starts inherit it.

    Linux alone has priorities of threads; elsewhere nothing is done.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        nice = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(nice + _BEHIND, _LEAST))


def behind_the_loop() -> ThreadPoolExecutor:
    """Threads for a loop's ``to_thread``: the database's writing, files."""
    return ThreadPoolExecutor(thread_name_prefix="behind", initializer=stand_back)
