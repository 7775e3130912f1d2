"""The last lines of the log, kept for those who look at the bot from outside."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

from bot.operate.state import LogLine

_KEPT = 500
_MAX_CHARS = 500
_SHOWN_APART = ("event", "level", "timestamp", "run", "exc_info")


class LogTail(logging.Handler):
    """A structlog processor that lets every line pass, and a handler of the standard logging."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[LogLine] = deque(maxlen=_KEPT)
        self._number = 0

    def __call__(
        self, logger: Any, method: str, event_dict: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        del logger
        text = _text(event_dict)
        level = str(event_dict.get("level", method))
        self._keep(str(event_dict.get("timestamp", "")), level, text)
        return event_dict

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a library's line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat()
        self._keep(time, record.levelname.lower(), f"{record.name}: {record.getMessage()}")

    def lines(self, after: int = 0) -> list[LogLine]:
        """The lines kept whose number is above ``after``, oldest first."""
        return [line for line in tuple(self._lines) if line.number > after]

    def _keep(self, time: str, level: str, text: str) -> None:
        self._number += 1
        self._lines.append(LogLine(self._number, time, level, text[:_MAX_CHARS]))


def _text(event_dict: Mapping[str, Any]) -> str:
    fields = (f"{key}={value}" for key, value in event_dict.items() if key not in _SHOWN_APART)
    return " ".join((str(event_dict.get("event", "")), *fields))


tail = LogTail()
"""This process's."""
