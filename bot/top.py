"""A run in the terminal, drawn again and again: from its ledger or the page that it serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qs, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import msgspec
from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bot.core.errors import PlainError
from bot.ledger import reading
from bot.operate.dashboard.books import state_of
from bot.operate.state import State

TIMEOUT_S = 5.0
_SHOWN = 12


class TopError(PlainError):
    """The run cannot be watched; the text says where and what to do."""


def by_ledger(db: str, run: str | None) -> Callable[[], State]:
    """Ask the ledger. Raises LedgerError, now or when asked."""
    return lambda: reading.read(db, state_of, run)


def by_page(url: str) -> Callable[[], State]:
    """Ask the dashboard whose address, token in it, was printed when the bot started."""
    parts = urlsplit(url)
    token = parse_qs(parts.query).get("token", [""])[0]
    if parts.scheme not in ("http", "https") or not parts.netloc or not token:
        raise TopError(f"{url.partition('?')[0]}: no dashboard's address with ?token=...")
    asked = Request(  # noqa: S310 - http or https
        f"{parts.scheme}://{parts.netloc}/api/state", headers={"authorization": f"Bearer {token}"}
    )
    opener = build_opener(ProxyHandler({}))

    def ask() -> State:
        try:
            with opener.open(asked, timeout=TIMEOUT_S) as answer:
                return msgspec.json.decode(answer.read(), type=State)
        except HTTPError as error:
            reason = "the token is not the run's" if error.code == 401 else f"status {error.code}"
            raise TopError(f"{parts.netloc}: {reason}") from error
        except (URLError, OSError, msgspec.MsgspecError) as error:
            raise TopError(f"{parts.netloc}: no dashboard answers: {error}") from error

    return ask


def watch(ask: Callable[[], State], *, every_s: float) -> None:
    """Draw until Ctrl-C, or until the run has ended."""
    state = ask()
    with Live(screen_of(state), auto_refresh=False, screen=True) as live:
        while state.status == "running":
            time.sleep(every_s)
            state = ask()
            live.update(screen_of(state), refresh=True)


def screen_of(state: State) -> RenderableType:
    """The whole screen of one state."""
    parts: list[RenderableType] = [_head(state), _money(state)]
    if state.is_live:
        parts.append(Columns(list(_speed(state)), expand=False))
    parts += [_positions(state), _orders(state)]
    if state.open_gaps:
        parts.append(Text(f"books unknown now: {', '.join(state.open_gaps)}", style="bold red"))
    return Group(*parts)


def _head(state: State) -> RenderableType:
    ago_s = (state.ts - state.started_ts) / 1e9
    word = state.trading or state.status
    style = "green" if word == "active" else "yellow"
    line = Text.assemble(
        (state.instance, "bold"), f"  {state.run}  ", (word, style),
        f"  up {ago_s / 3600:.1f} h  {datetime.fromtimestamp(state.ts / 1e9, UTC):%H:%M:%S} UTC",
    )  # fmt: skip
    if state.untrained:
        line.append(f"  UNTRAINED: {', '.join(state.untrained)}", style="yellow")
    return Panel(line, box=SIMPLE_HEAD)


def _money(state: State) -> RenderableType:
    table = _table("equity", "net pnl", "realized", "unrealized", "fees", "funding", "orders",
                   "fills", "gaps", "predictions")  # fmt: skip
    money, counts = state.money, state.counts
    numbers = (money.equity, money.net_pnl, money.realized_pnl, money.unrealized_pnl, money.fees,
               money.funding)  # fmt: skip
    named = ("orders", "fills", "gaps", "predictions")
    table.add_row(*(_signed(n) for n in numbers), *(f"{counts.get(name, 0):,}" for name in named))
    return table


def _speed(state: State) -> Iterator[RenderableType]:
    table = _table("latency", "p50", "p99", "count")
    found = [("feed", state.feed_latency), ("loop lag", state.loop_lag)]
    if state.inference is not None:
        found.append(("inference", state.inference.latency))
    for name, each in found:
        if each is not None:
            table.add_row(name, _ms(each.p50_ns), _ms(each.p99_ns), f"{each.count:,}")
    yield table
    if state.queues is not None:
        queues = _table("queue", "waiting")
        queues.add_row("inbox", str(state.queues.inbox))
        queues.add_row("ledger", str(state.queues.ledger))
        if state.inference is not None:
            queues.add_row("inference", str(state.inference.waiting))
            cache = state.inference.cache
            queues.add_row("cache", f"{cache.used_bytes >> 10:,} KiB, {cache.evictions} evicted")
        yield queues
    feeds = _table("connection", "state", "frames", "lost")
    for feed in state.feeds:
        feeds.add_row(feed.conn, feed.state, f"{feed.frames:,}", str(feed.disconnects))
    yield feeds


def _positions(state: State) -> RenderableType:
    table = _table("symbol", "position", "entry", "price", "unrealized", "realized", "fees")
    for each in state.holdings[:_SHOWN]:
        profits = _signed(each.unrealized_pnl), _signed(each.realized_pnl)
        prices = each.average_entry or "", each.price or ""
        table.add_row(each.symbol, each.position, *prices, *profits, each.fees)
    return table


def _orders(state: State) -> RenderableType:
    table = _table("order", "symbol", "side", "leaves", "price", "ahead", "strategy")
    for each in state.orders[:_SHOWN]:
        ahead = each.ahead or ("travelling" if each.state == "travelling" else "")
        what = str(each.order_id), each.symbol, each.side, each.leaves, each.price or "market"
        table.add_row(*what, ahead, each.strategy)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="dim")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _signed(text: str | None) -> Text:
    if text is None:
        return Text("")
    style = "red" if text.startswith("-") else ""
    return Text(text, style=style)


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.2f} ms"
