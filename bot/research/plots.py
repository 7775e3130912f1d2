"""Line plots as inline SVG: no script, no font, no colour that a dark page could not show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from msgspec import Struct

_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 34
_MOST_POINTS = 600


class Line(Struct, frozen=True):
    """A named series; ``points`` are (x, y). ``dots`` marks each point too."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


def chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x_names: Sequence[tuple[float, str]] = (),
) -> str:
    """An SVG of lines over common axes; their colours are the page's ``--c0`` to ``--c5``.

    ``x_names`` puts words instead of numbers below the axis.
    """
    kept = [Line(line.name, _thinned(line.points), line.dots) for line in lines if line.points]
    if not kept:
        return "<p>nothing to draw</p>"
    xs = [x for line in kept for x, _ in line.points]
    ys = [y for line in kept for _, y in line.points]
    x_low, x_high = _wide(min(xs), max(xs))
    y_low, y_high = _wide(min(ys), max(ys))

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)
        down = _TOP + (y_high - y) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)
        return round(across, 1), round(down, 1)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(y_label)}">']
    for y in _ticks(y_low, y_high):
        left, down = at(x_low, y)
        parts.append(f'<path class="grid" d="M{left} {down}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{left - 6}" y="{down + 4}" text-anchor="end">{y:.4g}</text>')
    for x, name in x_names or [(x, f"{x:.4g}") for x in _ticks(x_low, x_high)]:
        across, _ = at(x, y_low)
        parts.append(
            f'<text x="{across}" y="{_HEIGHT - 18}" text-anchor="middle">{escape(name)}</text>'
        )
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 3}" text-anchor="middle">'
                 f"{escape(x_label)}</text>")  # fmt: skip
    for number, line in enumerate(kept):
        places = [at(x, y) for x, y in line.points]
        path = "L".join(f"{x} {y}" for x, y in places)
        colour = f"var(--c{number % 6})"
        parts.append(f'<path class="line" style="stroke:{colour}" d="M{path}"/>')
        if line.dots:
            parts += [f'<circle cx="{x}" cy="{y}" r="3" style="fill:{colour}"/>' for x, y in places]
    parts.append("</svg>")
    return "".join(parts) + _legend(kept)


def _legend(lines: Sequence[Line]) -> str:
    words = (
        f'<span><i style="background:var(--c{number % 6})"></i>{escape(line.name)}</span>'
        for number, line in enumerate(lines)
    )
    return f'<p class="legend">{"".join(words)}</p>'


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most so many points, the last among them."""
    step = max(-(-len(points) // _MOST_POINTS), 1)
    kept = list(points[::step])
    return kept if kept[-1:] == list(points[-1:]) else [*kept, points[-1]]


def _wide(low: float, high: float) -> tuple[float, float]:
    if low == high:
        room = abs(low) or 1.0
        return low - room, high + room
    room = (high - low) * 0.04
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers."""
    step: float = 10.0 ** math.floor(math.log10((high - low) / 4))
    for factor in (5, 2):
        if (high - low) / (step * factor) >= 4:
            step *= factor
            break
    first = math.ceil(low / step)
    return [round(step * (first + i), 12) for i in range(int((high - first * step) / step) + 1)]
