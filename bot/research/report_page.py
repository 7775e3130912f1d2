"""A run's report as one HTML file: no network, no script, light or dark as the system is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

import msgspec

from bot.research import report_charts as charts

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#16202c;--soft:#66748a;--line:#e3e8ef;
--accent:#2563eb;--gain:#0f9d6b;--loss:#d6454f}
@media(prefers-color-scheme:dark){:root{--bg:#0e131a;--card:#161d27;--ink:#e6ecf4;--soft:#8b9ab0;
--line:#26303e;--accent:#6aa1ff;--gain:#37c48f;--loss:#ff6b74}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:26px;margin:0 0 4px;letter-spacing:-.02em}h2{font-size:16px;margin:0 0 12px}
.sub{color:var(--soft);margin:0 0 20px;overflow-wrap:anywhere}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px;
margin:16px 0;overflow-x:auto}
.note{border-left:3px solid var(--accent);padding:8px 14px;margin:8px 0;background:var(--card);
border-radius:0 8px 8px 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.tile b{display:block;font-size:22px;font-variant-numeric:tabular-nums;letter-spacing:-.02em}
.tile span{color:var(--soft);font-size:13px}
svg{width:100%;height:auto;display:block}svg.narrow{display:none}.grid{stroke:var(--line)}
.zero{stroke:var(--soft)}.dashed{stroke-dasharray:3 4}.tick{fill:var(--soft);font-size:12px}
.legend{margin:0 0 6px;color:var(--soft);font-size:13px}.key{margin-right:18px}
.key:before{content:"";display:inline-block;width:16px;border-top:2px solid;margin-right:6px;
vertical-align:middle}.key.accent:before{color:var(--accent)}
.pairs{display:grid;grid-template-columns:repeat(auto-fit,minmax(270px,1fr));gap:0 40px;margin:0}
.pairs div{display:flex;justify-content:space-between;gap:16px;padding:6px 0;font-size:14px;
border-bottom:1px solid var(--line)}.pairs dt{color:var(--soft)}.pairs dd{margin:0;text-align:right;
overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round}.line.accent{stroke:var(--accent)}
.line.loss{stroke:var(--loss)}.line.quiet{stroke:var(--soft);stroke-width:1.2}
.area{opacity:.14}.area.accent{fill:var(--accent)}.area.loss{fill:var(--loss)}
.mark.gain,.bar.gain{fill:var(--gain)}.mark.loss,.bar.loss{fill:var(--loss)}.mark{opacity:.8}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th,td{padding:6px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:500}
tr:last-child td{border-bottom:0}.gain{color:var(--gain)}.loss{color:var(--loss)}
@media(max-width:760px){main{padding:20px 12px 40px}section{padding:16px 14px}
svg.wide{display:none}svg.narrow{display:block}.tile b{font-size:19px}
.tiles{grid-template-columns:repeat(auto-fit,minmax(130px,1fr))}}
pre{overflow-x:auto;font-size:12.5px;color:var(--soft);margin:0}.none{color:var(--soft);margin:0}
summary{cursor:pointer;color:var(--soft)}
"""


def page(report: Mapping[str, Any]) -> str:
    """The whole file."""
    run = report["run"]
    title = f"{run['mode']} {run['id']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _subtitle(report),
        *(f'<p class="note">{escape(note)}</p>' for note in report["notes"]),
        _tiles(report["metrics"]),
        _section("Equity, USDT", charts.equity(report["equity"], report["hold"],
                                               report["metrics"]["deposit"], title="Equity")),
        _section("Drawdown at the end of each day",
                 charts.drawdown(report["drawdown"], title="Drawdown of days")),
        _section("Return by month", _month_table(report["months"])),
        *_price_sections(report),
        _section("Net profit by symbol", charts.bars(
            [(row["symbol"], float(row["net_pnl"])) for row in report["by_symbol"]],
            title="Net profit by symbol")),
        _section("Net profit of closed trades by hour, UTC", charts.bars(
            [(str(hour), float(value)) for hour, value in enumerate(report["by_hour"])],
            title="Net profit by hour")),
        _section("Performance", _pairs(_performance(report))),
        _section("Costs", _pairs(_costs(report["metrics"]))),
        _section("Fill policies", _policies(report["policies"])),
        _section("Prediction quality", _rows([*map(_predicted, report["predictions"])])),
        _section("Speed and cache", _pairs(_machine(report["summary"]))),
        _section("Gaps", _rows(report["gaps"])),
        _section("Made from", _pairs(_hashes(report))
                 + f"<details><summary>configuration</summary><pre>"
                   f"{escape(_json(report['config']))}</pre></details>"),
    ]  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def _subtitle(report: Mapping[str, Any]) -> str:
    run = report["run"]
    words = (run["status"], f"version {run['code_version']}", f"seed {run['seed']}")
    return f'<p class="sub">{_span(report["span"])} · {escape(" · ".join(words))}</p>'


