"""The rules of every listing, as ``/v5/market/instruments-info`` tells them.

https://bybit-exchange.github.io/docs/v5/market/instrument
"""

from __future__ import annotations

import zlib

from bot.venue.emulator.funding import CAP
from bot.venue.emulator.listing import Listing, fixed, plain

_MAX_LIMIT_USDT = 9e7
_MAX_MARKET_USDT = 9e6
_MAX_TICKS = 19_999_998
_LAUNCH_MS = 1_584_230_400_000


def instrument(listing: Listing) -> dict[str, object]:
    """One element of the answer's list, in Bybit's key order."""
    return _spot(listing) if listing.category == "spot" else _linear(listing)


def _linear(listing: Listing) -> dict[str, object]:
    limit_qty = listing.qty(listing.lots_for(_MAX_LIMIT_USDT))
    funding_cap = f"{CAP:g}"
    return {
        "symbol": listing.name,
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": listing.base,
        "quoteCoin": listing.quote,
        "launchTime": str(_LAUNCH_MS),
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(listing.price_scale),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "priceFilter": {
            "minPrice": listing.price(1),
            "maxPrice": listing.price(_MAX_TICKS),
            "tickSize": listing.price(1),
        },
        "lotSizeFilter": {
            "maxOrderQty": limit_qty,
            "minOrderQty": listing.qty(1),
            "qtyStep": listing.qty(1),
            "postOnlyMaxOrderQty": limit_qty,
            "maxMktOrderQty": listing.qty(listing.lots_for(_MAX_MARKET_USDT)),
            "minNotionalValue": "5",
        },
        "unifiedMarginTrade": True,
        "fundingInterval": listing.funding_minutes,
        "settleCoin": listing.quote,
        "copyTrading": "both",
        "upperFundingRate": funding_cap,
        "lowerFundingRate": f"-{funding_cap}",
        "isPreListing": False,
        "preListingInfo": None,
        "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
        "displayName": "",
        "symbolType": "",
        "forbidUplWithdrawal": False,
        "symbolId": _symbol_id(listing),
    }


def _spot(listing: Listing) -> dict[str, object]:
    limit_qty = listing.qty(listing.lots_for(_MAX_LIMIT_USDT / 9))
    return {
        "symbolId": _symbol_id(listing),
        "symbol": listing.name,
        "baseCoin": listing.base,
        "quoteCoin": listing.quote,
        "innovation": "0",
        "status": "Trading",
        "marginTrading": "utaOnly",
        "stTag": "0",
        "lotSizeFilter": {
            "basePrecision": plain(1, listing.qty_scale),
            "quotePrecision": fixed(1, 7),
            "minOrderQty": plain(1, listing.qty_scale),
            "maxOrderQty": limit_qty,
            "minOrderAmt": "5",
            "maxOrderAmt": "8000000",
            "maxLimitOrderQty": limit_qty,
            "maxMarketOrderQty": listing.qty(listing.lots_for(_MAX_MARKET_USDT / 2)),
            "postOnlyMaxLimitOrderSize": limit_qty,
        },
        "priceFilter": {"tickSize": listing.price(1)},
        "riskParameters": {"priceLimitRatioX": "0.005", "priceLimitRatioY": "0.01"},
        "symbolType": "",
        "xstockMultiplier": "1",
    }


def _symbol_id(listing: Listing) -> int:
    return zlib.crc32(listing.symbol.encode()) % 10_000
