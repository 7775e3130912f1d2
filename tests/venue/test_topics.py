from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.venue.topics import plan, requests

SYMBOLS = st.lists(
    st.builds(
        "{}:{}".format,
        st.sampled_from(["linear", "spot"]),
        st.text("ABCDEFGHIJ0123456789", min_size=2, max_size=30),
    ),
    max_size=150,
)
KINDS = st.lists(
    st.sampled_from(["orderbook.50", "orderbook.200", "publicTrade", "tickers", "kline.1"])
    | st.text("abcdef.", min_size=1, max_size=60),
    unique=True,
    max_size=9,
)


@given(SYMBOLS, KINDS)
def test_every_topic_is_planned_once_within_the_limits(symbols, kinds):
    plans = plan(symbols, kinds)
    wanted = Counter(
        (symbol.split(":")[0], f"{kind}.{symbol.split(':')[1]}")
        for symbol in set(symbols)
        for kind in kinds
    )
    planned = Counter((category, topic) for _, category, topics in plans for topic in topics)
    assert planned == wanted
    assert len({conn for conn, _, _ in plans}) == len(plans)
    for _, _, topics in plans:
        assert 0 < len(json.dumps(topics, separators=(",", ":"))) <= 21_000 + 1


@given(SYMBOLS, KINDS)
def test_the_topics_of_a_symbol_share_a_connection(symbols, kinds):
    homes: dict[tuple[str, str], set[str]] = {}
    for conn, category, topics in plan(symbols, kinds):
        for topic in topics:
            homes.setdefault((category, topic.rpartition(".")[2]), set()).add(conn)
    assert all(len(conns) == 1 for conns in homes.values())


@given(st.lists(st.text(min_size=1, max_size=5), max_size=60))
def test_requests_cut_the_topics_in_order(topics):
    cut = requests(topics)
    assert [topic for request in cut for topic in request] == topics
    assert all(1 <= len(request) <= 10 for request in cut)


def test_two_symbols_need_one_connection_a_category():
    assert plan(["linear:BTCUSDT", "spot:BTCUSDT", "linear:ETHUSDT"], ["tickers", "kline.1"]) == [
        ("linear.1", "linear",
         ("tickers.BTCUSDT", "kline.1.BTCUSDT", "tickers.ETHUSDT", "kline.1.ETHUSDT")),
        ("spot.1", "spot", ("tickers.BTCUSDT", "kline.1.BTCUSDT")),
    ]  # fmt: skip


def test_a_category_that_does_not_fit_one_connection_gets_more():
    symbols = [f"linear:COIN{n:04}USDT" for n in range(900)]
    plans = plan(symbols, ["orderbook.50", "publicTrade"])
    assert [conn for conn, _, _ in plans] == ["linear.1", "linear.2", "linear.3"]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "inverse:BTCUSD", "linear:", ""])
def test_a_symbol_written_otherwise_is_an_error_that_says_how(symbol):
    with pytest.raises(ValueError, match="give linear:NAME or spot:NAME"):
        plan([symbol], ["tickers"])


def test_kinds_too_long_for_a_connection_are_an_error():
    with pytest.raises(ValueError, match=r"linear:BTCUSDT: 700 topics take .* 21000"):
        plan(["linear:BTCUSDT"], [f"a-very-long-kind-of-topic.{n}" for n in range(700)])
