"""Charts as inline SVG, drawn from plain numbers. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

_WIDTH, _LEFT, _BOTTOM, _TOP = 1000, 74, 26, 10
_GRID_LINES = 4
_NS = 10**9

Points = Sequence[Sequence[float]]


class _Plot:
    """A frame with a time axis and a value axis."""

    def __init__(self, span: tuple[float, float], values: tuple[float, float], height: int) -> None:
        self.height = height
        self._start, self._end = span
        low, high = values
        margin = (high - low) * 0.05 or abs(high) * 0.01 or 1.0
        self._low, self._high = low - margin, high + margin

    def x(self, ts: float) -> float:
        share = (ts - self._start) / (self._end - self._start or 1)
        return _LEFT + share * (_WIDTH - _LEFT - 8)

    def y(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return self.height - _BOTTOM - share * (self.height - _BOTTOM - _TOP)

    def path(self, points: Points) -> str:
        return "M" + "L".join(f"{self.x(ts):.1f},{self.y(value):.1f}" for ts, value, *_ in points)

    def values(self, unit: str = "") -> str:
        """The value axis and its grid."""
        parts, step = [], 0.92 * (self._high - self._low) / _GRID_LINES
        for index in range(_GRID_LINES + 1):
            value = self._low + (self._high - self._low) * (0.04 + 0.92 * index / _GRID_LINES)
            y = self.y(value)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(
                f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
                f"{_number(value, unit, step)}</text>"
            )
        return "".join(parts)

    def axes(self, unit: str = "") -> str:
        """Both axes."""
        parts = [self.values(unit)]
        days = (self._end - self._start) / _NS / 86_400
        shape = "%b %Y" if days > 120 else "%d %b" if days > 3 else "%H:%M"
        for index in range(6):
            ts = self._start + (self._end - self._start) * (index + 0.5) / 6
            label = datetime.fromtimestamp(ts / _NS, UTC).strftime(shape)
            parts.append(
                f'<text class="tick" x="{self.x(ts):.1f}" y="{self.height - 6}" '
                f'text-anchor="middle">{label}</text>'
            )
        return "".join(parts)


def line(points: Points, *, title: str, unit: str = "", height: int = 260, fill: bool = False,
         tone: str = "accent") -> str:  # fmt: skip
    """One value over time; ``fill`` shades to 0 or to the lower edge."""
    if len(points) < 2:
        return _empty(title)
    values = [point[1] for point in points]
    low, high = min(values), max(values)
    plot = _Plot((points[0][0], points[-1][0]), (low, 0.0 if fill and high <= 0 else high), height)
    path = plot.path(points)
    area = ""
    if fill:
        base = plot.y(0.0) if high <= 0 else height - _BOTTOM
        area = (f'<path class="area {tone}" d="{path}L{plot.x(points[-1][0]):.1f},{base:.1f}'
                f'L{plot.x(points[0][0]):.1f},{base:.1f}Z"/>')  # fmt: skip
    return _svg(title, height, plot.axes(unit) + area + f'<path class="line {tone}" d="{path}"/>')


def trades(points: Points, fills: Sequence[Mapping[str, Any]], *, title: str) -> str:
    """The price with buys below and sells above it."""
    if len(points) < 2:
        return _empty(title)
    prices = [point[1] for point in points] + [float(fill["price"]) for fill in fills]
    plot = _Plot((points[0][0], points[-1][0]), (min(prices), max(prices)), 300)
    marks = []
    for fill in fills:
        x, y = plot.x(fill["exchange_ts"]), plot.y(float(fill["price"]))
        up = fill["side"] == "Buy"
        tip = f"{fill['side']} {fill['qty']} at {fill['price']} ({fill['cause']})"
        shape = f"M{x:.1f},{y + 2:.1f}l5,9h-10z" if up else f"M{x:.1f},{y - 2:.1f}l5,-9h-10z"
        marks.append(f'<path class="mark {"gain" if up else "loss"}" d="{shape}">'
                     f"<title>{escape(tip)}</title></path>")  # fmt: skip
    body = plot.axes() + f'<path class="line quiet" d="{plot.path(points)}"/>' + "".join(marks)
    return _svg(title, 300, body)


def bars(pairs: Sequence[tuple[str, float]], *, title: str, height: int = 200) -> str:
    """A bar for each name, above or below 0."""
    if not any(value for _, value in pairs):
        return _empty(title)
    values = [value for _, value in pairs]
    plot = _Plot((0, len(pairs)), (min(0.0, *values), max(0.0, *values)), height)
    zero, width = plot.y(0.0), min(60.0, (_WIDTH - _LEFT) / len(pairs) * 0.7)
    parts = []
    for index, (name, value) in enumerate(pairs):
        x, y = plot.x(index + 0.5) - width / 2, plot.y(value)
        tone = "gain" if value >= 0 else "loss"
        parts.append(f'<rect class="bar {tone}" x="{x:.1f}" y="{min(y, zero):.1f}" rx="2" '
                     f'width="{width:.1f}" height="{max(1.0, abs(y - zero)):.1f}">'
                     f"<title>{escape(name)}: {value:,.2f}</title></rect>"
                     f'<text class="tick" x="{x + width / 2:.1f}" y="{height - 6}" '
                     f'text-anchor="middle">{escape(name)}</text>')  # fmt: skip
    line_ = f'<line class="zero" x1="{_LEFT}" x2="{_WIDTH}" y1="{zero:.1f}" y2="{zero:.1f}"/>'
    return _svg(title, height, plot.values() + line_ + "".join(parts))


def _svg(title: str, height: int, body: str) -> str:
    return (f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}" '
            f'>{body}</svg>')  # fmt: skip


def _empty(title: str) -> str:
    return f'<p class="none">Nothing to draw for {escape(title.lower())}.</p>'


def _number(value: float, unit: str, step: float) -> str:
    """With as many digits as tell one line of the grid from the next."""
    if unit == "%":
        value, step = value * 100, step * 100
    digits = min(max(1 - math.floor(math.log10(step)), 0), 8) if step > 0 else 2
    return f"{value:,.{digits}f}{unit}"
