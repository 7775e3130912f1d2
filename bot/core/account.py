"""The money: wallet, positions, fees, funding. Exact integers; every amount is rounded once.

Linear perpetuals settle in USDT and share one wallet, each position with a margin of its own. Spot
holdings are positions that cannot be negative and are paid for in full.
"""

from __future__ import annotations

from msgspec import Struct

from bot.core import margin
from bot.core.events import E8, E12, Fact, FundingPaid, Liquidated, Side
from bot.core.instrument import (
    UNIT,
    amount,
    div_half_even,
    fee_of,
    to_decimal,
    value_of,
)
from bot.core.market import Listing, Market

_E12_PER_E8 = 10_000


class Position(Struct):
    """``qty`` is signed; ``cost`` is what the open quantity was bought or sold for in total.

    Settlements up to ``funded_until`` are paid, or from before the position was opened.
    """

    qty: E12 = 0
    cost: E8 = 0
    realized: E8 = 0
    fees: E8 = 0
    funding: E8 = 0
    funded_until: int = 0

    def trade(self, signed_qty: E12, price: E12) -> E8:
        """Move by ``signed_qty`` at ``price``; returns the profit realized by the closed part."""
        realized = 0
        held = self.qty
        if held and (held > 0) != (signed_qty > 0):
            closed = min(abs(held), abs(signed_qty))
            cost = div_half_even(self.cost * closed, abs(held))
            value = value_of(price, closed)
            realized = value - cost if held > 0 else cost - value
            self.cost -= cost
            opened = abs(signed_qty) - closed
        else:
            opened = abs(signed_qty)
        if opened:
            self.cost += value_of(price, opened)
        self.qty = held + signed_qty
        self.realized += realized
        return realized


class Settlement(Struct, frozen=True, gc=False):
    """What a fill did: the fee in ``fee_coin``, the profit without fees, the new position."""

    fee: E8
    fee_coin: str
    realized: E8
    position: E12


