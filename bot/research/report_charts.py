"""Charts as inline SVG, drawn from plain numbers. Colours come from the page's style sheet.

Each is drawn twice, for a wide and for a narrow screen; the style sheet shows the one that fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

_LEFT, _RIGHT, _BOTTOM, _TOP = 70, 8, 26, 10
_WIDTHS = {"wide": 1000, "narrow": 400}
_GRID_LINES = 4
_NS = 10**9

Points = Sequence[Sequence[float]]


class _Plot:
    """A frame with a time axis and a value axis that ends at round numbers."""

    def __init__(
        self, span: tuple[float, float], values: tuple[float, float], width: int, height: int
    ) -> None:
        self.width, self.height = width, height
        self._start, self._end = span
        low, high = values
        spread = (high - low) or abs(high) * 0.01 or 1.0
        self._step = _round_step(spread / _GRID_LINES)
        self._first = math.floor(low / self._step)
        self._last = max(math.ceil(high / self._step), self._first + 1)

    def x(self, ts: float) -> float:
        share = (ts - self._start) / (self._end - self._start or 1)
        return _LEFT + share * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value / self._step - self._first) / (self._last - self._first)
        return self.height - _BOTTOM - share * (self.height - _BOTTOM - _TOP)

    def path(self, points: Points) -> str:
        return "M" + "L".join(f"{self.x(ts):.1f},{self.y(value):.1f}" for ts, value, *_ in points)

    def values(self, unit: str = "") -> str:
        """The value axis and its grid."""
        parts = []
        for number in range(self._first, self._last + 1):
            value = number * self._step
            y = self.y(value)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{self.width}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
                f"{_number(value, unit, self._step)}</text>"
            )
        return "".join(parts)

    def axes(self, unit: str = "") -> str:
        """Both axes."""
        parts = [self.values(unit)]
        shape = _time_shape((self._end - self._start) / _NS)
        count = max(3, self.width // 165)
        for index in range(count):
            ts = self._start + (self._end - self._start) * (index + 0.5) / count
            label = datetime.fromtimestamp(ts / _NS, UTC).strftime(shape)
            parts.append(
                f'<text class="tick" x="{self.x(ts):.1f}" y="{self.height - 6}" '
                f'text-anchor="middle">{label}</text>'
            )
        return "".join(parts)

    def level(self, value: float, of: str) -> str:
        y = self.y(value)
        return f'<line class="{of}" x1="{_LEFT}" x2="{self.width}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _time_shape(span_s: float) -> str:
    """What tells the labels of an axis so long apart."""
    days = span_s / 86_400
    if days > 120:
        return "%b %Y"
    if days > 3:
        return "%d %b"
    return "%H:%M" if span_s > 1800 else "%H:%M:%S"


def equity(points: Points, hold: Points, deposit: float, *, title: str) -> str:
    """What the account is worth, what buying and holding would have been, and the deposit."""
    if len(points) < 2:
        return _empty(title)
    values = [point[1] for point in (*points, *hold)] + [deposit]

    def draw(width: int, height: int) -> str:
        plot = _Plot((points[0][0], points[-1][0]), (min(values), max(values)), width, height)
        held = f'<path class="line quiet" d="{plot.path(hold)}"/>' if len(hold) > 1 else ""
        ours = f'<path class="line accent" d="{plot.path(points)}"/>'
        return plot.axes() + plot.level(deposit, "zero dashed") + held + ours

    held = '<span class="key quiet">buy and hold</span>' if len(hold) > 1 else ""
    legend = f'<p class="legend"><span class="key accent">this run</span>{held}</p>'
    return legend + _drawn(title, 280, draw)


def drawdown(points: Points, *, title: str) -> str:
    """How far below the peak, shaded from 0 down."""
    if len(points) < 2:
        return _empty(title)

    def draw(width: int, height: int) -> str:
        low = min(value for _, value, *_ in points)
        plot = _Plot((points[0][0], points[-1][0]), (low, 0.0), width, height)
        path, base = plot.path(points), plot.y(0.0)
        area = (f'<path class="area loss" d="{path}L{plot.x(points[-1][0]):.1f},{base:.1f}'
                f'L{plot.x(points[0][0]):.1f},{base:.1f}Z"/>')  # fmt: skip
        return plot.axes("%") + area + f'<path class="line loss" d="{path}"/>'

    return _drawn(title, 160, draw)


def trades(points: Points, fills: Sequence[Mapping[str, Any]], *, title: str) -> str:
    """The price with buys below and sells above it."""
    if len(points) < 2:
        return _empty(title)
    prices = [point[1] for point in points] + [float(fill["price"]) for fill in fills]

    def draw(width: int, height: int) -> str:
        plot = _Plot((points[0][0], points[-1][0]), (min(prices), max(prices)), width, height)
        marks = "".join(_mark(plot, fill) for fill in fills)
        return plot.axes() + f'<path class="line quiet" d="{plot.path(points)}"/>' + marks

    return _drawn(title, 300, draw)


def _mark(plot: _Plot, fill: Mapping[str, Any]) -> str:
    x, y = plot.x(fill["exchange_ts"]), plot.y(float(fill["price"]))
    up = fill["side"] == "Buy"
    tip = f"{fill['side']} {fill['qty']} at {fill['price']} ({fill['cause']})"
    shape = f"M{x:.1f},{y + 2:.1f}l5,9h-10z" if up else f"M{x:.1f},{y - 2:.1f}l5,-9h-10z"
    return (f'<path class="mark {"gain" if up else "loss"}" d="{shape}">'
            f"<title>{escape(tip)}</title></path>")  # fmt: skip


def bars(pairs: Sequence[tuple[str, float]], *, title: str, height: int = 200) -> str:
    """A bar for each name, above or below 0."""
    if not any(value for _, value in pairs):
        return _empty(title)
    values = [value for _, value in pairs]

    def draw(width: int, height: int) -> str:
        plot = _Plot((0, len(pairs)), (min(0.0, *values), max(0.0, *values)), width, height)
        room = (width - _LEFT - _RIGHT) / len(pairs)
        shown = max(1, math.ceil(max(len(name) for name, _ in pairs) * 8 / room))
        parts = [_bar(plot, index, *pair, min(60.0, room * 0.7), is_named=index % shown == 0)
                 for index, pair in enumerate(pairs)]  # fmt: skip
        return plot.values() + plot.level(0.0, "zero") + "".join(parts)

    return _drawn(title, height, draw)


def _bar(plot: _Plot, index: int, name: str, value: float, width: float, *, is_named: bool) -> str:
    x, y, zero = plot.x(index + 0.5), plot.y(value), plot.y(0.0)
    label = (f'<text class="tick" x="{x:.1f}" y="{plot.height - 6}" text-anchor="middle">'
             f"{escape(name)}</text>" if is_named else "")  # fmt: skip
    return (f'<rect class="bar {"gain" if value >= 0 else "loss"}" x="{x - width / 2:.1f}" rx="2" '
            f'y="{min(y, zero):.1f}" width="{width:.1f}" height="{max(1.0, abs(y - zero)):.1f}">'
            f"<title>{escape(name)}: {value:,.2f}</title></rect>{label}")  # fmt: skip


def _drawn(title: str, height: int, draw: Callable[[int, int], str]) -> str:
    return "".join(
        f'<svg class="{screen}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}">{draw(width, height)}</svg>'
        for screen, width in _WIDTHS.items()
    )


def _empty(title: str) -> str:
    return f'<p class="none">Nothing to draw for {escape(title.lower())}.</p>'


def _round_step(step: float) -> float:
    """The next of 1, 2, 2.5 or 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= step * 0.999)


def _number(value: float, unit: str, step: float) -> str:
    """With as many digits as the grid's step has."""
    if unit == "%":
        value, step = value * 100, step * 100
    digits = next((n for n in range(9) if abs(step * 10**n - round(step * 10**n)) < 1e-6), 8)
    return f"{value:,.{digits}f}{unit}"
