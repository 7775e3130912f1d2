"""The dashboard and the metrics beside a live run, and the dashboard of a run in the ledger."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

from bot import secret_values
from bot.config import Settings
from bot.core.events import Command, CommandName
from bot.inbox import Inbox
from bot.ledger import queries, reading
from bot.live import Live as LiveRun
from bot.observe import Observer
from bot.operate.dashboard import Books, Live, application
from bot.operate.metrics import metrics_app
from bot.operate.serving import bind, serve, url_of
from bot.operate.state import Quality
from bot.signals import ending

log = structlog.get_logger()

SOURCE = "dashboard"
Announce = Callable[[str], None]


def beside(
    settings: Settings,
    run_id: str,
    observer: Observer,
    inbox: Inbox,
    live: LiveRun,
    announce: Announce,
) -> list[Coroutine[Any, Any, None]]:
    """What serves a live run's dashboard and metrics, as the settings say.

    Raises ServingError where a port is taken, ConfigError for a token that is none.
    """
    books = Books(settings.ledger.db, run_id)
    served: list[Coroutine[Any, Any, None]] = []
    if settings.dashboard.enabled:
        bound = bind("dashboard", settings.dashboard.host, settings.dashboard.port)
        seen = Live(observer.picture, observer.depth, commander(inbox, live))
        served.append(_dashboard(settings, books, seen, bound, announce))
    if settings.metrics.enabled:
        bound = bind("metrics", settings.metrics.host, settings.metrics.port)

        async def judged() -> list[Quality]:
            state = observer.picture(None)
            asked = [await books.quality(s, m) for s in state.symbols for m in state.models]
            return [each for each in asked if each is not None]

        log.info("metrics", url=f"{url_of(bound)}metrics")
        app = metrics_app(lambda: observer.picture(None), judged, host=settings.metrics.host)
        served.append(serve(app, bound))
    return served


def commander(inbox: Inbox, live: LiveRun) -> Callable[[CommandName, str], None]:
    """Commands from outside: into the one queue, and so into the journal."""

    def command(name: CommandName, reason: str) -> None:
        log.info("command", name=name, source=SOURCE)
        if name == "stop":
            live.stop("user", reason or f"stopped on the {SOURCE}")
        else:
            inbox.put(Command(inbox.now(), name, SOURCE, reason[:200]))

    return command


async def stored(settings: Settings, run: str | None, announce: Announce) -> None:
    """Serve the dashboard of a run in the ledger until Ctrl-C or SIGTERM.

    Raises LedgerError, ServingError, ConfigError.
    """
    run_id = reading.read(settings.ledger.db, queries.run_of, run)
    bound = bind("dashboard", settings.dashboard.host, settings.dashboard.port)
    books = Books(settings.ledger.db, run_id)
    serving = asyncio.ensure_future(_dashboard(settings, books, None, bound, announce))
    with ending(lambda _: serving.cancel()), suppress(asyncio.CancelledError):
        await serving


def _dashboard(
    settings: Settings,
    books: Books,
    live: Live | None,
    bound: socket.socket,
    announce: Announce,
) -> Coroutine[Any, Any, None]:
    given = secret_values.dashboard_token(settings)
    token = given or secrets.token_urlsafe(32)
    url = url_of(bound)
    announce(f"{url}?token={token}" if given is None else f"{url} (with dashboard.token)")
    port = bound.getsockname()[1]
    app = application(books, live, token=token, port=port, names=settings.dashboard.names)
    return serve(app, bound)
