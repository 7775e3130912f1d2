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


class Posting(NamedTuple):
    """``amount`` of ``asset`` comes into ``account``; ``symbol`` is the cause's, if it has one."""

    symbol: str | None
    account: Account
    asset: str
    amount: Decimal


def postings_of(fact: Fact) -> list[Posting]:
    """The postings of a fact, in pairs; [] for one that moves nothing."""
    match fact:
        case Fill():
            return _spot(fact) if fact.symbol.startswith("spot:") else _linear(fact)
        case FundingPaid():
            return _pair(fact.symbol, _SETTLED_IN, "funding", "wallet", fact.amount)
        case Liquidated():
            return [
                *_pair(fact.symbol, fact.symbol, "market", "position", fact.position),
                *_pair(fact.symbol, _SETTLED_IN, "liquidation", "wallet", fact.loss),
            ]
        case _:
            return []


def deposits_of(deposits: Mapping[str, Decimal]) -> list[Posting]:
    """What a run begins with."""
    return [
        posting
        for asset, value in deposits.items()
        for posting in _pair(None, asset, "wallet", "deposits", value)
    ]


def assets_of(symbol: str, fee_coin: str) -> tuple[str, str]:
    """(base, quote) of a spot symbol whose fill paid its fee in one of both."""
    name = symbol.partition(":")[2]
    if name.startswith(fee_coin):
        return fee_coin, name[len(fee_coin) :]
    return name.removesuffix(fee_coin), fee_coin


def _linear(fill: Fill) -> list[Posting]:
    symbol = fill.symbol
    is_buy = fill.side == "Buy"
    return [
        *_trade(symbol, symbol, "position", fill.qty, is_in=is_buy),
        *_pair(symbol, _SETTLED_IN, "wallet", "realized", fill.realized_pnl),
        *_pair(symbol, fill.fee_coin, "fees", "wallet", fill.fee),
    ]


def _spot(fill: Fill) -> list[Posting]:
    symbol = fill.symbol
    base, quote = assets_of(symbol, fill.fee_coin)
    value = amount(value_of(to_e12(fill.price), to_e12(fill.qty)))
    is_buy = fill.side == "Buy"
    return [
        *_trade(symbol, base, "wallet", fill.qty, is_in=is_buy),
        *_trade(symbol, quote, "wallet", value, is_in=not is_buy),
        *_pair(symbol, fill.fee_coin, "fees", "wallet", fill.fee),
    ]


def _trade(
    symbol: str, asset: str, account: Account, value: Decimal, *, is_in: bool
) -> list[Posting]:
    """Between ours and the market."""
    if is_in:
        return _pair(symbol, asset, account, "market", value)
    return _pair(symbol, asset, "market", account, value)


def _pair(
    symbol: str | None, asset: str, gains: Account, gives: Account, value: Decimal
) -> list[Posting]:
    """``value`` from one account to the other; nothing for zero. Exact, whatever its digits."""
    if not value:
        return []
    return [
        Posting(symbol, gains, asset, value),
        Posting(symbol, gives, asset, value.copy_negate()),
    ]
