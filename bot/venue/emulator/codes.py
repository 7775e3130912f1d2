"""Bybit's retCodes with the texts that come with them, and the exception that carries one.

https://bybit-exchange.github.io/docs/v5/error
"""

from __future__ import annotations

TEXTS = {
    10001: "Request parameter error.",
    10003: "API key is invalid.",
    10005: "Permission denied, please check your API key permissions.",
    10006: "Too many visits. Exceeded the API Rate Limit.",
    10029: "The requested symbol is invalid, please check symbol whitelist.",
    110001: "order not exists or too late to cancel",
    110003: "Order price exceeds the allowable range.",
    110007: "ab not enough for new order",
    110009: "The number of stop orders exceeds the maximum allowable limit.",
    110013: "Cannot set leverage due to risk limit level.",
    110017: "Reduce-only rule not satisfied",
    110020: "You cannot have more than 500 active orders",
    110043: "leverage not modified",
    110072: "OrderLinkedID is duplicate",
    110090: "Order placement failed as your position may exceed the max limit.",
    110092: "Expected rising, but the trigger price is not above the current price.",
    110093: "Expected falling, but the trigger price is not below the current price.",
    110094: "Order does not meet minimum order value 5USDT",
    170115: "Invalid timeInForce.",
    170116: "Invalid orderType.",
    170117: "Invalid side.",
    170121: "Invalid symbol.",
    170130: "Data sent for parameter is not valid.",
    170131: "Insufficient balance.",
    170134: "Order price has too many decimals.",
    170135: "Order quantity exceeded upper limit.",
    170136: "Order quantity exceeded lower limit.",
    170137: "Order volume decimal too long.",
    170140: "Order value exceeded lower limit.",
    170141: "Duplicate clientOrderId",
    170193: "Buy order price cannot be higher than the limit.",
    170194: "Sell order price cannot be lower than the limit.",
    170213: "Order does not exist.",
    170810: "Cannot exceed maximum of 500 conditional, TP/SL and active orders.",
    34040: "not modified",
}


class Refused(Exception):
    """A request that the venue answers with ``code`` and ``text`` and does not carry out."""

    def __init__(self, code: int, text: str = "") -> None:
        self.code = code
        self.text = text or TEXTS[code]
        super().__init__(f"{code}: {self.text}")
