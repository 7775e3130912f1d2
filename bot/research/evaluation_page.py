"""An evaluation as one self-contained HTML page. Its first line says who won."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from bot.core.errors import PlainError
from bot.model import scores
from bot.model.checkpoint import Card
from bot.model.evaluation import LOWER_IS_BETTER, Case, Row, Subject, cases
from bot.model.tokens import CANDLE_TOKENS
from bot.research.plots import Line, chart

_MOST_DATES = 6


class PageError(PlainError):
    """The page cannot be written."""


def headline(card: Card) -> str:
    """The metric by which a model of these tokens is judged first."""
    return "daily_rank_ic" if card.tokens == CANDLE_TOKENS else "rank_ic"


def verdict(card: Card, rows: Sequence[Row]) -> str:
    """One line: at which horizons the model beats every baseline, for sure or not.

    Judged on the rows of all symbols together, or of the only one.
    """
    metric = headline(card)
    judged = [
        row for row in rows if row["symbol"] == rows[-1]["symbol"] and row["metric"] == metric
    ]
    lost = [row for row in judged if not _beats_all(row)]
    what = f"{metric.replace('_', ' ')} over {_names(judged)}"
    if not judged:
        return f"{card.name}: too little data to judge it."
    if not lost:
        return f"{card.name} beats every baseline in {what}; every paired 95 % interval excludes 0."
    if len(lost) == len(judged):
        return f"{card.name} does NOT beat the baselines: {_gaps(lost)} (paired, 95 %)."
    return (
        f"{card.name} does NOT beat the baselines at {_names(lost)}: {_gaps(lost)} (paired, 95 %); "
        f"it does at {_names([row for row in judged if _beats_all(row)])}."
    )


def strongest(row: Row) -> str | None:
    """The baseline with the best score of a row, None where there is none."""
    known = {k: v["value"] for k, v in row["baselines"].items() if v["value"] is not None}
    best = min if row["metric"] in LOWER_IS_BETTER else max
    return best(known, key=lambda name: known[name]) if known else None


def _beats_all(row: Row) -> bool:
    sign = -1 if row["metric"] in LOWER_IS_BETTER else 1
    gaps = [found["difference"] for found in row["baselines"].values()]
    ends = [gap["lo"] if sign > 0 else gap["hi"] for gap in gaps]
    return bool(gaps) and all(end is not None and sign * end > 0 for end in ends)


def _gaps(rows: Sequence[Row]) -> str:
    told = []
    for row in rows:
        name = strongest(row)
        if name is None:
            told.append(f"{row['horizon']:g} s has no baseline")
            continue
        gap = row["baselines"][name]["difference"]
        told.append(f"{gap['value']:+.4f} [{_number(gap['lo'])}, {_number(gap['hi'])}] against "
                    f"{name} at {row['horizon']:g} s")  # fmt: skip
    return "; ".join(told)


def _names(rows: Sequence[Row]) -> str:
    return ", ".join(f"{row['horizon']:g} s" for row in rows)


# --- the page -----------------------------------------------------------------------------------

_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--ink:#1b1f24;--dim:#667;--line:#d8dde3;--c0:#0969da;
--c1:#cf222e;--c2:#1a7f37;--c3:#9a6700;--c4:#8250df;--c5:#57606a}
@media(prefers-color-scheme:dark){:root{--bg:#0f1318;--ink:#e6e9ed;--dim:#99a3ad;--line:#2c333b;
--c0:#58a6ff;--c1:#ff7b72;--c2:#56d364;--c3:#e3b341;--c4:#bc8cff;--c5:#9aa4af}}
body{background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,sans-serif;max-width:1100px;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.25rem}h2{font-size:1.05rem;margin-top:2.2rem}.verdict{font-weight:600}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:13px}
td,th{border-bottom:1px solid var(--line);padding:.25rem .5rem;text-align:right}
td:first-child,th:first-child,td:nth-child(2),th:nth-child(2){text-align:left}
small,.legend,svg text{color:var(--dim);fill:var(--dim)}svg{max-width:640px;width:100%}
svg text{font-size:11px}.grid{stroke:var(--line)}.line{fill:none;stroke-width:1.6}
.legend{font-size:13px}.legend span{margin-right:1rem}.legend i{display:inline-block;width:.8em;
height:.8em;margin-right:.35em}.plots{display:grid;gap:1rem;
grid-template-columns:repeat(auto-fit,minmax(320px,1fr))}.wide{overflow-x:auto}
"""


