"""What Prometheus reads is the state, in its own format."""

from __future__ import annotations

import asyncio
import json
import re

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bot.core.histogram import LatencyHistogram
from bot.observe import latency
from bot.operate import state
from bot.operate.metrics import EDGES_S, metrics_app, text_of
from bot.operate.serving import ServingError, bind, serve
from tests.processes import ROOT


def made(**more):
    histogram = LatencyHistogram()
    for ns in (10**3, 10**6, 10**6, 3 * 10**7, 10**11):
        histogram.add(ns)
    cache = state.Cache(64, 32, 2, 1, 100, 3, 7, 0)
    given = {
        "run": "r1", "instance": "bot", "mode": "paper", "status": "running", "is_live": True,
        "ts": 2 * 10**9, "started_ts": 10**9, "trading": "reducing", "symbols": ["linear:BTCUSDT"],
        "models": ["analyzer"], "untrained": [], "position": 12, "facts": 5, "committed_facts": 4,
        "counts": {"orders": 3, "fills": 2, "gaps": 1, "predictions": 9},
        "money": state.Money("1.5", "0.5", "0", "1", "-2", "9999.00000001", "10000"),
        "holdings": [state.Holding("linear:BTCUSDT", "-0.5", "100", "1.5", "0.5", "0")],
        "orders": [], "open_gaps": [], "queues": state.Queues(4, 8, 6),
        "feeds": [state.Feed("linear.1", "live", 100, 1000, 2, 1, 3, 0)],
        "feed_latency": latency(histogram), "loop_lag": latency(LatencyHistogram()),
        "inference": state.Inference(70, 9, 2, 0, 0, latency(histogram), cache, {"m": 0.3}),
    }  # fmt: skip
    return state.State(**(given | more))


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    return {
        (
            sample.name,
            *(f"{key}={value}" for key, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_the_states_numbers_are_there_under_their_names():
    found = samples(text_of(made()))
    for name, value in (
        ("orders_total", 3), ("fills_total", 2), ("gaps_total", 1), ("predictions_total", 9),
        ("facts_total", 5), ("facts_committed_total", 4), ("equity_usdt", 9999.00000001),
        ("net_pnl_usdt", 1), ("cache_used_bytes", 32), ("cache_evictions_total", 7),
        ("tokens_total", 70),
    ):  # fmt: skip
        assert found[f"kvtrader_{name}",] == value, name
    for queue, depth in (("inbox", 4), ("ledger", 6), ("inference", 2)):
        assert found["kvtrader_queue_depth", f"queue={queue}"] == depth
    assert found["kvtrader_trading_state", "state=reducing"] == 1
    assert found["kvtrader_trading_state", "state=active"] == 0
    assert found["kvtrader_position_coins", "symbol=linear:BTCUSDT"] == -0.5
    assert found["kvtrader_feed_up", "conn=linear.1"] == 1


def test_a_histogram_counts_every_duration_once_and_none_too_early():
    found = samples(text_of(made()))
    name = "kvtrader_feed_latency_seconds"
    cumulative = [found[f"{name}_bucket", f"le={edge}"] for edge in (*EDGES_S, "+Inf")]
    assert cumulative == sorted(cumulative)
    assert cumulative[-1] == found[f"{name}_count",] == 5
    by_edge = dict(zip(EDGES_S, cumulative, strict=False))
    assert (by_edge[0.0001], by_edge[0.0005], by_edge[0.0025], by_edge[0.05]) == (1, 1, 3, 4)
    assert by_edge[10.0] == 4


def test_quality_is_told_where_it_is_known():
    good = state.Quality(
        "linear:BTCUSDT", "analyzer", 10**9, True, 99, 0.25, None, 0.1, 0.02, [], []
    )
    found = samples(text_of(made(), [good]))
    labels = ("model=analyzer", "symbol=linear:BTCUSDT")
    assert found["kvtrader_prediction_ic", *labels] == 0.25
    assert found["kvtrader_prediction_drift", *labels] == 0.02
    assert ("kvtrader_prediction_hit_rate", *labels) not in found


async def test_the_endpoint_answers_this_machine_alone():
    async def judged():
        return []

    bound = bind("metrics", "127.0.0.1", 0)
    port = bound.getsockname()[1]
    async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as client:
        task = group.create_task(serve(metrics_app(made, judged, host="127.0.0.1"), bound))
        await asyncio.sleep(0.1)
        url = f"http://127.0.0.1:{port}/metrics"
        async with client.get(url) as answer:
            assert answer.status == 200
            assert samples(await answer.read())["kvtrader_fills_total",] == 2
        async with client.get(url, headers={"host": f"evil.example:{port}"}) as answer:
            assert answer.status == 400
        async with client.get(f"http://127.0.0.1:{port}/") as answer:
            assert answer.status == 404
        task.cancel()


def test_a_port_that_is_taken_is_told_with_the_way_out():
    with bind("metrics", "127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(ServingError, match=rf"metrics: cannot listen on 127.0.0.1 port {port}"):
            bind("metrics", "127.0.0.1", port)


def test_the_grafana_file_asks_for_metrics_that_exist():
    text = (ROOT / "docs" / "grafana.json").read_text()
    good = state.Quality("s", "m", 1, True, 1, 0.1, 0.1, 0.1, 0.1, [], [])
    quote = state.Quote("s", True, "1", "2", "1", "1", None, None, 5)
    told = text_of(made(quotes=[quote]), [good]).decode()
    asked = set(re.findall(r"kvtrader_\w+", json.dumps([
        target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]
    ])))  # fmt: skip
    assert len(asked) > 20
    exposed = {name[0] for name in samples(told.encode())}
    assert asked <= exposed
