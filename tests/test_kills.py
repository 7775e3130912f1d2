"""A bot killed at random moments and restarted each time is one run, as if it never died."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot import build, snapshot
from bot.config import recorded
from bot.core.events import Event, Fact, Fill, FundingPaid
from bot.ledger import queries
from bot.ledger.connect import engine_for, with_connection
from bot.ledger.database import LedgerError
from bot.ledger.facts import digest_of
from bot.ledger.invariants import check_run
from bot.ledger.journal import JournalReader, read_header
from bot.replay import ReplayOptions, replay
from bot.restart import stepped_again
from bot.run import Memory, Run
from tests.processes import Bot
from tests.shards import shards

QUOTING = """\
symbols: [linear:BTCUSDT, spot:BTCUSDT, linear:ETHUSDT]
local_venue: {events_per_s: 60, funding_minutes: 1}
exchange:
  policies: [conservative, probabilistic]
models: {predictor: {enabled: false}, analyzer: {enabled: false}}
dashboard: {enabled: false}
ledger: {snapshot_s: 1}
journal: {chunk_s: 0.3}
strategies:
  - use: strategies.market_maker.MarketMaker
    name: near
    symbols: [linear:BTCUSDT, spot:BTCUSDT]
    params: {notional: 200, half_spread: 0.000001, max_inventory: 1000}
  - use: strategies.market_maker.MarketMaker   # far from the touch: its orders wait in queues
    name: far
    symbols: [linear:ETHUSDT]
    params: {notional: 300, half_spread: 0.0002, max_inventory: 3000}
"""


class Kept(Memory):
    """A sink that keeps the digest after every fact, and counts what must not double."""

    def __init__(self) -> None:
        super().__init__()
        self.digests = [self.digest.hexdigest()]
        self.fills = 0
        self.funded: list[tuple[str, int]] = []

    def add(self, position: int, event: Event | None, facts: Any) -> None:
        del position, event
        for fact in facts:
            self._take(fact)

    def _take(self, fact: Fact) -> None:
        self.digest.update(fact)
        self.digests.append(self.digest.hexdigest())
        if type(fact) is Fill:
            self.fills += 1
            assert fact.id == self.fills
        elif type(fact) is FundingPaid:
            self.funded.append((fact.symbol, fact.funding_ts))


class Twin:
    """The run as one replay of its whole journal makes it: it never dies."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.settings = recorded(read_header(journal)["config"], "the journal's header")
        self.sink = Kept()
        self.run = Run(build.engine(self.settings), self.sink)

    def follow(self) -> None:
        """Step what the journal has more than before."""
        for item in JournalReader(self.journal, self.run.position):
            self.run.take(item)

    def waiting(self) -> int:
        """Resting orders that know their place in a queue."""
        books = self.run.engine.exchange._symbols.values()
        return sum(bool(order.ahead) for book in books for order in [*book.buys, *book.sells])


class Victim:
    """A bot that is killed again and again, and the twin that it must be equal to."""

    def __init__(self, folder: Path, url: str, seed: int) -> None:
        (folder / "config.yaml").write_text(QUOTING)
        self.folder, self.url = folder, url
        self._random = random.Random(seed)
        self._twin: Twin | None = None
        self.queued = 0

    def start(self) -> Bot:
        return Bot(self.folder, BOT__LEDGER__DB=self.url)

    def kill(self) -> None:
        """Start it and kill it, in a quarter of the cases before it trades: how long a start takes
        depends on the machine, so the others wait for facts."""
        before = self._facts()
        with self.start() as bot:
            if self._random.random() < 0.75:
                bot.wait_for(lambda: self._facts() > before, "facts after the start")
            time.sleep(self._random.uniform(0.0, 2.0))
            bot.kill()

    def is_continued(self) -> None:
        """What a restart makes is what the whole journal makes; the ledger has its beginning."""
        row = self.row()
        if row is None:
            return
        twin = self._twin = self._twin or Twin(self.folder / "data" / "runs" / row["id"])
        twin.follow()
        assert row["facts"] <= twin.run.counts["facts"]
        assert row["digest"] == twin.sink.digests[row["facts"]]
        assert (
            with_connection(self.url, lambda c: digest_of(c, row["id"])).hexdigest()
            == (row["digest"])
        )
        assert asyncio.run(self._restarted(twin, row)) == snapshot.saved(twin.run)
        self.queued += twin.waiting() > 0

    async def _restarted(self, twin: Twin, row: dict[str, Any]) -> bytes:
        engine = engine_for(self.url)
        try:
            made = await stepped_again(twin.settings, row, twin.journal, engine)
        finally:
            await engine.dispose()
        return snapshot.saved(made.run)

    def end(self, enough: Callable[[Victim], bool] = lambda _: True) -> Kept:
        """Let it trade until it is enough and end; then everything must be what a replay makes."""
        with self.start() as bot:
            row = self.row()
            before = row["facts"] if row else 0
            bot.wait_for(lambda: self._facts() > before + 20, "facts after the last restart")
            bot.wait_for(lambda: enough(self), "what is enough", limit_s=200)
            summary = bot.end(signal.SIGTERM)
        twin = self._twin or Twin(self.folder / summary["journal"])
        twin.follow()
        twin.run.finish()
        assert twin.sink.digests[-1] == summary["digest"]
        assert with_connection(self.url, lambda c: check_run(c, summary["run"])) == summary["facts"]
        options = ReplayOptions(verify=True, db=self.url)
        assert replay(twin.journal, twin.settings, options)["verified"]
        return twin.sink

    def row(self) -> dict[str, Any] | None:
        """The run's row; None before there is one."""
        try:
            return with_connection(self.url, queries.run)
        except LedgerError:
            return None

    def was_funded(self) -> bool:
        pnl = with_connection(self.url, queries.pnl)
        return any(Decimal(row["funding"]) for row in pnl)

    def _facts(self) -> int:
        row = self.row()
        return row["facts"] if row else 0


def killed(folder: Path, url: str, kills: int, seed: int) -> Victim:
    victim = Victim(folder, url, seed)
    for _ in range(kills):
        victim.kill()
        victim.is_continued()
    return victim


def test_a_bot_that_is_killed_goes_on_where_its_journal_ends(tmp_path, url):
    victim = killed(tmp_path, url, kills=2 if url.startswith("sqlite") else 1, seed=1)
    assert victim.end().fills > 0
    assert victim.row()["status"] == "finished"


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@shards(200, parts=10)
def test_two_hundred_kills_lose_and_double_nothing(tmp_path, url, seeds):
    kills = len(seeds)
    victim = killed(tmp_path, url, kills, seeds.start)
    kept = victim.end(Victim.was_funded)
    assert victim.queued > kills / 4
    assert kept.fills > kills
    assert len(set(kept.funded)) == len(kept.funded) > 0