class Account:
    """One unified paper account."""

    def __init__(self, market: Market, usdt: E8, leverage: E12) -> None:
        self._market = market
        self.wallet = usdt
        self.leverage = leverage
        self.positions: dict[str, Position] = {}

    def position(self, symbol: str) -> Position:
        """The position of ``symbol``, made when it is first touched."""
        found = self.positions.get(symbol)
        if found is None:
            found = self.positions[symbol] = Position()
        return found

    def qty(self, symbol: str) -> E12:
        """The signed position of ``symbol``."""
        found = self.positions.get(symbol)
        return found.qty if found is not None else 0

    # --- fills ---------------------------------------------------------------------------

    def settle(
        self, listing: Listing, side: Side, price: E12, qty: E12, rate: E12, exchange_ts: int
    ) -> Settlement:
        """Book one execution at fee rate ``rate``."""
        position = self.position(listing.symbol)
        signed_qty = qty if side == "Buy" else -qty
        if position.qty * (position.qty + signed_qty) <= 0:  # It opens, turns, or ends.
            position.funded_until = max(position.funded_until, exchange_ts)
        if listing.symbol.startswith("spot:"):
            return self._settle_spot(listing, position, side, price, qty, rate)
        fee = fee_of(price, qty, rate)
        realized = position.trade(signed_qty, price)
        self.wallet += realized - fee
        position.fees += fee
        return Settlement(fee, "USDT", realized, position.qty)

    def _settle_spot(
        self, listing: Listing, position: Position, side: Side, price: E12, qty: E12, rate: E12
    ) -> Settlement:
        """Spot buys pay the fee in the coin bought, sells in the quote coin.

        https://www.bybit.com/en/help-center/article/Bybit-Spot-Fees-Explained
        """
        assert listing.rules is not None
        value = value_of(price, qty)
        if side == "Buy":
            fee = div_half_even(qty * rate, _E12_PER_E8 * 10**12)
            fee_value = value_of(price, fee * _E12_PER_E8)
            self.wallet -= value
            position.cost += value - fee_value
            position.qty += qty - fee * _E12_PER_E8
            position.fees += fee_value
            return Settlement(fee, listing.rules.instrument.base, 0, position.qty)
        fee = fee_of(price, qty, rate)
        realized = position.trade(-qty, price)
        self.wallet += value - fee
        position.fees += fee
        return Settlement(fee, listing.rules.instrument.quote, realized, position.qty)

    # --- funding -------------------------------------------------------------------------

    def pay_funding(
        self, listing: Listing, ts: int, rate: E12, mark: E12, funding_ts: int
    ) -> Fact | None:
        """Settle one funding time, once; longs pay a positive rate (position * mark * rate)."""
        position = self.position(listing.symbol)
        if funding_ts <= position.funded_until:
            return None
        position.funded_until = funding_ts
        if not position.qty:
            return None
        paid = fee_of(mark, position.qty, rate)
        self.wallet -= paid
        position.funding += paid
        return FundingPaid(
            ts=ts,
            exchange_ts=funding_ts,
            symbol=listing.symbol,
            funding_ts=funding_ts,
            rate=to_decimal(rate),
            mark=to_decimal(mark),
            position=to_decimal(position.qty),
            amount=amount(paid),
        )

    def settle_funding(self, listing: Listing, ts: int) -> Fact | None:
        """Pay the funding that is due, at the last rate and mark before it."""
        due_ns = listing.next_funding_ns
        return self.pay_funding(listing, ts, listing.funding_rate, listing.value_price, due_ns)

    # --- liquidation -----------------------------------------------------------------------

    def is_spent(self, listing: Listing) -> bool:
        """Whether the mark has used up the margin of the position in a perpetual."""
        position = self.positions.get(listing.symbol)
        if position is None or not position.qty or not listing.mark:
            return False
        value = value_of(listing.mark, abs(position.qty))
        return margin.is_spent(position.qty, position.cost, value, self.leverage, listing.tiers)

    def liquidate(self, listing: Listing, ts: int, exchange_ts: int) -> Liquidated:
        """The venue takes the position over: its margin and the closing fee are lost."""
        position = self.positions[listing.symbol]
        value = margin.bankruptcy_value(position.qty, position.cost, self.leverage)
        fee = div_half_even(value * (listing.taker_rate or 0), UNIT)
        loss = margin.initial(position.cost, self.leverage) + fee
        fact = Liquidated(
            ts,
            exchange_ts,
            listing.symbol,
            to_decimal(position.qty),
            to_decimal(margin.price_of(value, position.qty)),
            amount(loss),
        )
        self.wallet -= loss
        position.realized -= loss
        position.qty = position.cost = 0
        position.funded_until = max(position.funded_until, exchange_ts)
        return fact

    # --- sums ----------------------------------------------------------------------------

    def unrealized(self, symbol: str) -> E8:
        """The open profit of a symbol at mark, else mid; 0 where no price is known."""
        position = self.positions.get(symbol)
        if position is None or not position.qty:
            return 0
        price = self._market.listing(symbol).value_price
        if not price:
            return 0
        value = value_of(price, abs(position.qty))
        return value - position.cost if position.qty > 0 else position.cost - value

    def equity(self) -> E8:
        """Wallet plus open profits, plus what spot holdings cost (their profit is counted)."""
        total = self.wallet
        for symbol, position in self.positions.items():
            if position.qty:
                total += self.unrealized(symbol)
            if symbol.startswith("spot:"):
                total += position.cost
        return total

    def margin_used(self) -> E8:
        """Initial margin of the open perpetual positions: cost / leverage."""
        cost = 0
        for symbol, position in self.positions.items():
            if position.cost and not symbol.startswith("spot:"):
                cost += position.cost
        return margin.initial(cost, self.leverage)

    def margin_of(self, notional: E8) -> E8:
        """The initial margin of an order of ``notional``."""
        return margin.initial(notional, self.leverage)

    @property
    def realized(self) -> E8:
        return sum(position.realized for position in self.positions.values())

    @property
    def fees(self) -> E8:
        """All fees in USDT; a fee in another coin counts at its fill's price."""
        return sum(position.fees for position in self.positions.values())

    @property
    def funding(self) -> E8:
        """Net funding paid (positive) or received."""
        return sum(position.funding for position in self.positions.values())
