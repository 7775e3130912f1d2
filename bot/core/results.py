"""What trading has come to, for the limits on losses: a day's, a fall's, and losses in a row.

Of the whole account the account itself knows; a strategy's part is kept here from its fills.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from bot.core.account import Account, Position
from bot.core.events import E8, E12, Fill, Liquidated
from bot.core.instrument import amount, to_e8, to_e12, value_of
from bot.core.market import Market

Loss: TypeAlias = Literal["RISK_DAILY_LOSS", "RISK_DRAWDOWN", "RISK_LOSSES"]


class RiskLimits(Struct, frozen=True):
    """Amounts are in USDT, in units of 1e-8. In the later ones 0 is no limit.

    ``max_price_deviation`` is a fraction of the market's price; ``max_prediction_age`` is in units
    of the prediction's longest horizon, in 1e-12.
    """

    max_position_notional: E8
    max_order_notional: E8
    max_daily_loss: E8
    max_orders_per_s: int
    max_open_orders: int
    max_total_notional: E8 = 0
    max_price_deviation: E12 = 0
    max_drawdown: E8 = 0
    max_consecutive_losses: int = 0
    max_data_age_ns: int = 0
    max_prediction_age: E12 = 0


class Results:
    """Of ``account``, or without one of the fills that are told."""

    def __init__(self, market: Market, account: Account | None = None) -> None:
        self._market = market
        self._account = account
        self._positions: dict[str, Position] = {}
        self._paid: E8 = 0
        self._day_equity: E8 = 0
        self._highest: E8 | None = None
        self._has_fallen = False
        self._losses = 0

    # --- what happens ----------------------------------------------------------------------

    def start_day(self) -> None:
        self._day_equity = self.equity()
        self._losses = 0

    def forgive(self) -> None:
        """A person has looked at it: the fall and the losses in a row count anew."""
        self._highest, self._has_fallen, self._losses = None, False, 0

    def fill(self, fill: Fill) -> None:
        """Book a strategy's fill."""
        position = self._positions.setdefault(fill.symbol, Position())
        price, qty, fee = to_e12(fill.price), to_e12(fill.qty), fill.fee
        if fill.fee_coin != "USDT":
            fee *= fill.price
        before = position.realized
        position.trade(qty if fill.side == "Buy" else -qty, price)
        self._paid += to_e8(fee)
        self._trade(position.realized - before)

    def count(self, fill: Fill) -> None:
        """A fill of the account, which has booked it."""
        self._trade(to_e8(fill.realized_pnl))

    def liquidated(self, fact: Liquidated) -> None:
        position = self._positions.get(fact.symbol)
        if position is not None and position.qty:
            position.realized -= to_e8(fact.loss)
            position.qty = position.cost = 0
            self._losses += 1
        elif self._account is not None:
            self._losses += 1

    def _trade(self, realized: E8) -> None:
        """Fills that close something win or lose; others do neither."""
        if realized:
            self._losses = self._losses + 1 if realized < 0 else 0

    # --- what there is -----------------------------------------------------------------------

    def equity(self) -> E8:
        """The account's worth; of a strategy, what it has made."""
        if self._account is not None:
            return self._account.equity()
        made = -self._paid
        for symbol, position in self._positions.items():
            made += position.realized
            price = self._market.listing(symbol).value_price
            if position.qty and price:
                value = value_of(price, abs(position.qty))
                made += value - position.cost if position.qty > 0 else position.cost - value
        return made

    def held(self, symbol: str) -> E12:
        if self._account is not None:
            return self._account.qty(symbol)
        position = self._positions.get(symbol)
        return position.qty if position is not None else 0

    def symbols(self) -> set[str]:
        positions = self._positions if self._account is None else self._account.positions
        return {symbol for symbol, position in positions.items() if position.qty}

    def judge(self, limits: RiskLimits) -> tuple[Loss, str] | None:
        """Which limit on losses is reached, if any."""
        equity = self.equity()
        loss = self._day_equity - equity
        if loss >= limits.max_daily_loss:
            return "RISK_DAILY_LOSS", over(loss, limits.max_daily_loss)
        if limits.max_drawdown:
            self._highest = max(equity, self._highest if self._highest is not None else equity)
            fall = self._highest - equity
            if self._has_fallen or fall >= limits.max_drawdown:
                self._has_fallen = True
                return "RISK_DRAWDOWN", over(fall, limits.max_drawdown)
        most = limits.max_consecutive_losses
        if most and self._losses >= most:
            return "RISK_LOSSES", f"{self._losses} losing trades in a row, limit {most}"
        return None


def over(value: E8, limit: E8) -> str:
    return f"{amount(value):.2f} USDT, limit {amount(limit):.2f}"
