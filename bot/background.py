"""A verb of this program in a process of its own that takes only the time nobody else wants."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from bot.core.errors import PlainError

_LEAST = 19
"""The lowest priority that there is (nice)."""


class BackgroundError(PlainError):
    """The process ended without success; the text is its last line."""


async def verb(words: Sequence[str], environment: Mapping[str, str]) -> Any:
    """Run ``bot WORDS --json``; what it printed. A cancellation ends the process.

    Raises BackgroundError.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", *words, "--json",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
        start_new_session=True,  # Ctrl-C is for the bot, which ends this
    )  # fmt: skip
    _yield_to_others(process.pid)
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = errors.decode("utf-8", "replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        raise BackgroundError(f"bot {' '.join(words)}: {last.strip() or process.returncode}")
    return msgspec.json.decode(output)


def _yield_to_others(pid: int) -> None:
    """Before it has threads, which inherit it."""
    with suppress(ProcessLookupError):  # it has ended already
        os.setpriority(os.PRIO_PROCESS, pid, _LEAST)
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
