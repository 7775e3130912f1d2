"""A unified account's wallet in Bybit's fields. Spot holdings are coins, valued at the market.

https://bybit-exchange.github.io/docs/v5/account/wallet-balance
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from bot.core.account import Account
from bot.core.events import E8
from bot.core.instrument import amount, to_decimal, value_of
from bot.core.market import Market
from bot.venue.emulator.records import Fields, OrderRecord, number
from bot.venue.emulator.risk_limits import MAINTENANCE_RATE

_QUOTE = "USDT"
_RATE = Decimal("0.0001")
_CENT = Decimal("1e-8")


def wallet_fields(account: Account, market: Market, orders: Iterable[OrderRecord]) -> Fields:
    """The account with all its coins; ``orders`` are the open ones."""
    held = list(orders)
    order_margin, locked = _reserved(account, held)
    position_margin = amount(account.margin_used())
    unrealized = amount(sum(account.unrealized(s) for s in _linear(account)))
    coins = _holdings(account, market, held)
    balance = amount(account.wallet) + sum((value for _, value in coins), Decimal(0))
    equity = balance + unrealized
    initial = position_margin + order_margin
    cost = sum((amount(account.positions[s].cost) for s in _linear(account)), Decimal(0))
    maintenance = cost * MAINTENANCE_RATE
    quote = _coin(_QUOTE, amount(account.wallet), amount(account.wallet) + unrealized, locked)
    quote |= {
        "usdValue": number(amount(account.wallet) + unrealized),
        "totalOrderIM": number(order_margin),
        "totalPositionIM": number(position_margin),
        "totalPositionMM": _money(maintenance),
        "unrealisedPnl": number(unrealized),
        "cumRealisedPnl": number(amount(account.realized - account.fees - account.funding)),
    }
    return {
        "accountType": "UNIFIED",
        "accountLTV": "0",
        "accountIMRate": _ratio(initial, equity),
        "accountMMRate": _ratio(maintenance, equity),
        "totalEquity": _money(equity),
        "totalWalletBalance": _money(balance),
        "totalMarginBalance": _money(equity),
        "totalAvailableBalance": _money(max(Decimal(0), equity - initial - locked)),
        "totalPerpUPL": number(unrealized),
        "totalInitialMargin": _money(initial),
        "totalMaintenanceMargin": _money(maintenance),
        "coin": [quote, *(fields for fields, _ in coins)],
    }


def _holdings(
    account: Account, market: Market, orders: list[OrderRecord]
) -> list[tuple[Fields, Decimal]]:
    """The coins bought on spot, and what each is worth."""
    found: list[tuple[Fields, Decimal]] = []
    for symbol, position in account.positions.items():
        listing = market.listing(symbol)
        if not symbol.startswith("spot:") or listing.rules is None:
            continue
        qty = to_decimal(position.qty)
        offered = sum(o.leaves for o in orders if o.listing.symbol == symbol and _sells(o))
        value = amount(value_of(listing.value_price, position.qty))
        fields = _coin(listing.rules.instrument.base, qty, qty, to_decimal(offered))
        fields["usdValue"] = number(value)
        found.append((fields, value))
    return found


def _coin(name: str, balance: Decimal, equity: Decimal, locked: Decimal) -> Fields:
    return {
        "coin": name,
        "equity": number(equity),
        "usdValue": "",
        "walletBalance": number(balance),
        "free": "",
        "locked": number(locked),
        "borrowAmount": "0",
        "availableToBorrow": "",
        "availableToWithdraw": "",
        "accruedInterest": "0",
        "totalOrderIM": "0",
        "totalPositionIM": "0",
        "totalPositionMM": "0",
        "unrealisedPnl": "0",
        "cumRealisedPnl": "0",
        "bonus": "0",
        "collateralSwitch": True,
        "marginCollateral": True,
        "spotHedgingQty": "0",
    }


def _reserved(account: Account, orders: list[OrderRecord]) -> tuple[Decimal, Decimal]:
    """The initial margin of open orders, and what open spot buys will pay."""
    margined: E8 = 0
    paid: E8 = 0
    for record in orders:
        value = value_of(record.price, record.leaves)
        if record.listing.category == "linear":
            margined += 0 if record.order.reduce_only else value
        elif not _sells(record):
            paid += value
    return amount(account.margin_of(margined)), amount(paid)


def _linear(account: Account) -> list[str]:
    return [symbol for symbol in account.positions if symbol.startswith("linear:")]


def _sells(record: OrderRecord) -> bool:
    return record.order.side == "Sell"


def _ratio(part: Decimal, whole: Decimal) -> str:
    return number((part / whole).quantize(_RATE)) if whole > 0 else "0"


def _money(value: Decimal) -> str:
    return number(value.quantize(_CENT))