# --- parts ------------------------------------------------------------------------------------


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _tiles(numbers: Mapping[str, Any]) -> str:
    shown = (
        ("total return", _percent(numbers["total_return"]), numbers["total_return"]),
        ("Sharpe", _ratio(numbers["sharpe"]), None),
        ("largest drawdown", _percent(numbers["max_drawdown"]), numbers["max_drawdown"]),
        ("final equity, USDT", f"{numbers['final_equity']:,.2f}", None),
        ("closed trades", _plain(numbers["trades"]), None),
        ("hit rate", _percent(numbers["hit_rate"]), None),
    )
    tiles = (f'<div class="tile"><b class="{_tone(tone)}">{value}</b><span>{name}</span></div>'
             for name, value, tone in shown)  # fmt: skip
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _price_sections(report: Mapping[str, Any]) -> Iterable[str]:
    for symbol, points in report["prices"].items():
        fills = [fill for fill in report["trades"] if fill["symbol"] == symbol]
        yield _section(f"{symbol}: price and fills", charts.trades(points, fills, title=symbol))


def _month_table(months: Sequence[Mapping[str, Any]]) -> str:
    if not months:
        return '<p class="none">No whole day yet.</p>'
    by_year: dict[int, dict[int, float]] = {}
    for each in months:
        by_year.setdefault(each["year"], {})[each["month"]] = each["return"]
    head = "".join(f"<th>{name}</th>" for name in ("", *_MONTHS, "year"))
    rows = []
    for year, returns in sorted(by_year.items()):
        whole = 1.0
        for value in returns.values():
            whole *= 1 + value
        cells = [_month(returns.get(month)) for month in range(1, 13)]
        rows.append(f"<tr><td>{year}</td>{''.join(cells)}{_month(whole - 1)}</tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _month(value: float | None) -> str:
    return "<td></td>" if value is None else f'<td class="{_tone(value)}">{value:+.2%}</td>'


def _performance(report: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    numbers, variants = report["metrics"], report["variants"]
    for name in ("annual_return", "annual_volatility", "buy_and_hold_return", "alpha", "exposure",
                 "hit_rate"):  # fmt: skip
        yield name, _percent(numbers[name])
    for name in ("sharpe", "sortino", "calmar", "beta", "profit_factor", "turnover"):
        yield name, _ratio(numbers[name])
    for name in ("longest_drawdown_days", "days", "trades", "orders", "fills"):
        yield name, _plain(numbers[name])
    holding = numbers["average_holding_s"]
    yield "average holding", "" if holding is None else f"{holding / 3600:,.2f} h"
    yield "variants tried on this input", str(variants["tried"])
    yield "deflated sharpe (probability)", _ratio(variants["deflated_sharpe"])


def _costs(numbers: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name in ("traded_value", "realized_pnl", "fees", "funding", "slippage"):
        yield f"{name}, USDT", _money(numbers[name])
    yield "maker share of fills", _percent(numbers["maker_share"])


def _predicted(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of the quality table in a person's units: minutes, per cent, basis points."""
    return {
        "model": row["model"],
        "symbol": row["symbol"],
        "ahead, min": _plain(row["horizon_s"] / 60),
        "predictions": f"{row['n']:,}",
        "direction right": _percent(row["direction_hit_rate"]),
        "correlation": "-" if row["correlation"] is None else f"{row['correlation']:.3f}",
        "mean error, bp": _basis_points(row["mean_absolute_error"]),
        "mean move, bp": _basis_points(row["mean_absolute_move"]),
        "ready after, ms": f"{row['latency_p50_ms']:.2f} (p99 {row['latency_p99_ms']:.2f})",
    }


def _basis_points(value: float | None) -> str:
    return "-" if value is None else f"{value * 1e4:.1f}"


def _machine(summary: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name in ("wall_s", "inputs", "inputs_per_s", "predictions", "gaps"):
        if name in summary:
            yield name, _plain(summary[name])
    for model, latency in (summary.get("prediction_latency_ns") or {}).items():
        yield f"modelled latency of {model}", f"{latency / 1e6:.3f} ms"
    for name, value in (summary.get("cache") or {}).items():
        yield f"cache {name}", _plain(value)


def _hashes(report: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "digest of the facts", str(report["run"]["digest"])
    for name, value in report["run"]["models"].items():
        yield f"weights of {name}", str(value)
    for path in report["summary"].get("input", ()):
        yield "input", str(path)


def _policies(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each policy's money; with several, the range from the worst to the best."""
    if len(rows) < 2:
        return _rows(rows) + '<p class="none">One policy: no range. Shadow policies give one.</p>'
    worth = [float(row["equity"]) for row in rows]
    return _rows(rows) + f"<p>Equity from {min(worth):,.2f} to {max(worth):,.2f} USDT.</p>"


# --- small things -----------------------------------------------------------------------------


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = (f"<div><dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(value)}</dd></div>"
            for name, value in pairs)  # fmt: skip
    return f'<dl class="pairs">{"".join(rows)}</dl>'


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return '<p class="none">None.</p>'
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in rows[0])
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_plain(value))}</td>' for value in row.values())}</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def _money(value: str | None) -> str:
    return _plain(value) if value in (None, "") else f"{float(value):,.2f}"


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    try:
        number = float(value)
    except ValueError:
        return str(value)
    if number == int(number) and abs(number) < 1e15:
        return f"{int(number):,}"
    return f"{number:,.2f}" if abs(number) >= 100 else f"{number:.4g}"


def _tone(value: float | None) -> str:
    return "" if not value else "gain" if value > 0 else "loss"


def _span(span: Sequence[int]) -> str:
    begin, end = (f"{datetime.fromtimestamp(ts / 1e9, UTC):%Y-%m-%d %H:%M}" for ts in span)
    return f"{begin} to {end} UTC"


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode()
