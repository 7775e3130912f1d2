"""The path of one message, the same for paper, replay and backtest: input, events, step, facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Protocol

from msgspec.structs import asdict

from bot.core.engine import Engine
from bot.core.events import (
    BookUpdate,
    Command,
    Event,
    Fact,
    FeedDown,
    FeedUp,
    Fill,
    Input,
    Order,
    Prediction,
    Tick,
    Trade,
)
from bot.core.instrument import amount
from bot.ledger.digest import FactDigest
from bot.scoring import Scored, Scoring
from bot.venue.wire import SKIPPED, Codec

WARMUP = "warm-up"
"""The source of the commands around a process's opening of the market; models begin anew there."""
EQUITY_EVERY_NS = 10 * 10**9


class Sink(Protocol):
    """Where facts go: the ledger's writer, or ``Memory``."""

    def add(self, position: int, event: Event | None, facts: Sequence[Fact]) -> None: ...

    def add_equity(self, position: int, ts: int, equity: Decimal, wallet: Decimal) -> None: ...

    def add_shadow(self, position: int, policy: str, first: int, facts: Sequence[Fact]) -> None: ...

    def add_shadow_equity(
        self, position: int, policy: str, ts: int, equity: Decimal, wallet: Decimal
    ) -> None: ...

    def add_scores(self, position: int, scored: Sequence[Scored]) -> None: ...


class Memory:
    """A sink that keeps nothing but the digest."""

    def __init__(self) -> None:
        self.digest = FactDigest()

    def add(self, position: int, event: Event | None, facts: Sequence[Fact]) -> None:
        del position, event
        for fact in facts:
            self.digest.update(fact)

    def add_equity(self, position: int, ts: int, equity: Decimal, wallet: Decimal) -> None:
        """Keep nothing."""

    def add_shadow(self, position: int, policy: str, first: int, facts: Sequence[Fact]) -> None:
        """Keep nothing: a digest is of the policy that trades."""

    def add_shadow_equity(
        self, position: int, policy: str, ts: int, equity: Decimal, wallet: Decimal
    ) -> None:
        """Keep nothing: a digest is of the policy that trades."""

    def add_scores(self, position: int, scored: Sequence[Scored]) -> None:
        """Keep nothing."""


class Watcher(Protocol):
    """Sees every step after it was taken: the inference worker, the feed's repair, a CSV."""

    def __call__(self, position: int, event: Event, facts: Sequence[Fact]) -> None: ...


