"""Quote both sides of the mid, leaning with a prediction and against the inventory."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from bot.core.events import BookUpdate, Decision, FeedDown, Side
from bot.core.strategy import Seen, View


class State(Struct):
    """The local time of each symbol's last look at its quotes."""

    quoted_ts: dict[str, int] = {}


class MarketMaker:
    """Two PostOnly quotes of ``notional`` USDT, a fraction ``half_spread`` away from fair.

    Fair is the mid, moved by ``lean`` times the model's expected return, and by up to
    ``half_spread`` against an inventory of ``max_inventory`` USDT; at that inventory the side
    that would add to it is not quoted. Quotes are looked at every ``requote_ms`` of market time.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        model: str = "analyzer",
        notional: float = 200.0,
        half_spread: float = 0.0001,
        lean: float = 0.5,
        max_inventory: float = 1000.0,
        requote_ms: float = 100.0,
    ) -> None:
        self.state = State()
        self._symbols = symbols
        self._model = model
        self._notional = notional
        self._half_spread = half_spread
        self._lean = lean
        self._max_inventory = max_inventory
        self._requote_ns = int(requote_ms * 1e6)

    def on_event(self, event: Seen, view: View) -> Iterator[Decision] | None:
        if isinstance(event, BookUpdate):
            symbol = event.symbol
            if event.ts - self.state.quoted_ts.get(symbol, 0) < self._requote_ns:
                return None
            self.state.quoted_ts[symbol] = event.ts
            return self._requote(symbol, view)
        if isinstance(event, FeedDown):
            orders = view.orders(event.symbol)
            return (view.cancel(order) for order in orders if not order.is_cancelling)
        return None

    def _requote(self, symbol: str, view: View) -> Iterator[Decision]:
        """Keep a quote within half a tick of where it should be, else replace it."""
        bid, ask = view.bid(symbol), view.ask(symbol)
        if bid is None or ask is None:
            return
        qty = self._notional / ((bid + ask) / 2)
        near = view.tick_size(symbol) / 2
        orders = view.orders(symbol)
        for side, wanted in self._wanted(symbol, bid, ask, view):
            is_quoted = False
            for order in orders:
                if order.side != side or order.is_cancelling:
                    continue
                if wanted and abs(order.price - wanted) <= near:
                    is_quoted = True
                else:
                    yield view.cancel(order)
            if wanted and not is_quoted:
                yield view.limit(symbol, side, qty, wanted, tif="PostOnly", tag="quote")

    def _wanted(
        self, symbol: str, bid: float, ask: float, view: View
    ) -> tuple[tuple[Side, float], tuple[Side, float]]:
        """Where each side should be quoted; 0 for not at all."""
        mid = (bid + ask) / 2
        half = mid * self._half_spread
        inventory = view.position(symbol) * mid / self._max_inventory
        prediction = view.prediction(symbol, self._model)
        expected = prediction.horizons[0].expected_return if prediction is not None else 0.0
        lean = max(-half, min(half, self._lean * expected * mid))
        fair = mid + lean - max(-1.0, min(1.0, inventory)) * half
        # A PostOnly quote must not cross; at the touch it joins the queue.
        buy = min(fair - half, bid) if inventory < 1 else 0.0
        sell = max(fair + half, ask) if inventory > -1 else 0.0
        return ("Buy", buy), ("Sell", sell)
