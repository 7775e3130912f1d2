"""The last lines of the log, as they were written, for those who look at the bot from outside."""

from __future__ import annotations

import re
from collections import deque

from bot.operate.state import LogLine

KEPT = 500
MAX_CHARS = 600
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LEVEL = re.compile(r'\[(debug|info|warning|error|critical)|"level": ?"(\w+)"')


class LogTail:
    """Keeps lines; what it is given has passed the log's redaction."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque(maxlen=KEPT)
        self._number = 0

    def add(self, text: str) -> None:
        """Take what is being written: whole lines."""
        for line in _COLOURS.sub("", text).splitlines():
            if not line.strip():
                continue
            found = _LEVEL.search(line)
            level = next(filter(None, found.groups())) if found is not None else "warning"
            self._number += 1
            self._lines.append(LogLine(self._number, level, line[:MAX_CHARS]))

    def lines(self, after: int = 0) -> list[LogLine]:
        """The lines kept whose number is above ``after``, oldest first."""
        return [line for line in tuple(self._lines) if line.number > after]


tail = LogTail()
"""This process's log."""
