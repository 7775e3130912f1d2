"""Double-entry bookkeeping: every fact that moves money or coins as postings that sum to zero.

An account gains what is positive. ``wallet`` is what the paper account holds of an asset,
``position`` the contracts it holds (the asset is the symbol itself); the others say where it
came from or went: ``market`` the other side of trades, ``fees``, ``funding``, ``realized`` and
``liquidation`` profits and losses of contracts, ``deposits`` the owner. Pure and exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, Literal, NamedTuple, TypeAlias

from bot.core.events import Fact, Fill, FundingPaid, Liquidated
from bot.core.instrument import amount, to_e12, value_of

Account: TypeAlias = Literal[
    "wallet", "position", "market", "fees", "funding", "realized", "liquidation", "deposits"
]
DEPOSIT: Final = -1
"""The fact number of what was there before the first fact."""
POSTED: Final = frozenset((Fill, FundingPaid, Liquidated))
"""The facts that have postings."""
_SETTLED_IN: Final = "USDT"
"""Linear contracts settle in it, https://www.bybit.com/en/help-center/article/USDT-Perpetual."""


class Transfer(NamedTuple):
    """``amount`` of ``asset`` goes from the account that ``gives`` to the one that ``gains``: a
    pair of postings. ``symbol`` is the cause's, if it has one."""

    symbol: str | None
    gains: Account
    gives: Account
    asset: str
    amount: Decimal


def transfers_of(fact: Fact) -> list[Transfer]:
    """What a fact moves, in the order of its postings; nothing of zero is moved."""
    match fact:
        case Fill():
            made = _spot(fact) if fact.symbol.startswith("spot:") else _linear(fact)
        case FundingPaid():
            made = [Transfer(fact.symbol, "funding", "wallet", _SETTLED_IN, fact.amount)]
        case Liquidated(symbol=symbol):
            made = [
                Transfer(symbol, "market", "position", symbol, fact.position),
                Transfer(symbol, "liquidation", "wallet", _SETTLED_IN, fact.loss),
            ]
        case _:
            return []
    return [each for each in made if each.amount]


def deposits_of(deposits: Mapping[str, Decimal]) -> list[Transfer]:
    """What a run begins with."""
    return [
        Transfer(None, "wallet", "deposits", asset, value)
        for asset, value in deposits.items()
        if value
    ]


def assets_of(symbol: str, fee_coin: str) -> tuple[str, str]:
    """(base, quote) of a spot symbol whose fill paid its fee in one of both."""
    name = symbol.partition(":")[2]
    if name.startswith(fee_coin):
        return fee_coin, name[len(fee_coin) :]
    return name.removesuffix(fee_coin), fee_coin


def _linear(fill: Fill) -> list[Transfer]:
    symbol = fill.symbol
    return [
        _trade(fill, symbol, "position", fill.qty, is_in=fill.side == "Buy"),
        Transfer(symbol, "wallet", "realized", _SETTLED_IN, fill.realized_pnl),
        Transfer(symbol, "fees", "wallet", fill.fee_coin, fill.fee),
    ]


def _spot(fill: Fill) -> list[Transfer]:
    base, quote = assets_of(fill.symbol, fill.fee_coin)
    value = amount(value_of(to_e12(fill.price), to_e12(fill.qty)))
    is_buy = fill.side == "Buy"
    return [
        _trade(fill, base, "wallet", fill.qty, is_in=is_buy),
        _trade(fill, quote, "wallet", value, is_in=not is_buy),
        Transfer(fill.symbol, "fees", "wallet", fill.fee_coin, fill.fee),
    ]


def _trade(fill: Fill, asset: str, account: Account, value: Decimal, *, is_in: bool) -> Transfer:
    """Between ours and the market."""
    if is_in:
        return Transfer(fill.symbol, account, "market", asset, value)
    return Transfer(fill.symbol, "market", account, asset, value)
