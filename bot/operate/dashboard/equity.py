"""The account's worth over a run of any length, in a bounded number of points."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MOST_POINTS = 2_000


class EquityCurve:
    """Points in order of time; when there are too many, every pair becomes its lower one, so that
    no drawdown is smoothed away. The peak and the deepest fall are of all points ever added."""

    def __init__(self) -> None:
        self.last_ts = 0
        self._points: list[tuple[int, float, float]] = []
        self._peak = 0.0
        self._deepest = 0.0
        self._newest: tuple[int, float, float] | None = None
        self._stride = 1
        self._in_group = 0

    def add(self, page: Iterable[tuple[int, str]]) -> None:
        """Take the next points: (ts in ns, equity)."""
        for ts, text in page:
            equity = float(text)
            self._peak = max(self._peak, equity)
            fall = equity / self._peak - 1 if self._peak > 0 else 0.0
            self._deepest = min(self._deepest, fall)
            self.last_ts = ts
            self._newest = (ts, equity, fall)
            self._take(self._newest)

    def drawn(self) -> dict[str, Any]:
        """``points`` as (ts in ns, equity, drawdown as a fraction not above 0), the newest last."""
        points = list(self._points)
        if self._newest is not None and points[-1] != self._newest:
            points.append(self._newest)
        return {"points": points, "peak": self._peak, "deepest_drawdown": self._deepest}

    def _take(self, point: tuple[int, float, float]) -> None:
        if self._in_group == 0:
            self._points.append(point)
        elif point[2] < self._points[-1][2]:
            self._points[-1] = point
        self._in_group = (self._in_group + 1) % self._stride
        if len(self._points) > MOST_POINTS and self._in_group == 0:
            halves = zip(self._points[::2], self._points[1::2], strict=False)
            kept = [min(pair, key=lambda each: each[2]) for pair in halves]
            self._points = kept + self._points[2 * len(kept) :]
            self._stride *= 2
