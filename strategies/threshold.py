"""Hold a position while a model expects more than trading costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from bot.core.events import Decision, Prediction
from bot.core.strategy import Seen, View


class State(Struct):
    """The target position of each symbol, in coins."""

    targets: dict[str, float] = {}


class Threshold:
    """Long or short ``notional`` USDT while the expected return beats the round trip's cost.

    The cost is two taker fees and the spread; ``edge`` is what must remain beyond it. The
    position is closed when the expected return no longer points its way. Coins on spot are held
    or not: there is no short.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        model: str = "predictor",
        horizon: int = 0,
        notional: float = 500.0,
        edge: float = 0.0002,
    ) -> None:
        self.state = State()
        self._symbols = symbols
        self._model = model
        self._horizon = horizon
        self._notional = notional
        self._edge = edge

    def on_event(self, event: Seen, view: View) -> Iterable[Decision]:
        if type(event) is Prediction and event.model == self._model:
            return self._retarget(event, view)
        return ()

    def _retarget(self, prediction: Prediction, view: View) -> Iterator[Decision]:
        symbol = prediction.symbol
        bid, ask = view.bid(symbol), view.ask(symbol)
        if bid is None or ask is None or view.orders(symbol):
            return
        mid = (bid + ask) / 2
        expected = prediction.horizons[self._horizon].expected_return
        cost = 2 * view.taker_rate(symbol) + (ask - bid) / mid
        held = view.position(symbol)
        if expected > cost + self._edge:
            target = self._notional / mid
        elif expected < -cost - self._edge:
            target = 0.0 if symbol.startswith("spot:") else -self._notional / mid
        elif held * expected <= 0:
            target = 0.0
        else:
            return
        # A position of the right sign stays: chasing the price with its size only pays fees.
        if target * held > 0 or target == held:
            return
        reason = f"{self._model} expects {expected:.6f}, costs are {cost:.6f}"
        self.state.targets[symbol] = target
        yield view.signal(symbol, target, reason)
        change = target - held
        yield view.market(symbol, "Buy" if change > 0 else "Sell", abs(change), tag="target")
