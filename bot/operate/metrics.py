"""What Prometheus reads: the run's state as metrics, made when they are asked for.

Nothing is counted here. A scrape costs the loop one picture; the text is written on a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from bot.operate.serving import LOOPBACK, App, Receive, Scope, Send
from bot.operate.state import Inference, Latency, Money, Quality, State

Judged: TypeAlias = Callable[[], Awaitable[list[Quality]]]

EDGES_S: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0
)  # fmt: skip
_STATES: Final = ("active", "reducing", "halted")
_Row: TypeAlias = tuple[tuple[str, ...], float]


def metrics_app(picture: Callable[[], State], judged: Judged, *, host: str) -> App:
    """An ASGI app with /metrics. On loopback it answers only to this machine's names."""
    names = LOOPBACK if host in LOOPBACK else None

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        status, text = 404, b"see /metrics\n"
        called = dict(scope.get("headers", ())).get(b"host", b"").decode("latin-1")
        if names is not None and called.rpartition(":")[0].strip("[]") not in names:
            status, text = 400, b"unknown host\n"
        elif scope["path"] == "/metrics" and scope["method"] == "GET":
            text = await asyncio.to_thread(text_of, picture(), await judged())
            status = 200
        kind = CONTENT_TYPE_LATEST if status == 200 else "text/plain"
        headers = [(b"content-type", kind.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    return app


def text_of(state: State, qualities: Iterable[Quality] = ()) -> bytes:
    """The exposition of one state, from a registry of its own."""
    registry = CollectorRegistry()
    registry.register(_Once([*_families(state), *_qualities(qualities)]))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(state: State) -> Iterator[Metric]:
    yield _gauge("run", "The run under way.", [((state.run, state.instance), 1)], "run", "instance")
    yield _gauge("start_time_seconds", "When the run began.", state.started_ts / 1e9)
    trading = [((name,), float(name == state.trading)) for name in _STATES]
    yield _gauge("trading_state", "1 for the state that trading is in.", trading, "state")
    yield _counter("inputs", "Inputs taken.", state.position)
    yield _counter("facts", "Decisions and outcomes.", state.facts)
    yield _counter("facts_committed", "Facts in the database.", state.committed_facts)
    for name, count in state.counts.items():
        yield _counter(name, f"{name.capitalize()} of the run.", count)
    yield from _money(state)
    yield from _market(state)
    yield from _feeds(state)
    if state.queues is not None:
        queues = state.queues
        waiting = [(("inbox",), queues.inbox), (("ledger",), queues.ledger)]
        if state.inference is not None:
            waiting.append((("inference",), state.inference.waiting))
        yield _gauge("queue_depth", "What waits in each queue.", waiting, "queue")
    for name, text, found in (
        ("feed_latency_seconds", "From the exchange's stamp to ours.", state.feed_latency),
        ("loop_lag_seconds", "How late the event loop wakes a sleeper.", state.loop_lag),
    ):
        if found is not None:
            yield _histogram(name, text, found)
    if state.inference is not None:
        yield from _inference(state.inference)


def _money(state: State) -> Iterator[Metric]:
    money = state.money
    for name in Money.__struct_fields__:
        text = getattr(money, name)
        if text is not None:
            words = name.replace("_", " ").replace("pnl", "profit")
            yield _gauge(f"{name}_usdt", f"{words.capitalize()} in USDT.", float(text))
    held = [((each.symbol,), float(each.position)) for each in state.holdings]
    yield _gauge("position_coins", "Signed position.", held, "symbol")
    open_orders = [((name,), 0.0) for name in state.symbols]
    for index, ((name,), _) in enumerate(open_orders):
        count = sum(order.symbol == name for order in state.orders)
        open_orders[index] = (name,), float(count)
    yield _gauge("open_orders", "Orders that may still fill.", open_orders, "symbol")


def _market(state: State) -> Iterator[Metric]:
    live = [((each.symbol,), float(each.is_live)) for each in state.quotes]
    yield _gauge("book_live", "1 while a book is known without a gap.", live, "symbol")
    ages = [
        ((each.symbol,), each.heard_ago_ns / 1e9)
        for each in state.quotes
        if each.heard_ago_ns is not None
    ]
    yield _gauge("feed_age_seconds", "Since a symbol's last book or trade.", ages, "symbol")


def _feeds(state: State) -> Iterator[Metric]:
    up = [((each.conn,), float(each.state == "live")) for each in state.feeds]
    yield _gauge("feed_up", "1 while a connection is subscribed.", up, "conn")
    for name in ("frames", "bytes", "connects", "disconnects", "resubscribes"):
        rows: list[_Row] = [((each.conn,), getattr(each, name)) for each in state.feeds]
        yield _counter(f"feed_{name}", f"{name.capitalize()} of a connection.", rows, "conn")


def _inference(inference: Inference) -> Iterator[Metric]:
    yield _histogram(
        "inference_latency_seconds", "From an event to its prediction.", inference.latency
    )
    yield _counter("tokens", "Tokens that the models read.", inference.tokens)
    yield _counter("inference_overflows", "Times the models' inbox was full.", inference.overflows)
    yield _counter("inference_lost_events", "Events merged or lost then.", inference.lost_events)
    drift = [((model,), index) for model, index in sorted(inference.drift.items())]
    text = "Population stability index of a model's inputs against those it learned from."
    yield _gauge("input_drift", text, drift, "model")
    cache = inference.cache
    yield _gauge("cache_budget_bytes", "Bytes that the KV cache may hold.", cache.budget_bytes)
    yield _gauge("cache_used_bytes", "Bytes that it holds.", cache.used_bytes)
    yield _gauge("cache_sequences", "Sequences that are open.", cache.sequences)
    for name in ("hits", "misses", "evictions", "refusals"):
        yield _counter(f"cache_{name}", f"KV cache {name}.", getattr(cache, name))


def _qualities(qualities: Iterable[Quality]) -> Iterator[Metric]:
    found = list(qualities)
    for name, text in (
        ("ic", "Rank correlation of expected and realized return."),
        ("hit_rate", "Share of moves whose sign was right."),
        ("calibration_error", "Distance of P(up) from what came."),
        ("drift", "Population stability index of P(up)."),
    ):
        rows = [
            ((each.model, each.symbol), value)
            for each in found
            if (value := getattr(each, name)) is not None
        ]
        yield _gauge(f"prediction_{name}", text, rows, "model", "symbol")


# --- families ---------------------------------------------------------------------------------


def _gauge(name: str, text: str, value: float | list[Any], *labels: str) -> Metric:
    family = GaugeMetricFamily(f"kvtrader_{name}", text, labels=labels)
    for values, number in value if isinstance(value, list) else [((), value)]:
        family.add_metric(values, number)
    return family


def _counter(name: str, text: str, value: float | list[_Row], *labels: str) -> Metric:
    family = CounterMetricFamily(f"kvtrader_{name}", text, labels=labels)
    for values, number in value if isinstance(value, list) else [((), value)]:
        family.add_metric(values, number)
    return family


def _histogram(name: str, text: str, latency: Latency) -> Metric:
    """A bucket of ours counts for the first edge that is not below its own upper edge."""
    counts = [0] * (len(EDGES_S) + 1)
    for edge_ns, count in latency.buckets:
        at = next((i for i, edge in enumerate(EDGES_S) if edge_ns <= edge * 1e9), len(EDGES_S))
        counts[at] += count
    seen = 0
    rows: list[tuple[str, float]] = []
    for edge, count in zip((*EDGES_S, "+Inf"), counts, strict=True):
        seen += count
        rows.append((str(edge), seen))
    total_s = sum(edge_ns * count for edge_ns, count in latency.buckets) / 1e9
    family = HistogramMetricFamily(f"kvtrader_{name}", text)
    family.add_metric([], rows, total_s)
    return family
