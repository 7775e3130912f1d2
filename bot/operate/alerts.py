"""What a person should know at once, seen in the run's own events. Says it, decides nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from bot.core.events import ClockOffset, Command, Event, Fact, FeedDown, Liquidated, Refusal
from bot.operate.messages import Severity

Tell: TypeAlias = Callable[[str, Severity, str], None]
"""Told the kind of an alert, how bad it is, and what happened."""

STORM_NS: Final = 60 * 10**9
_WATCHED: Final = frozenset((Command, FeedDown, ClockOffset))
_USUAL: Final = frozenset(("user", "time", "warm-up"))
"""Sources of commands that need no alert."""
_DAY_NS: Final = 86_400 * 10**9


class AlertWatch:
    """Sees every step of a run: the kill switch, a halt, gap storms, drift, a daily stop.

    ``gap_storm`` lost books within a minute make an alert, and ``clock_drift_ns`` between this
    machine's clock and the exchange's.
    """

    def __init__(self, tell: Tell, *, gap_storm: int, clock_drift_ns: int) -> None:
        self._tell = tell
        self._gap_storm, self._clock_drift_ns = gap_storm, clock_drift_ns
        self._lost_ns: deque[int] = deque(maxlen=gap_storm)
        self._daily_stop_day = -1
        self._has_drifted = False

    def __call__(self, position: int, event: Event, facts: Sequence[Fact]) -> None:
        del position
        if type(event) in _WATCHED:
            self._see(event)
        for fact in facts:
            if type(fact) is Refusal or type(fact) is Liquidated:
                self._see_fact(fact)

    def _see(self, event: Event) -> None:
        match event:
            case Command():
                self._commanded(event)
            case FeedDown():
                self._lost(event)
            case ClockOffset():
                self._offset(event.offset_ns)
            case _:
                pass

    def _commanded(self, command: Command) -> None:
        words = f"{command.name} by {command.source}" + (
            f": {command.reason}" if command.reason else ""
        )
        if command.name in ("halt", "flatten"):
            self._tell("kill_switch", "critical", words)
        elif command.source not in _USUAL:
            is_end = command.name == "stop"
            self._tell("halt" if is_end else "command", "critical" if is_end else "warning", words)

    def _lost(self, down: FeedDown) -> None:
        self._lost_ns.append(down.ts)
        lost = self._lost_ns
        if len(lost) == self._gap_storm and lost[-1] - lost[0] <= STORM_NS:
            self._tell(
                "gap_storm",
                "warning",
                f"{len(lost)} lost books in {(lost[-1] - lost[0]) / 1e9:.0f} s, "
                f"the last of {down.symbol}: {down.reason}",
            )
            lost.clear()

    def _offset(self, offset_ns: int) -> None:
        has_drifted = abs(offset_ns) > self._clock_drift_ns
        if has_drifted and not self._has_drifted:
            self._tell("drift", "warning", f"the clock is {offset_ns / 1e6:+.0f} ms from Bybit's")
        self._has_drifted = has_drifted

    def _see_fact(self, fact: Fact) -> None:
        if isinstance(fact, Liquidated):
            self._tell("liquidation", "critical", f"{fact.symbol}: {fact.position} at {fact.price}")
        elif isinstance(fact, Refusal) and fact.reason == "RISK_DAILY_LOSS":
            day = fact.ts // _DAY_NS
            if day != self._daily_stop_day:
                self._daily_stop_day = day
                self._tell("daily_loss", "critical", "the day's loss has reached its limit")