def write(
    path: Path,
    card: Card,
    subjects: Sequence[Subject],
    rows: Sequence[Row],
    *,
    notes: Sequence[str],
    cost: float,
) -> None:
    """Write the page. Raises PageError."""
    setting = (
        f"weights {card.weights_sha256[:12]}, window {card.config.window}; 95 % intervals by block "
        f"bootstrap; trading costs {cost * 1e4:g} bps a unit"
    )
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(card.name)} against its baselines</title><style>{_STYLE}</style>",
        f'<p class="verdict">{escape(verdict(card, rows))}</p>',
        *(f"<p>{escape(note)}</p>" for note in notes),
        f"<h1>{escape(card.name)}</h1>",
        f"<p><small>{setting}</small></p>",
    ]
    for subject in reversed(subjects):
        mine = [row for row in rows if row["symbol"] == subject.symbol]
        parts.append(f"<h2>{escape(subject.symbol)}</h2>{_table(mine)}")
        parts += [_plots(case) for case in cases(card, subject, cost=cost) if len(case.kept)]
    try:
        path.write_text("\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise PageError(f"--html {path}: {error.strerror}") from error


def _table(rows: Sequence[Row]) -> str:
    names = sorted({name for row in rows for name in row["baselines"]})
    heads = ["horizon", "metric", "model", "95 %", "n", "independent", *names]
    lines = [f"<tr>{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr>"]
    for row in rows:
        cells = [
            f"{row['horizon']:g} s",
            row["metric"].replace("_", " "),
            _number(row["value"]),
            f"{_number(row['lo'])} to {_number(row['hi'])}",
            f"{row['n']:,}",
            f"{row['n_independent']:,}",
            *(_against(row["baselines"].get(name)) for name in names),
        ]
        lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _against(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    gap = found["difference"]
    told = f"{_number(found['value'])}<br><small>{_number(gap['lo'])} to {_number(gap['hi'])}"
    test = found.get("dm")
    return told + (f"; DM p {test['p_value']:.3f}" if test else "") + "</small>"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"


def _plots(case: Case) -> str:
    names = list(case.subject.forecasts)
    drawn = [
        f"<div><b>Reliability</b>{_reliability(case, names)}</div>",
        f"<div><b>Daily rank IC, mean of the last 20</b>{_ics(case, names)}</div>",
        f"<div><b>Return after costs, added up</b>{_money(case, names)}</div>",
    ]
    return f"<h3>{case.horizon_ns / 1e9:g} s ahead</h3><div class=plots>{''.join(drawn)}</div>"


def _reliability(case: Case, names: Sequence[str]) -> str:
    lines = []
    for name in names:
        said = case.said(name)
        if said is not None:
            found = scores.reliability(*said, case.moved)
            points = list(zip(found.chance.tolist(), found.rose.tolist(), strict=True))
            lines.append(Line(name, points, dots=True))
    ends = [x for line in lines for x, _ in line.points]
    if ends:
        low, high = min(ends), max(ends)
        lines.append(Line("as foretold", [(low, low), (high, high)]))
    return chart(lines, x_label="probability of a rise", y_label="share that rose")


def _ics(case: Case, names: Sequence[str]) -> str:
    lines = []
    for name in names:
        daily = case.daily(name)
        order = np.argsort(daily.days, kind="stable")
        values = daily.values[order]
        points = [
            (float(daily.days[order[i]]), float(np.nanmean(values[max(i - 19, 0) : i + 1])))
            for i in range(len(values))
            if np.isfinite(values[max(i - 19, 0) : i + 1]).any()
        ]
        lines.append(Line(name, points))
    return chart(lines, x_label="UTC day", y_label="rank IC", x_names=_dates(lines))


def _money(case: Case, names: Sequence[str]) -> str:
    order = np.argsort(case.ts, kind="stable")
    when = case.ts[order].tolist()
    lines = []
    for name in names:
        net = case.net_returns(name, case.cost)[order] / case.symbols
        lines.append(Line(name, list(zip(when, accumulate((100 * net).tolist()), strict=True))))
    return chart(lines, x_label="UTC", y_label="percent", x_names=_dates(lines))


def _dates(lines: Sequence[Line]) -> list[tuple[float, str]]:
    """A few times along the lines, as words."""
    return list(_times([x for line in lines for x, _ in line.points]))


def _times(xs: Sequence[float]) -> Iterator[tuple[float, str]]:
    if not xs:
        return
    low, high = min(xs), max(xs)
    form = "%Y-%m-%d" if high - low > 2 * scores.DAY_NS else "%d %H:%M"
    for index in range(_MOST_DATES):
        x = low + (high - low) * index / (_MOST_DATES - 1)
        yield x, datetime.fromtimestamp(x / 1e9, UTC).strftime(form)
        if low == high:
            return
