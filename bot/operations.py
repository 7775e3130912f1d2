"""What goes on beside a live run: MQTT, alerts, scheduled jobs. None of it decides anything.

A command that comes from outside enters the inbox like every other input.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from bot import __version__, secret_values
from bot.begin import Begun
from bot.config import Settings
from bot.core.errors import PlainError
from bot.core.events import Command, CommandName
from bot.inbox import Inbox
from bot.jobs import Parts, jobs
from bot.ledger.database import LedgerError
from bot.live import Live
from bot.operate import schedule, service
from bot.operate.alerts import AlertWatch
from bot.operate.commands import Commands
from bot.operate.messages import Status
from bot.operate.mqtt import GOODBYE_S, MOST_COUNTED, Broker, Mqtt, State, Wiring, tls_context
from bot.operate.notify import Limits, Notifier, apprise_sender
from bot.operate.outbox import FillCursor, Outbox
from bot.publish import Fills, Publisher

log = structlog.get_logger()

MQTT = "mqtt"
"""The source of commands that came by MQTT."""
_ALERTS_S = 5.0


class Beside(Struct, frozen=True):
    """A live run's parts that the operations need."""

    settings: Settings
    ledger: AsyncEngine
    inbox: Inbox
    begun: Begun
    live: Live
    config: Path | None = None
    """The file that the settings came from, if another than usual."""


def broker_of(settings: Settings) -> Broker:
    """The broker that the settings name. Raises BrokerError and ConfigError."""
    mqtt = settings.mqtt
    tls = tls_context(mqtt.ca_file, mqtt.cert_file, mqtt.key_file) if mqtt.tls else None
    return Broker(mqtt.host, mqtt.port, mqtt.username, secret_values.mqtt_password(settings), tls)


def prefix_of(settings: Settings) -> str:
    """What every topic of this bot begins with."""
    return f"kvtrader/{settings.instance}"


def cursor_path(settings: Settings, run_id: str) -> Path:
    """Where a run remembers which fills the broker has."""
    return settings.journal.folder / run_id / "mqtt-fills.json"


class Operations:
    """Everything beside a run. ``feeds`` belong to the run's TaskGroup, ``close`` to its end."""

    def __init__(self, beside: Beside) -> None:
        """Raises BrokerError, NotifyError, ConfigError and ScheduleError."""
        settings, begun = beside.settings, beside.begun
        self._beside = beside
        self._mqtt: Mqtt | None = None
        self._mqtt_task: asyncio.Task[None] | None = None
        self.outbox = Outbox(settings.mqtt.queue)
        notify = settings.notify
        self.notifier = Notifier(
            settings.instance,
            begun.id,
            Limits(int(notify.every_s * 1e9), notify.least),
            beside.inbox.now,
            send=apprise_sender(secret_values.notify_urls(settings)),
            put=self.outbox.put if settings.mqtt.enabled else None,
        )
        watch = AlertWatch(
            self.notifier.tell,
            gap_storm=notify.gap_storm,
            clock_drift_ns=int(notify.clock_drift_ms * 1e6),
        )
        begun.run.watchers.append(watch)
        if settings.mqtt.enabled:
            self._connect()
        self._jobs = jobs(
            Parts(
                settings, beside.ledger, beside.inbox, begun.run, begun.writer,
                beside.live, self.notifier.tell, beside.config,
            )
        )  # fmt: skip
        for job in self._jobs:
            schedule.trigger_of(f"schedule.{job.name}.when", job.when)
        if begun.is_continued:
            self.notifier.tell("restart", "warning", f"goes on after {begun.run.position} inputs")

    def feeds(self) -> list[Coroutine[Any, Any, None]]:
        """What runs as long as the run does."""
        service.tell("READY=1")
        late_s = self._beside.settings.schedule.late_s
        feeds = [
            schedule.serve(self._jobs, late_s=late_s, failed=self._job_failed),
            self.notifier.run(),
            service.keep_alive(),
        ]
        if self._mqtt is not None:
            self._mqtt_task = asyncio.create_task(self._mqtt.run())
            feeds.append(self._watch_mqtt(self._mqtt_task))
        return feeds

    async def close(self) -> None:
        """Send what was committed last, for `mqtt.end_s` at most; tell what was not sent."""
        service.tell("STOPPING=1")
        await self.notifier.close(_ALERTS_S)
        if self._mqtt is None or self._mqtt_task is None:
            return
        try:
            left = await self._mqtt.close(self._beside.settings.mqtt.end_s)
        except LedgerError as error:
            log.warning("whether fills wait for the broker is not known", error=str(error))
        else:
            self._tell_left(left)
        _, waiting = await asyncio.wait({self._mqtt_task}, timeout=GOODBYE_S)
        for task in waiting:
            task.cancel()
            await asyncio.wait({task})

    def _tell_left(self, fills: int) -> None:
        if fills:
            log.warning(
                "the broker is away and has not got every fill: `bot mqtt send` sends them",
                fills=f"{fills} or more" if fills == MOST_COUNTED else fills,
                run=self._beside.begun.id,
            )

    def status(self, state: State) -> Status:
        """How the run is, in one message."""
        beside = self._beside
        run, counts = beside.begun.run, beside.begun.run.counts
        return Status(
            state,
            beside.settings.instance,
            beside.begun.id,
            beside.inbox.now(),
            __version__,
            run.engine.risk.state,
            inputs=run.position,
            facts=counts["facts"],
            orders=counts["orders"],
            fills=counts["fills"],
            gaps=counts["gaps"],
            inbox=len(beside.inbox),
            ledger_pending=beside.begun.writer.pending,
            dropped=self.outbox.dropped,
        )

    # --- MQTT ----------------------------------------------------------------------------------

    def _connect(self) -> None:
        beside, mqtt = self._beside, self._beside.settings.mqtt
        begun = beside.begun
        broker = broker_of(beside.settings)
        wiring = Wiring(
            prefix_of(beside.settings),
            self.outbox,
            FillCursor(cursor_path(beside.settings, begun.id)),
            Fills(beside.ledger, begun.id),
            self.status,
            mqtt.status_every_s,
            Commands(self._command if mqtt.commands else None, beside.inbox.now),
        )
        self._mqtt = Mqtt(broker, wiring)
        publisher = Publisher(
            begun.id,
            self.outbox,
            begun.run.engine.account,
            first_position=begun.run.position,
            prediction_every_s=mqtt.prediction_every_s,
        )
        begun.writer.listeners.append(publisher)

    def _command(self, name: CommandName, reason: str) -> None:
        if name == "stop":
            self._beside.live.stop(MQTT, reason)
        else:
            inbox = self._beside.inbox
            inbox.put(Command(inbox.now(), name, MQTT, reason))

    async def _watch_mqtt(self, task: asyncio.Task[None]) -> None:
        """End the run if the connection's code is broken; a lost broker is no such thing."""
        await asyncio.shield(task)

    def _job_failed(self, name: str, reason: str) -> None:
        self.notifier.tell(f"job_{name}", "warning", f"{name}: {reason}")


@asynccontextmanager
async def beside_run(beside: Beside) -> AsyncIterator[Operations]:
    """Operations around a run; at its end what was committed last still goes out."""
    operations = Operations(beside)
    try:
        yield operations
    except PlainError as error:
        operations.notifier.tell("halt", "critical", str(error))
        raise
    finally:
        await operations.close()
