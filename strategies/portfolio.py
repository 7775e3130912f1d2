"""Hold what a portfolio model says: a share of the equity in each coin."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from bot.core.events import Decision, Prediction
from bot.core.strategy import Seen, View


class State(Struct):
    """The target position of each symbol, in coins."""

    targets: dict[str, float] = {}


class Portfolio:
    """Brings each position to weight * equity * ``leverage`` by market orders.

    A difference below ``band`` of the equity is left alone: moving it would cost more than it is
    worth. A weight of an untrained model is not traded unless ``trust_untrained``. Coins on spot
    are held or not: there is no short.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        model: str = "portfolio",
        leverage: float = 1.0,
        band: float = 0.02,
        trust_untrained: bool = False,
    ) -> None:
        self.state = State()
        self._symbols = symbols
        self._model = model
        self._leverage = leverage
        self._band = band
        self._trust_untrained = trust_untrained

    def on_event(self, event: Seen, view: View) -> Iterator[Decision]:
        if isinstance(event, Prediction) and event.model == self._model:
            yield from self._rebalance(event, view)

    def _rebalance(self, prediction: Prediction, view: View) -> Iterator[Decision]:
        symbol, weight = prediction.symbol, prediction.weight
        mid, equity = view.mid(symbol), view.equity()
        if weight is None or mid is None or equity <= 0 or view.orders(symbol):
            return
        if not (prediction.trained or self._trust_untrained):
            return
        if symbol.startswith("spot:"):
            weight = max(weight, 0.0)
        target = weight * equity * self._leverage / mid
        held = view.position(symbol)
        change = target - held
        closes = target == 0.0 and held != 0.0
        if abs(change) * mid < self._band * equity and not closes:
            return
        self.state.targets[symbol] = target
        yield view.signal(symbol, target, f"{self._model} gives it {weight:.4f} of {equity:.2f}")
        yield view.market(symbol, "Buy" if change > 0 else "Sell", abs(change), tag="rebalance")
