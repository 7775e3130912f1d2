"""Alerts to people: to the log, to MQTT, and to any Apprise URL. Rate-limited, never in the way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import structlog
from msgspec import Struct

from bot.core.errors import PlainError
from bot.operate.messages import Alert, Severity

log = structlog.get_logger()

Send: TypeAlias = Callable[[str, str, Severity], bool]
"""Blocking: sends a title and a text; whether every address took it."""
LEVELS: Final[dict[Severity, int]] = {"info": 0, "warning": 1, "critical": 2}
WAITING: Final = 100
"""Alerts that wait for a slow address; beyond, the oldest is dropped and counted."""


class NotifyError(PlainError):
    """An address for notifications cannot be used; the address itself is not told."""


class _Kind(Struct):
    next_ns: int = 0
    more: int = 0


class Limits(Struct, frozen=True):
    """``every_ns`` between two alerts of a kind; ``least`` severity that is sent to people."""

    every_ns: int
    least: Severity


class PutAlert(Protocol):
    """Takes an alert for MQTT."""

    def __call__(self, topic: str, message: Struct) -> None: ...


class Notifier:
    """Takes alerts from the run and sends them on, one after the other, in a thread.

    ``send`` is None where nobody is to be told but the log and MQTT.
    """

    def __init__(
        self,
        instance: str,
        run_id: str,
        limits: Limits,
        now: Callable[[], int],
        *,
        send: Send | None = None,
        put: PutAlert | None = None,
    ) -> None:
        self._instance, self._run_id = instance, run_id
        self._limits, self._now = limits, now
        self._send, self._put = send, put
        self._kinds: dict[str, _Kind] = {}
        self._waiting: deque[Alert] = deque()
        self._filled = asyncio.Event()
        self.dropped = 0

    def tell(self, kind: str, severity: Severity, text: str) -> None:
        """Take an alert in; of a kind that was told just now it is only counted."""
        now = self._now()
        state = self._kinds.setdefault(kind, _Kind())
        if now < state.next_ns:
            state.more += 1
            return
        alert = Alert(self._instance, self._run_id, now, kind, severity, text, state.more)
        state.next_ns, state.more = now + self._limits.every_ns, 0
        say = log.info if severity == "info" else log.warning
        say("alert", kind=kind, severity=severity, text=text.partition("\n")[0])
        if self._put is not None:
            self._put("alert", alert)
        if self._send is not None and LEVELS[severity] >= LEVELS[self._limits.least]:
            self._enqueue(alert)

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            await self._filled.wait()
            await self._send_next()

    async def close(self, seconds: float) -> None:
        """Send what still waits, for so long at most."""
        try:
            async with asyncio.timeout(seconds):
                while self._waiting:
                    await self._send_next()
        except TimeoutError:
            log.warning("alerts were not sent before the end", alerts=len(self._waiting))

    def _enqueue(self, alert: Alert) -> None:
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(alert)
        self._filled.set()

    async def _send_next(self) -> None:
        if not self._waiting:
            self._filled.clear()
            return
        alert = self._waiting.popleft()
        title = f"{alert.instance}: {alert.kind.replace('_', ' ')}"
        text = f"{alert.text}\nrun {alert.run}"
        if alert.more:
            text += f"\nand {alert.more} more of this kind since the last message"
        assert self._send is not None
        if not await asyncio.to_thread(self._send, title, text, alert.severity):
            log.warning("a notification was not taken by every address", kind=alert.kind)


def apprise_sender(urls: Sequence[str]) -> Send | None:
    """What sends to Apprise URLs; None where there are none. Raises NotifyError."""
    if not urls:
        return None
    try:
        import apprise  # noqa: PLC0415 - an extra
    except ImportError:
        raise NotifyError(
            "notify: Apprise is not installed: pip install 'kvtrader[notify]'"
        ) from None
    addresses: Any = apprise.Apprise()
    for number, url in enumerate(urls, 1):
        if not addresses.add(url):
            raise NotifyError(f"notify: URL {number} of {len(urls)} is none that Apprise knows")
    kinds = {"info": "info", "warning": "warning", "critical": "failure"}

    def send(title: str, text: str, severity: Severity) -> bool:
        return bool(addresses.notify(body=text, title=title, notify_type=kinds[severity]))

    return send
