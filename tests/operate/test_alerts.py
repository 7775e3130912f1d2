"""Which events of a run a person hears of."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bot.core.events import ClockOffset, Command, FeedDown, Liquidated, Refusal, Tick
from bot.operate.alerts import STORM_NS, AlertWatch

S = 10**9


class Watched:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.watch = AlertWatch(
            lambda kind, severity, text: self.told.append((kind, severity)),
            gap_storm=3,
            clock_drift_ns=500_000_000,
        )

    def see(self, event, *facts):
        self.watch(1, event, facts)
        return self.told


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (Command(1, "pause", "warm-up"), []),
        (Command(1, "stop", "user", "SIGINT"), []),
        (Command(1, "stop", "time"), []),
        (Command(1, "halt", "user"), [("kill_switch", "critical")]),
        (Command(1, "flatten", "mqtt"), [("kill_switch", "critical")]),
        (Command(1, "pause", "mqtt"), [("command", "warning")]),
        (Command(1, "stop", "disk", "full"), [("halt", "critical")]),
        (Command(1, "stop", "model", "died"), [("halt", "critical")]),
    ],
)
def test_commands_from_outside_and_ends_that_nobody_asked_for_are_told(command, told):
    assert Watched().see(command) == told


def test_many_lost_books_in_a_minute_are_one_storm():
    watched = Watched()
    for ts in (0, 30 * S, STORM_NS + 1, STORM_NS + 2):
        assert not watched.told
        watched.see(FeedDown(ts, "linear:BTCUSDT", "gap in u"))
    assert watched.told == [("gap_storm", "warning")]
    watched.see(FeedDown(STORM_NS + 3, "linear:BTCUSDT", "gap in u"))
    assert len(watched.told) == 1


def test_a_drifting_clock_is_told_once_until_it_is_well_again():
    watched = Watched()
    for offset_ms in (499, -501, 600, 10, 501):
        watched.see(ClockOffset(1, offset_ms * 1_000_000))
    assert watched.told == [("drift", "warning")] * 2


def test_a_daily_stop_is_told_once_a_day_and_a_liquidation_always():
    watched = Watched()
    stop = Refusal(1, 1, "s", "linear:BTCUSDT", "RISK_DAILY_LOSS")
    watched.see(Tick(1), stop, stop)
    watched.see(Tick(2), stop, Refusal(1, 1, "s", "linear:BTCUSDT", "RISK_PAUSED"))
    assert watched.told == [("daily_loss", "critical")]
    gone = Liquidated(1, 1, "linear:BTCUSDT", Decimal(1), Decimal(2), Decimal(3))
    watched.see(Tick(3), gone)
    assert watched.told[-1] == ("liquidation", "critical")
