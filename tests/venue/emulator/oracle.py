"""An independent reader of the venue's frames: json and dicts, sharing no code with the venue."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import lru_cache
from typing import Any


class Book:
    """A book rebuilt from the frames of one topic; complains about every broken promise."""

    def __init__(self) -> None:
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.u = 0
        self.seq = 0
        self.snapshots = 0
        self.deltas = 0

    def read(self, text: str) -> None:
        message = json.loads(text)
        data = message["data"]
        one_level = message["topic"].startswith("orderbook.1.")
        if message["type"] == "snapshot":
            self.snapshots += 1
            self.bids, self.asks = dict(data["b"]), dict(data["a"])
            assert data["u"] >= self.u or data["u"] == 1
            assert not one_level or data["u"] in {self.u, self.u + 1} or not self.u
        else:
            self.deltas += 1
            assert not one_level, "one level comes as snapshots only"
            assert data["u"] == self.u + 1, "a gap"
            assert data["b"] or data["a"], "an empty delta"
            assert data["seq"] > self.seq
            self._apply(self.bids, data["b"])
            self._apply(self.asks, data["a"])
        assert data["seq"] >= self.seq
        assert message["cts"] <= message["ts"]
        self.u, self.seq = data["u"], data["seq"]

    @staticmethod
    def _apply(side: dict[str, str], levels: list[list[str]]) -> None:
        for price, size in levels:
            if size == "0":
                del side[price]  # a KeyError: the venue deleted what it had never shown
            else:
                side[price] = size

    def sorted_bids(self) -> list[tuple[Decimal, Decimal]]:
        return sorted(_numbers(self.bids), reverse=True)

    def sorted_asks(self) -> list[tuple[Decimal, Decimal]]:
        return sorted(_numbers(self.asks))

    def check_uncrossed(self) -> None:
        assert max(map(_number, self.bids)) < min(map(_number, self.asks)), "crossed"


class Ticker:
    """The merged fields of a ticker topic."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}

    def read(self, text: str) -> None:
        message = json.loads(text)
        if message["type"] == "snapshot":
            self.fields = {}
        else:
            assert self.fields, "a delta before any snapshot"
        self.fields |= message["data"]


def add_up(trades: list[dict[str, Any]], open_: Decimal) -> dict[str, Decimal]:
    """The bar that these trades make, opened at the close before it."""
    prices = [open_, *(Decimal(trade["p"]) for trade in trades)]
    return {
        "open": open_,
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "volume": sum((Decimal(trade["v"]) for trade in trades), Decimal(0)),
        "turnover": sum((Decimal(t["p"]) * Decimal(t["v"]) for t in trades), Decimal(0)),
    }


def _numbers(side: dict[str, str]) -> list[tuple[Decimal, Decimal]]:
    return [(_number(price), _number(size)) for price, size in side.items()]


_number = lru_cache(maxsize=1 << 16)(Decimal)