class Run:
    """One run being made. ``take`` is the only way in; ``position`` counts the inputs taken."""

    def __init__(
        self,
        engine: Engine,
        sink: Sink,
        watchers: Sequence[Watcher] = (),
        *,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.engine = engine
        self.codec = Codec()
        self.position = 0
        self.events = 0
        self.counts: Counter[str] = Counter()
        self.untrained: set[str] = set()
        self._sink = sink
        self.scoring = Scoring(engine.market.mid)
        self.watchers = list(watchers)
        self.has_ended = False
        self._warn = warn
        self.was_live: set[str] = set()
        self._equity_due_ns = 0
        # What every message needs, looked up once; none of it is ever replaced.
        self._decode, self._step = self.codec.decode, engine.step
        self._notices, self._shadows = engine.market.notices, engine.shadows
        self._problems = self.codec.problems

    def take(self, item: Input) -> None:
        """Everything that follows from one input. Of books and trades only facts are recorded."""
        position = self.position
        self.position = position + 1
        events = self._decode(item)
        watchers, notices, scoring = self.watchers, self._notices, self.scoring
        for event in events:
            facts = self._step(event)
            kind = type(event)
            is_frequent = kind is Trade or kind is BookUpdate
            if facts or not is_frequent:
                self._record(position, event, facts)
            if not is_frequent or scoring.state.on_mids:
                scored = scoring.step(position, event)
                if scored:
                    self._sink.add_scores(position, scored)
            for watcher in watchers:
                watcher(position, event, facts)
            if notices:
                self._record_notices(position)
            if self._shadows:
                self._record_shadows(position)
        self.events += len(events)
        if self._problems and self._warn is not None:
            self._tell_problems(self._warn)

    @property
    def frames(self) -> int:
        """Frames received, control answers and skipped ones included."""
        return self.codec.frames

    @property
    def skipped(self) -> int:
        """Frames that could not be read or used."""
        counts = self.codec.counts
        return sum(counts[kind] for kind in SKIPPED)

    def finish(self) -> None:
        """The input has ended: what still travels arrives, and the last equity is kept."""
        facts = self.engine.finish()
        last = max(0, self.position - 1)
        if facts:
            self._count_facts(facts)
            self._sink.add(last, None, facts)
        self._record_shadows(last)
        if self._equity_due_ns:
            self._keep_equity(last, self._equity_due_ns - EQUITY_EVERY_NS + 1)

    def _record(self, position: int, event: Event, facts: list[Fact]) -> None:
        if facts:
            self._count_facts(facts)
        if type(event) is FeedDown:
            if event.symbol in self.was_live:
                self.counts["gaps"] += 1
        elif type(event) is FeedUp:
            self.was_live.add(event.symbol)
        elif type(event) is Command:
            self.has_ended = event.name == "stop"
        elif type(event) is Prediction:
            self.counts["predictions"] += 1
            if not event.trained:
                self.untrained.add(event.model)
        self._sink.add(position, event, facts)
        if type(event) is Tick and event.ts >= self._equity_due_ns:
            self._equity_due_ns = event.ts + EQUITY_EVERY_NS
            self._keep_equity(position, event.ts)

    def _record_notices(self, position: int) -> None:
        """Record the gaps that the market found by itself; they are told like the codec's."""
        for notice in self._notices:
            self._record(position, notice, [])
            for watcher in self.watchers:
                watcher(position, notice, [])
        self._notices.clear()

    def _record_shadows(self, position: int) -> None:
        for shadow in self._shadows:
            if shadow.facts:
                first = shadow.told
                self._sink.add_shadow(position, shadow.name, first, shadow.take())

    def _count_facts(self, facts: list[Fact]) -> None:
        counts = self.counts
        counts["facts"] += len(facts)
        for fact in facts:
            if type(fact) is Order:
                counts["orders"] += 1
            elif type(fact) is Fill:
                counts["fills"] += 1

    def _keep_equity(self, position: int, ts: int) -> None:
        account = self.engine.account
        self._sink.add_equity(position, ts, amount(account.equity()), amount(account.wallet))
        for shadow in self.engine.shadows:
            equity, wallet = amount(shadow.account.equity()), amount(shadow.account.wallet)
            self._sink.add_shadow_equity(position, shadow.name, ts, equity, wallet)

    def _tell_problems(self, warn: Callable[[str], None]) -> None:
        problems = self._problems
        while problems:
            problem = problems.popleft()
            warn(f"{problem.conn}: skipped a frame ({problem.kind}): {problem.text}")


def scores(run: Run) -> list[dict[str, Any]]:
    """How the run's predictions did of late, by model and horizon."""
    return [asdict(figures) for figures in run.scoring.figures()]


def money(run: Run) -> dict[str, Decimal]:
    """The money of a run, exact, in USDT."""
    account = run.engine.account
    return {
        "realized_pnl": amount(account.realized),
        "fees": amount(account.fees),
        "funding": amount(account.funding),
        "equity": amount(account.equity()),
    }


def shadows(run: Run) -> dict[str, object]:
    """What the shadow policies came to beside the trading one; empty without shadows."""
    accounts = {shadow.name: shadow for shadow in run.engine.shadows}
    if not accounts:
        return {}
    equities = [amount(each.account.equity()) for each in accounts.values()]
    equities.append(amount(run.engine.account.equity()))
    return {
        "shadows": {
            name: {
                "fills": shadow.fills,
                "realized_pnl": amount(shadow.account.realized),
                "fees": amount(shadow.account.fees),
                "funding": amount(shadow.account.funding),
                "equity": amount(shadow.account.equity()),
                "refusals_that_differ": shadow.refusals_that_differ,
            }
            for name, shadow in accounts.items()
        },
        "equity_pessimistic": min(equities),
        "equity_optimistic": max(equities),
        "refusals_that_differ": sum(each.refusals_that_differ for each in accounts.values()),
    }
