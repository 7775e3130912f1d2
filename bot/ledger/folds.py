"""What rows add up to: an order's outcome, a symbol's position and profit. Pure and exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from bot.core.events import E8, E12
from bot.core.instrument import div_half_even, to_decimal, to_e8, to_e12, value_of

_STATUS: Final = {"Rejected": "Rejected", "Cancelled": "Cancelled", "Refusal": "Refused"}


class Position:
    """One symbol's position: its signed size and the total that it cost.

    A close takes its share of the cost, rounded half-even to 1e-8; the remainder stays, so that
    a closed position leaves nothing behind.
    """

    __slots__ = ("cost", "realized", "size")

    def __init__(self) -> None:
        self.size: E12 = 0
        self.cost: E8 = 0
        self.realized: E8 = 0

    def trade(self, side: str, price: Decimal, qty: Decimal) -> None:
        """Add an execution: what is against the position closes it, the rest opens the other."""
        price_e12, left = to_e12(price), to_e12(qty)
        sign = 1 if side == "Buy" else -1
        if self.size * sign < 0:
            held = abs(self.size)
            closed = min(left, held)
            share = div_half_even(self.cost * closed, held)
            self.realized += (share - value_of(price_e12, closed)) * sign
            self.cost -= share
            self.size += closed * sign
            left -= closed
        if left:
            self.cost += value_of(price_e12, left)
            self.size += left * sign

    def hold(self, size: Decimal) -> None:
        """Take the account's word for the size: a fee in the coin itself takes from a position.

        The cost stays with what is left.
        """
        self.size = to_e12(size)
        if not self.size:
            self.cost = 0

    @property
    def average_entry(self) -> Decimal | None:
        """Cost per coin, rounded half-even to 1e-12; None where nothing is held."""
        if not self.size:
            return None
        return to_decimal(div_half_even(self.cost * 10**16, abs(self.size)))


class Account:
    """One symbol's fills, in order. What a fill says of size and profit stands."""

    __slots__ = ("fees", "fills", "position", "realized")

    def __init__(self) -> None:
        self.position = Position()
        self.realized = Decimal(0)
        self.fees: E8 = 0
        self.fills = 0

    def fill(self, row: Mapping[str, Any]) -> None:
        self.position.trade(row["side"], row["price"], row["qty"])
        self.position.hold(row["position_qty"])
        self.realized += row["realized_pnl"]
        self.fees += fee_in_quote(row["symbol"], row["fee"], row["fee_coin"], row["price"])
        self.fills += 1

    def liquidate(self, loss: Decimal) -> None:
        """Lose what is open; a position that fills have closed already is left as it is."""
        if self.position.size:
            self.realized -= loss
            self.position.hold(Decimal(0))


def fee_in_quote(symbol: str, fee: Decimal, fee_coin: str, price: Decimal) -> E8:
    """A fee's value in the quote coin; one in the base coin is valued at the fill's price."""
    if not symbol.partition(":")[2].startswith(fee_coin):
        return to_e8(fee)
    value = value_of(to_e12(price), to_e12(abs(fee)))
    return -value if fee < 0 else value


def average_price(executions: Sequence[Mapping[str, Any]]) -> Decimal | None:
    """The mean price of fills, rounded half-even to 1e-12."""
    pairs = [(to_e12(each["price"]), to_e12(each["qty"])) for each in executions]
    total = sum(qty for _, qty in pairs)
    if not total:
        return None
    return to_decimal(div_half_even(sum(price * qty for price, qty in pairs), total))


def order_outcome(
    order: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    executions: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """What became of an order, from its events and fills, each in order of fact number."""
    qty, price, status, reason = order["qty"], order["price"], "Sent", None
    for each in events:
        kind = each["kind"]
        if kind == "Accepted":
            qty, price = each["qty"], each["price"]
            status = "New" if status == "Sent" else status
        elif kind == "Cancelled" or (
            # Refusals and rejections of an amendment or a cancel leave the order as it is.
            (kind == "Refusal" and status == "Sent" and not executions)
            or (kind == "Rejected" and each["request"] == "order")
        ):
            status, reason = _STATUS[kind], each["reason"]
    if executions and status in ("Sent", "New"):
        status = "PartiallyFilled" if executions[-1]["leaves"] else "Filled"
    return {
        "qty": qty,
        "price": price,
        "status": status,
        "reason": reason,
        "filled_qty": sum((each["qty"] for each in executions), Decimal(0)),
        "average_price": average_price(executions),
    }
