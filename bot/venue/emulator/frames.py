"""Bybit v5's public frames, byte for byte in shape: key order, number texts, both categories.

Pure functions from market state to text. Spot writes ``ts`` before ``type`` everywhere, futures
only in the one-level book; futures pad numbers to the symbol's scale, spot and klines do not.
https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bot.venue.emulator.candles import Bar, interval_end
from bot.venue.emulator.listing import Listing, fixed, plain
from bot.venue.emulator.market import PublicTrade, SymbolMarket

MAX_TRADES_PER_FRAME = 1024
_MS = 1_000_000


def book(
    listing: Listing,
    depth: int,
    *,
    kind: str,
    ts_ms: int,
    bids: Iterable[tuple[int, int]],
    asks: Iterable[tuple[int, int]],
    u: int,
    seq: int,
    cts_ms: int,
) -> str:
    """An ``orderbook`` frame; levels are (ticks, lots), bids falling and asks rising."""
    topic = f'{{"topic":"orderbook.{depth}.{listing.name}",'
    if listing.category == "spot" or depth == 1:
        head = f'"ts":{ts_ms},"type":"{kind}",'
    else:
        head = f'"type":"{kind}","ts":{ts_ms},'
    return (
        f'{topic}{head}"data":{{"s":"{listing.name}","b":{levels(listing, bids)},'
        f'"a":{levels(listing, asks)},"u":{u},"seq":{seq}}},"cts":{cts_ms}}}'
    )


def levels(listing: Listing, side: Iterable[tuple[int, int]]) -> str:
    """``[["65114.20","6.054"],...]``"""
    price, qty = listing.price, listing.qty
    return "[" + ",".join(f'["{price(ticks)}","{qty(lots)}"]' for ticks, lots in side) + "]"


def trades(listing: Listing, prints: Sequence[PublicTrade], ts_ms: int) -> list[str]:
    """``publicTrade`` frames for the prints of one taker, in blocks of Bybit's maximum."""
    spot = listing.category == "spot"
    write = _spot_trade if spot else _linear_trade
    order = f'"ts":{ts_ms},"type":"snapshot"' if spot else f'"type":"snapshot","ts":{ts_ms}'
    texts = [write(listing, trade) for trade in prints]
    return [
        f'{{"topic":"publicTrade.{listing.name}",{order},'
        f'"data":[{",".join(texts[start : start + MAX_TRADES_PER_FRAME])}]}}'
        for start in range(0, len(texts), MAX_TRADES_PER_FRAME)
    ]


def _linear_trade(listing: Listing, trade: PublicTrade) -> str:
    return (
        f'{{"T":{trade.at_ns // _MS},"s":"{listing.name}","S":"{_side(trade)}",'
        f'"v":"{listing.qty(trade.lots)}","p":"{listing.price(trade.price)}",'
        f'"L":"{trade.direction}","i":"{trade.id}","BT":false,"RPI":false,"seq":{trade.seq}}}'
    )


def _spot_trade(listing: Listing, trade: PublicTrade) -> str:
    return (
        f'{{"i":"{trade.id}","T":{trade.at_ns // _MS},"p":"{listing.price(trade.price)}",'
        f'"v":"{listing.qty(trade.lots)}","S":"{_side(trade)}","seq":{trade.seq},'
        f'"s":"{listing.name}","BT":false,"RPI":false}}'
    )


def _side(trade: PublicTrade) -> str:
    return "Buy" if trade.buy else "Sell"


def kline_bar(listing: Listing, interval: str, bar: Bar, *, confirm: bool, ts_ms: int) -> str:
    """One element of a ``kline`` frame's data."""
    price = listing.price_plain
    return (
        f'{{"start":{bar.start_ms},"end":{interval_end(interval, bar.start_ms)},'
        f'"interval":"{interval}","open":"{price(bar.open)}","close":"{price(bar.close)}",'
        f'"high":"{price(bar.high)}","low":"{price(bar.low)}",'
        f'"volume":"{listing.qty_plain(bar.lots)}",'
        f'"turnover":"{listing.turnover_plain(bar.turnover)}",'
        f'"confirm":{"true" if confirm else "false"},"timestamp":{ts_ms}}}'
    )


