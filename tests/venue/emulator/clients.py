"""A client of the private side without sockets: requests in, answers and pushes out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from bot.venue.emulator.clearing import Clearing
from bot.venue.emulator.codes import Refused
from bot.venue.emulator.market import Market, SymbolMarket
from bot.venue.emulator.private_rest import PrivateAnswers
from bot.venue.emulator.signing import DEMO_KEY

START_NS = 1_786_310_817_000_000_000
STEP_NS = 10_000_000
USDT = 100_000


class Client:
    """One account over a market that moves when told to."""

    def __init__(self, *, seed: int = 7, events_per_s: float = 200.0, usdt: int = USDT) -> None:
        symbols = ("linear:BTCUSDT", "spot:BTCUSDT")
        self.market = Market(
            symbols, seed=seed, start_ns=START_NS, events_per_s=events_per_s, history_hours=1
        )
        self.clearing = Clearing(self.market, [DEMO_KEY], usdt * 10**8)
        self.account = self.clearing.accounts[DEMO_KEY]
        self.pushes: list[tuple[str, dict[str, Any]]] = []
        self._routes = PrivateAnswers(self.clearing).routes()

    # --- asking ----------------------------------------------------------------------------

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        return self._routes["POST", path](self.account, body, self.market.now_ns)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return self._routes["GET", path](self.account, query, self.market.now_ns)

    def order(self, **changes: Any) -> dict[str, Any]:
        """A limit order far below the market, unless told otherwise."""
        body = {"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit"}
        body |= {"qty": "0.01", "price": self.price("linear", -1000)} | changes
        return self.post("/v5/order/create", **body)

    def refusal(self, **changes: Any) -> Refused:
        try:
            done = self.order(**changes)
        except Refused as refused:
            return refused
        raise AssertionError(f"not refused: {done}")

    def one(self, order_id: str, category: str = "linear") -> dict[str, Any]:
        """An order as REST tells it."""
        (found,) = self.get("/v5/order/realtime", category=category, orderId=order_id)["list"]
        return found

    # --- time ------------------------------------------------------------------------------

    def step(self, count: int = 1) -> list[tuple[str, dict[str, Any]]]:
        """Let 10 ms pass ``count`` times; returns (topic, entry) as pushed meanwhile."""
        new: list[tuple[str, dict[str, Any]]] = []
        for _ in range(count):
            self.market.advance(self.market.now_ns + STEP_NS)
            self.clearing.step()
            for market in self.market.symbols.values():
                market.unpublished.clear()
            for _, push in self.clearing.pushes():
                new += [(push.topic, entry) for entry in push.data]
        self.pushes += new
        return new

    def until(self, condition: Any, steps: int = 3000) -> None:
        for _ in range(steps):
            if condition():
                return
            self.step()
        raise AssertionError("this did not happen in time")

    def told(self, topic: str, order_id: str) -> list[dict[str, Any]]:
        return [entry for t, entry in self.pushes if t == topic and entry["orderId"] == order_id]

    # --- the market ------------------------------------------------------------------------

    def symbol(self, category: str) -> SymbolMarket:
        return self.market.symbols[f"{category}:BTCUSDT"]

    def price(self, category: str, ticks_from_bid: int) -> str:
        market = self.symbol(category)
        return market.listing.price(market.book.bids.best() + ticks_from_bid)

    def ask(self, category: str, ticks: int = 0) -> str:
        market = self.symbol(category)
        return market.listing.price(market.book.asks.best() + ticks)

    def bid(self, category: str) -> str:
        return self.price(category, 0)


def add_up_linear(executions: list[dict[str, Any]]) -> tuple[Decimal, Decimal, Decimal]:
    """(cash flow, position, fees) of executions, by plain sums."""
    cash = position = fees = Decimal(0)
    for execution in reversed(executions):
        sign = 1 if execution["side"] == "Buy" else -1
        qty, price = Decimal(execution["execQty"]), Decimal(execution["execPrice"])
        cash -= sign * qty * price
        position += sign * qty
        fees += Decimal(execution["execFee"])
    return cash, position, fees
