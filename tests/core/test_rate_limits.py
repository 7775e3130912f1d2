"""The venue's rolling second: what counts, and what does not."""

from __future__ import annotations

import pytest

from bot.core.rate_limits import PER_S, RateLimits
from tests.builders import LINEAR, SPOT, Paper


@pytest.mark.parametrize("kind", PER_S)
@pytest.mark.parametrize("symbol", [LINEAR, SPOT])
def test_so_many_in_any_second_and_a_refused_one_does_not_count(kind: str, symbol: str) -> None:
    limits, most = RateLimits(), PER_S[kind][symbol == SPOT]  # type: ignore[index]
    admitted = [limits.admits(kind, symbol, t) for t in range(most + 5)]  # type: ignore[arg-type]
    assert admitted == [True] * most + [False] * 5
    assert not limits.admits(kind, symbol, 10**9 - 1)  # type: ignore[arg-type]
    assert limits.admits(kind, symbol, 10**9)  # type: ignore[arg-type]
    assert not limits.admits(kind, symbol, 10**9)  # type: ignore[arg-type]


def test_kinds_and_categories_are_counted_apart() -> None:
    limits = RateLimits()
    assert all(limits.admits(kind, symbol, 0) for kind in PER_S for symbol in (LINEAR, SPOT))
    assert len(limits.seen) == 6


def test_cancel_all_is_one_request() -> None:
    paper = Paper(rate_limits=True)
    for t in range(1, 21):
        paper.place(t * 150, "Buy", 1, "99.0")
    paper.command(3100, "cancel_all")
    assert paper.view.orders(LINEAR) == [] or all(
        each.is_cancelling for each in paper.view.orders(LINEAR)
    )
    assert {end[3] for end in paper.ends()} == {"EC_PerCancelRequest"}
    assert len(paper.ends()) == 20