def kline(listing: Listing, interval: str, bars: Sequence[str], ts_ms: int) -> list[str]:
    """``kline`` frames: futures put a closed bar and its successor into one, spot into two."""
    topic = f'"topic":"kline.{interval}.{listing.name}"'
    if listing.category == "spot":
        return [f'{{"type":"snapshot",{topic},"data":[{bar}],"ts":{ts_ms}}}' for bar in bars]
    return [f'{{{topic},"data":[{",".join(bars)}],"ts":{ts_ms},"type":"snapshot"}}']


def linear_ticker_fields(market: SymbolMarket) -> dict[str, str]:
    """Every field of a futures ticker, in Bybit's order."""
    listing, day, funding = market.listing, market.candles.day, market.funding
    price, scale = listing.price, listing.price_scale
    bid, bid_lots = next(iter(market.book.bids.top(1).items()))
    ask, ask_lots = next(iter(market.book.asks.top(1).items()))
    interest = funding.open_interest
    value = f"{interest * listing.lot_size * funding.mark:.2f}"
    return {
        "symbol": listing.name,
        "tickDirection": market.direction,
        "price24hPcnt": f"{market.last / day.previous - 1:.6f}",
        "lastPrice": price(market.last),
        "prevPrice24h": price(day.previous),
        "highPrice24h": price(day.high),
        "lowPrice24h": price(day.low),
        "prevPrice1h": price(day.previous_hour),
        "markPrice": f"{funding.mark:.{scale}f}",
        "indexPrice": f"{market.index:.{scale}f}",
        "openInterest": listing.qty(interest),
        "openInterestValue": value,
        "turnover24h": f"{listing.turnover(day.turnover):.4f}",
        "volume24h": fixed(day.lots, listing.qty_scale) + _padding(listing.qty_scale, 4),
        "fundingIntervalHour": str(max(1, listing.funding_minutes // 60)),
        "fundingCap": "0.005",
        "singleOpenInterest": listing.qty(interest // 2),
        "singleOpenInterestValue": f"{interest // 2 * listing.lot_size * funding.mark:.2f}",
        "nextFundingTime": str(funding.next_ms),
        "fundingRate": plain(funding.rate_e8, 8),
        "bid1Price": price(bid),
        "bid1Size": listing.qty(bid_lots),
        "ask1Price": price(ask),
        "ask1Size": listing.qty(ask_lots),
        "preOpenPrice": "",
        "preQty": "",
        "curPreListingPhase": "",
    }


def spot_ticker_fields(market: SymbolMarket) -> dict[str, str]:
    """Every field of a spot ticker, in Bybit's order."""
    listing, day = market.listing, market.candles.day
    change = round((market.last / day.previous - 1) * 10_000)
    return {
        "symbol": listing.name,
        "lastPrice": listing.price(market.last),
        "highPrice24h": listing.price(day.high),
        "lowPrice24h": listing.price(day.low),
        "prevPrice24h": listing.price(day.previous),
        "volume24h": listing.qty_plain(day.lots),
        "turnover24h": listing.turnover_plain(day.turnover),
        "price24hPcnt": plain(change, 4),
        "usdIndexPrice": f"{market.index:.6f}",
    }


def ticker(listing: Listing, fields: Mapping[str, str], *, kind: str, seq: int, ts_ms: int) -> str:
    """A ``tickers`` frame of some or all fields; ``symbol`` is always one of them."""
    data = ",".join(f'"{name}":"{text}"' for name, text in fields.items())
    topic = f'"topic":"tickers.{listing.name}"'
    if listing.category == "spot":
        return f'{{{topic},"ts":{ts_ms},"type":"{kind}","cs":{seq},"data":{{{data}}}}}'
    return f'{{{topic},"type":"{kind}","data":{{{data}}},"cs":{seq},"ts":{ts_ms}}}'


def _padding(scale: int, wanted: int) -> str:
    """The zeros that bring a number of ``scale`` decimals to ``wanted``."""
    if scale >= wanted:
        return ""
    return ("." if not scale else "") + "0" * (wanted - scale)
