"""The public REST answers of the synthetic market: query in, ``result`` out. No sockets here.

https://bybit-exchange.github.io/docs/v5/market/kline and its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from bot.venue.emulator.candles import INTERVAL_MINUTES, MINUTE_MS, Bar
from bot.venue.emulator.frames import linear_ticker_fields, spot_ticker_fields
from bot.venue.emulator.instruments import instrument
from bot.venue.emulator.listing import Listing, plain
from bot.venue.emulator.market import Market, SymbolMarket
from bot.venue.emulator.risk_limits import PAGE_SYMBOLS, tiers

Query: TypeAlias = Mapping[str, str]
Result: TypeAlias = dict[str, Any]
Routes: TypeAlias = dict[str, Callable[[Query], Result]]

CATEGORIES = ("linear", "spot")
_MS = 1_000_000


class BadParameterError(Exception):
    """A query that Bybit answers with retCode 10001; the text is its ``retMsg``."""


def envelope(result: Result, now_ms: int) -> Result:
    return {
        "retCode": 0,
        "retMsg": "OK",
        "result": result,
        "retExtInfo": {},
        "time": now_ms,
    }


def refusal(code: int, message: str, now_ms: int) -> Result:
    return envelope({}, now_ms) | {"retCode": code, "retMsg": message}


def routes(market: Market) -> Routes:
    """Every path that the synthetic market answers."""
    answers = MarketAnswers(market)
    return {
        "/v5/market/instruments-info": answers.instruments_info,
        "/v5/market/kline": answers.kline,
        "/v5/market/mark-price-kline": answers.mark_price_kline,
        "/v5/market/orderbook": answers.orderbook,
        "/v5/market/tickers": answers.tickers,
        "/v5/market/recent-trade": answers.recent_trade,
        "/v5/market/funding/history": answers.funding_history,
        "/v5/market/risk-limit": answers.risk_limit,
    }


def server_time(now_ns: int) -> Result:
    return {"timeSecond": str(now_ns // 1_000_000_000), "timeNano": str(now_ns)}


class MarketAnswers:
    """One method a path. All raise BadParameterError for a query that Bybit would refuse."""

    def __init__(self, market: Market) -> None:
        self._market = market

    def instruments_info(self, query: Query) -> Result:
        category = category_of(query)
        listings = [market.listing for market in self._some(query, category)]
        if query.get("baseCoin"):
            listings = [one for one in listings if one.base == query["baseCoin"]]
        if query.get("status", "Trading") != "Trading":
            listings = []
        if category == "spot":  # spot has no pages
            return {"category": category, "list": [instrument(one) for one in listings]}
        limit = number(query, "limit", 500, 1, 1000)
        page, cursor = _page(listings, query.get("cursor", ""), limit)
        return {
            "category": category,
            "list": [instrument(one) for one in page],
            "nextPageCursor": cursor,
        }

    def kline(self, query: Query) -> Result:
        market = self._one(query)
        interval = query.get("interval", "")
        if interval not in INTERVAL_MINUTES:
            raise BadParameterError("Invalid period!")
        limit = number(query, "limit", 200, 1, 1000)
        end = number(query, "end", 2**62, 0, 2**62)
        start = number(query, "start", 0, 0, 2**62)
        if query.get("start") and not query.get("end"):  # Bybit then counts forward from it
            end = start + limit * INTERVAL_MINUTES[interval] * MINUTE_MS - 1
        bars = market.candles.bars(interval, start, end, limit)
        listing = market.listing
        return {
            "category": listing.category,
            "symbol": listing.name,
            "list": [_bar(listing, bar) for bar in bars],
        }

    def mark_price_kline(self, query: Query) -> Result:
        """The bars of the trades stand in: the mark, which keeps no history, follows them."""
        if category_of(query) != "linear":
            raise BadParameterError("params error: Category is illegal")
        answer = self.kline(query)
        return answer | {"list": [bar[:5] for bar in answer["list"]]}

    def orderbook(self, query: Query) -> Result:
        market = self._one(query)
        spot = market.listing.category == "spot"
        limit = number(query, "limit", 1 if spot else 25, 1, 200 if spot else 1000)
        listing, book = market.listing, market.book
        return {
            "s": listing.name,
            "a": [[listing.price(p), listing.qty(q)] for p, q in book.asks.top(limit).items()],
            "b": [[listing.price(p), listing.qty(q)] for p, q in book.bids.top(limit).items()],
            "ts": self._market.now_ns // _MS,
            "u": market.events,
            "seq": market.seq,
            "cts": market.at_ns // _MS,
        }

    def tickers(self, query: Query) -> Result:
        category = category_of(query)
        write = _spot_ticker if category == "spot" else _linear_ticker
        return {
            "category": category,
            "list": [write(market) for market in self._some(query, category)],
        }

    def recent_trade(self, query: Query) -> Result:
        market = self._one(query)
        spot = market.listing.category == "spot"
        limit = number(query, "limit", 60 if spot else 500, 1, 60 if spot else 1000)
        listing = market.listing
        newest = list(market.trades)[: -limit - 1 : -1]
        return {
            "category": listing.category,
            "list": [
                {
                    "execId": trade.id,
                    "symbol": listing.name,
                    "price": listing.price(trade.price),
                    "size": listing.qty(trade.lots),
                    "side": "Buy" if trade.buy else "Sell",
                    "time": str(trade.at_ns // _MS),
                    "isBlockTrade": False,
                    "isRPITrade": False,
                    "seq": str(trade.seq),
                }
                for trade in newest
            ],
        }

    def funding_history(self, query: Query) -> Result:
        market = self._one(query)
        if market.listing.category != "linear":
            raise BadParameterError("params error: Category is illegal")
        limit = number(query, "limit", 200, 1, 200)
        start = number(query, "startTime", 0, 0, 2**62)
        end = number(query, "endTime", 2**62, 0, 2**62)
        if query.get("startTime") and not query.get("endTime"):
            raise BadParameterError("params error: endTime is required with startTime")
        found = [one for one in market.funding.history if start <= one.at_ms <= end]
        return {
            "category": "linear",
            "list": [
                {
                    "symbol": market.listing.name,
                    "fundingRate": plain(one.rate_e8, 8),
                    "fundingRateTimestamp": str(one.at_ms),
                }
                for one in found[: -limit - 1 : -1]
            ],
        }

    def risk_limit(self, query: Query) -> Result:
        if category_of(query) != "linear":
            raise BadParameterError("params error: Category is illegal")
        listings = [market.listing for market in self._some(query, "linear")]
        page, cursor = _page(listings, query.get("cursor", ""), PAGE_SYMBOLS)
        tiers_of_page = [tier for listing in page for tier in tiers(listing)]
        return {"category": "linear", "list": tiers_of_page, "nextPageCursor": cursor}

    def _one(self, query: Query) -> SymbolMarket:
        category = category_of(query)
        if not query.get("symbol"):
            raise BadParameterError("params error: symbol is required")
        return self._some(query, category)[0]

    def _some(self, query: Query, category: str) -> list[SymbolMarket]:
        name = query.get("symbol")
        if not name:
            return [m for m in self._market.symbols.values() if m.listing.category == category]
        market = self._market.symbols.get(f"{category}:{name}")
        if market is None:
            raise BadParameterError(f"params error: symbol invalid {name}")
        return [market]


def category_of(query: Query) -> str:
    category = query.get("category", "")
    if category not in CATEGORIES:
        raise BadParameterError("params error: Category is illegal")
    return category


def number(query: Query, name: str, default: int, least: int, most: int) -> int:
    """An integer parameter, clamped at ``most``, refused below ``least``."""
    text = query.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise BadParameterError(f"params error: {name} is invalid")
    return min(int(text), most)


def _page(listings: list[Listing], cursor: str, limit: int) -> tuple[list[Listing], str]:
    """The page after the symbol that ``cursor`` names, and the next cursor, "" at the end."""
    names = [listing.name for listing in listings]
    if cursor and cursor not in names:
        raise BadParameterError("params error: cursor is invalid")
    start = names.index(cursor) + 1 if cursor else 0
    page = listings[start : start + limit]
    return page, page[-1].name if start + limit < len(listings) else ""


def _bar(listing: Listing, bar: Bar) -> list[str]:
    price = listing.price_plain
    return [
        str(bar.start_ms),
        price(bar.open),
        price(bar.high),
        price(bar.low),
        price(bar.close),
        listing.qty_plain(bar.lots),
        listing.turnover_plain(bar.turnover),
    ]


_LINEAR_TICKER = (
    "symbol", "lastPrice", "indexPrice", "markPrice", "prevPrice24h", "price24hPcnt",
    "highPrice24h", "lowPrice24h", "prevPrice1h", "openInterest", "openInterestValue",
    "turnover24h", "volume24h", "fundingRate", "nextFundingTime", "ask1Size", "bid1Price",
    "ask1Price", "bid1Size", "fundingIntervalHour", "fundingCap",
)  # fmt: skip


def _linear_ticker(market: SymbolMarket) -> dict[str, str]:
    fields = linear_ticker_fields(market)
    ticker = {name: fields[name] for name in _LINEAR_TICKER}
    return ticker | {
        "predictedDeliveryPrice": "",
        "basisRate": "",
        "basis": "",
        "deliveryFeeRate": "",
        "deliveryTime": "0",
        "preOpenPrice": "",
        "preQty": "",
        "curPreListingPhase": "",
    }


def _spot_ticker(market: SymbolMarket) -> dict[str, str]:
    listing, book = market.listing, market.book
    fields = spot_ticker_fields(market)
    (bid, bid_lots), (ask, ask_lots) = (
        next(iter(side.top(1).items())) for side in (book.bids, book.asks)
    )
    return {
        "symbol": listing.name,
        "bid1Price": listing.price(bid),
        "bid1Size": listing.qty(bid_lots),
        "ask1Price": listing.price(ask),
        "ask1Size": listing.qty(ask_lots),
        "lastPrice": fields["lastPrice"],
        "prevPrice24h": fields["prevPrice24h"],
        "price24hPcnt": fields["price24hPcnt"],
        "highPrice24h": fields["highPrice24h"],
        "lowPrice24h": fields["lowPrice24h"],
        "turnover24h": fields["turnover24h"],
        "volume24h": fields["volume24h"],
        "usdIndexPrice": fields["usdIndexPrice"],
    }
