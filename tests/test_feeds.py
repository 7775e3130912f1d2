"""Which streams a run reads."""

from __future__ import annotations

from bot import feeds
from bot.config_trade import Feed
from bot.inbox import Inbox


def test_a_paper_run_reads_the_configured_depth_and_interval() -> None:
    assert feeds.usual_topics(Feed(depth=200, interval="5")) == (
        "orderbook.200",
        "publicTrade",
        "tickers",
        "kline.5",
    )


async def test_every_category_has_a_stream_of_its_own_that_gives_up_at_the_start() -> None:
    made = feeds.streams(
        ("linear:BTCUSDT", "spot:BTCUSDT", "linear:ETHUSDT"),
        ("orderbook.50", "publicTrade"),
        Feed(),
        "ws://127.0.0.1:1",
        Inbox(100),
    )
    assert [(each.conn, each.category, each.url.rpartition("/")[2]) for each in made] == [
        ("linear.1", "linear", "linear"),
        ("spot.1", "spot", "spot"),
    ]
    assert made[0].topics == (
        "orderbook.50.BTCUSDT",
        "publicTrade.BTCUSDT",
        "orderbook.50.ETHUSDT",
        "publicTrade.ETHUSDT",
    )
