"""structlog, set up once: for people on a console, or JSON lines by config. Always on stderr.

What is written passes ``Redaction``: no secret reaches a log, whoever logs it, tracebacks included.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Literal, TextIO
from urllib.parse import quote

import structlog

from bot.operate.log_tail import tail

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
SHOWN = "***"
_SHORTEST = 4
"""A shorter secret protects nothing, and hiding it would hide half of every line."""
_IN_URL = r"(?<=://)[^\s:/@]*:[^\s/@]+(?=@)"


class Redaction:
    """Takes secrets out of text: those that it is told, and passwords in URLs."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._secret = re.compile("|".join([*map(re.escape, longest_first), _IN_URL]))

    def __call__(self, text: str) -> str:
        return self._secret.sub(SHOWN, text)


def _forms(secret: str) -> set[str]:
    """As it is, as in JSON, as in Python's repr, as in a URL."""
    return {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe="")}


class _Redacted:
    """A text file that takes secrets out of what is written to it, and keeps the last lines."""

    def __init__(self, file: TextIO, redaction: Redaction) -> None:
        self._file, self._redaction = file, redaction

    def write(self, text: str) -> int:
        clean = self._redaction(text)
        tail.add(clean)
        return self._file.write(clean)

    def flush(self) -> None:
        self._file.flush()


def configure(
    style: Literal["console", "json"] = "console",
    level: Literal["debug", "info", "warning", "error"] = "info",
    secrets: Iterable[str] = (),
) -> None:
    """Choose how lines look, from which level on they are written, and what they never show."""
    file: Any = _Redacted(sys.stderr, Redaction(secrets))
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if style == "json":
        shared += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        shared += [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=file),
        cache_logger_on_first_use=False,
    )
    # Libraries that use the standard logging (pybit, picows) speak up only when it matters.
    logging.basicConfig(stream=file, level=logging.WARNING, format="%(name)s: %(message)s")
    _redact_uncaught(file)


def _redact_uncaught(file: TextIO) -> None:
    """A broken program's traceback quotes values, too."""

    def told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        file.write("".join(traceback.format_exception(kind, error, trace)))

    sys.excepthook = told


def bind_run(run_id: str) -> None:
    """Put the run's id on every later line."""
    structlog.contextvars.bind_contextvars(run=run_id)
