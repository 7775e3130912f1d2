"""Commands that come as messages: which are taken, and what is answered."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from bot.core.events import CommandName
from bot.operate.messages import CommandMessage, Reply

Put: TypeAlias = Callable[[CommandName, str], None]
"""Puts a command with its reason into the run's queue."""

LARGEST = 4_096
"""Bytes of a command at most."""
REMEMBERED = 256
"""Ids that are known to have been done."""
REPLY = "reply/"
_REASON_SIZE = 200
_NAME = re.compile(r"[\w.:-]{1,64}")


class Commands:
    """Reads commands. ``put`` is None where commands are switched off: each is refused."""

    def __init__(self, put: Put | None, now: Callable[[], int]) -> None:
        self._put, self._now = put, now
        self._done: deque[str] = deque(maxlen=REMEMBERED)
        self.refused = 0

    def answer(self, payload: bytes, *, retained: bool = False) -> tuple[str, Reply] | None:
        """Do what it says; returns (topic below the instance's, reply), None where none is wanted.

        A reply goes below ``reply/`` and nowhere else, or a sender could have the bot publish
        what he may not publish himself.
        """
        if len(payload) > LARGEST:
            self.refused += 1
            return None
        try:
            command = msgspec.json.decode(payload, type=CommandMessage)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.refused += 1
            return None
        detail = self._refusal(command, retained=retained)
        if detail:
            self.refused += 1
        elif self._put is not None:
            self._put(command.name, command.reason[:_REASON_SIZE])
            if command.id:
                self._done.append(command.id)
        if not _NAME.fullmatch(command.reply_to):
            return None
        reply = Reply(command.id[:64], not detail, detail or "queued", self._now())
        return REPLY + command.reply_to, reply

    def _refusal(self, command: CommandMessage, *, retained: bool) -> str:
        if self._put is None:
            return "commands are off: mqtt.commands in config.yaml"
        if retained:
            return "retained: it would be done again at every reconnect"
        if command.id and command.id in self._done:
            return "this id was done before"
        return ""
