"""The learning curve of a training as an SVG, drawn from its record alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

_WIDTH, _HEIGHT, _MARGIN = 720, 260, 56
_COLOURS = ("#4269d0", "#ff725c", "#6cc5b0")

Points = Sequence[tuple[float, float]]


def write_curve(record: Path, picture: Path) -> None:
    """Draw losses above and the validation's rank correlation below, over steps."""
    entries = [msgspec.json.decode(line) for line in record.read_bytes().splitlines()]
    seen = [entry for entry in entries if entry.get("event") == "evaluation"]

    def line(name: str) -> Points:
        return [(e["step"], e[name]) for e in seen if isinstance(e.get(name), int | float)]

    panels = [
        _panel(0, "loss", {"training": line("train_loss"), "validation": line("loss")}),
        _panel(_HEIGHT, "rank correlation", {"validation": line("ic")}),
    ]
    picture.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{2 * _HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(panels)}</svg>\n'
    )


def _panel(top: int, title: str, lines: dict[str, Points]) -> str:
    points = [point for line in lines.values() for point in line]
    parts = [f'<text x="{_MARGIN}" y="{top + 20}" font-weight="bold">{title}</text>']
    if not points:
        return parts[0]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    wide, tall = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN

    def at(x: float, y: float) -> str:
        across = (x - left) / (right - left or 1)
        up = (y - low) / (high - low or 1)
        return f"{_MARGIN + across * wide:.1f},{top + _HEIGHT - _MARGIN - up * tall:.1f}"

    for y in (low, high):
        place = at(left, y).split(",")[1]
        parts.append(f'<text x="{_MARGIN - 6}" y="{place}" text-anchor="end">{y:.4g}</text>')
    for x in (left, right):
        place = at(x, low).split(",")[0]
        bottom = top + _HEIGHT - _MARGIN + 18
        parts.append(f'<text x="{place}" y="{bottom}" text-anchor="middle">step {x:g}</text>')
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number]
        path = " ".join(at(*point) for point in line)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
            f'<text x="{_WIDTH - _MARGIN - 70 * (number + 1)}" y="{top + 20}" '
            f'fill="{colour}">{name}</text>'
        )
    return "".join(parts)
