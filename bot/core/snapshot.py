"""The engine's whole state as structs, to be saved and put into a fresh engine.

For each class with state there is a struct with fields of the same names; what is left out is
named in ``WIRING``, with the reason. A test walks a working engine and fails for an attribute
that neither has: a restart from a snapshot must not differ from never having stopped.
"""
# ruff: noqa: SLF001 - a state is what others may not see; this one file may.

from __future__ import annotations

from collections import deque
from typing import Final, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from bot.core.account import Account, Position
from bot.core.admission import Admission
from bot.core.answers import Answers
from bot.core.arrival import Arrival
from bot.core.book import Book
from bot.core.engine import Desked, Engine
from bot.core.errors import PlainError
from bot.core.events import (
    E8,
    E12,
    Amend,
    Answer,
    Cancel,
    Candle,
    Fees,
    Instrument,
    Liquidated,
    Order,
    Prediction,
    Ticker,
)
from bot.core.exchange import Exchange
from bot.core.instrument import Rules
from bot.core.margin import tiers_of
from bot.core.market import Listing, Market
from bot.core.matching import Matcher
from bot.core.orders import OrderIds, Stop, SymbolOrders
from bot.core.price_limits import Premium
from bot.core.queue import Resting
from bot.core.rate_limits import RateLimits
from bot.core.results import Results
from bot.core.risk import Risk, Scope, State
from bot.core.shadow import Shadow
from bot.core.stops import Stops
from bot.core.strategy import Desk, Strategy, View
from bot.core.taken import Taken

S = TypeVar("S", bound=Struct)


class SnapshotError(PlainError):
    """A state cannot be saved, or a saved one does not fit; the text says what and why."""


# --- The structs, by what they hold --------------------------------------------------------------


class SavedBook(Struct):
    bids: dict[E12, E12]
    asks: dict[E12, E12]
    best_bid: E12
    best_ask: E12
    depth: int
    seq: int
    u: int


class SavedListing(Struct):
    symbol: str
    book: SavedBook
    rules: Instrument | None
    is_live: bool
    was_crossed: bool
    crossed_ts: int
    live_seq: int
    clock_ns: int
    last_price: E12
    mark: E12
    next_funding_ns: int
    funding_rate: E12
    index: E12
    premium: Premium
    maker_rate: E12 | None
    taker_rate: E12 | None
    ticker: Ticker | None
    candle: Candle | None
    predictions: dict[str, Prediction]


class SavedMarket(Struct):
    listings: list[SavedListing]
    offset_ns: int
    one_way_ns: int
    fees: dict[str, Fees]


class SavedAccount(Struct):
    wallet: E8
    positions: dict[str, Position]


class SavedTaken(Struct):
    marks: dict[E12, E12]
    _unseen: list[E12]


class SavedOrders(Struct):
    pending: list[tuple[int, int, Order | Amend | Cancel]]
    buys: list[Resting]
    sells: list[Resting]
    stops: list[Stop]
    triggered: list[tuple[int, Resting]]
    taken_bids: SavedTaken
    taken_asks: SavedTaken


class SavedMatcher(Struct):
    _fills: int


class SavedArrival(Struct):
    _numbers: int


class SavedExchange(Struct):
    _symbols: dict[str, SavedOrders]
    _matcher: SavedMatcher
    _arrival: SavedArrival
    _rates: RateLimits | None
    _unlimited: list[int]
    _numbers: int


class SavedShadow(Struct):
    account: SavedAccount
    exchange: SavedExchange
    ids: int
    fills: int
    told: int
    refusals: int
    refusals_that_differ: int
    _exits: list[int] = field(default_factory=list)


class SavedResults(Struct):
    _positions: dict[str, Position]
    _paid: E8
    _day_equity: E8
    _highest: E8 | None
    _has_fallen: bool
    _losses: int


class SavedScope(Struct):
    results: SavedResults
    _sent_ns: list[int]


class SavedRisk(Struct):
    state: State
    day_end_ns: int
    total: SavedScope
    _scopes: dict[str, SavedScope]


class SavedView(Struct):
    desk: Desk
    ts: int


class SavedDesked(Struct):
    strategy: Raw
    """Its ``state``, as JSON."""
    view: SavedView


class SavedEngine(Struct):
    market: SavedMarket
    account: SavedAccount
    exchange: SavedExchange
    shadows: list[SavedShadow]
    risk: SavedRisk
    ids: int
    desked: dict[str, SavedDesked]
    _commander: SavedView
    _desk_of_order: dict[int, str]
    _answers: list[tuple[int, int, Answer | Liquidated]]
    _answers_sent: int
    _ts: int


# --- What is left out ----------------------------------------------------------------------------

SAVED: Final[dict[type, type[Struct]]] = {
    Book: SavedBook,
    Listing: SavedListing,
    Market: SavedMarket,
    Account: SavedAccount,
    Taken: SavedTaken,
    SymbolOrders: SavedOrders,
    Exchange: SavedExchange,
    Matcher: SavedMatcher,
    Arrival: SavedArrival,
    Shadow: SavedShadow,
    Results: SavedResults,
    Scope: SavedScope,
    Risk: SavedRisk,
    View: SavedView,
    Desked: SavedDesked,
    Engine: SavedEngine,
}
"""The struct that holds each class's state."""
WIRING: Final[dict[type, frozenset[str]]] = {
    # Made from the settings, which are the same, or references to the other parts.
    Account: frozenset(("_market", "leverage")),
    Admission: frozenset(("_account", "_symbols", "_slippage", "beyond_limit")),
    Arrival: frozenset(("_account", "_policy", "_admission", "_matcher", "_stops", "_answers")),
    Answers: frozenset(("_latency", "_market")),
    Exchange: frozenset(
        ("_market", "_account", "_policy", "_answers", "_stops", "admission", "orders_of")
    ),
    Stops: frozenset(("_account", "_answers", "_ids")),
    Matcher: frozenset(("_account", "_policy", "_answers", "_stops")),
    Results: frozenset(("_market", "_account")),
    Scope: frozenset(("limits", "desks")),
    Risk: frozenset(("_limits", "_market", "_account", "_desks")),
    # Its facts are handed over within a step, as the engine's are.
    Shadow: frozenset(("policy", "facts", "_seen", "_asked")),
    SymbolOrders: frozenset(("listing",)),
    Taken: frozenset(("_side",)),
    View: frozenset(("name", "symbols", "_market", "_account", "_ids")),
    # Its one number is saved as the engine's ``ids``; a rule book comes from its Instrument.
    OrderIds: frozenset(("last",)),
    Rules: frozenset(Rules.__slots__),
    Listing: frozenset(("tiers",)),  # from its Instrument, too
    # ``notices`` are handed over within a step; the others are tables made when first used.
    Market: frozenset(("_appliers", "notices")),
    Engine: frozenset(("_watchers", "_desk_by_name")),
}


# --- Saving --------------------------------------------------------------------------------------


def save(engine: Engine) -> SavedEngine:
    """The state between two steps; it shares what it holds with the engine, so encode it at once.

    Raises SnapshotError for a strategy whose state does not come back from JSON as it was.
    """
    market = engine.market
    assert not market.notices, "a snapshot is taken between two inputs"
    return _like(
        SavedEngine,
        engine,
        market=_like(SavedMarket, market, listings=[*map(_listing, market.listings.values())]),
        account=_like(SavedAccount, engine.account),
        exchange=_exchange(engine.exchange),
        shadows=[_shadow(each) for each in engine.shadows],
        risk=_risk(engine.risk),
        ids=engine.ids.last,
        desked={each.view.name: _desked(each) for each in engine.desked},
        _commander=_like(SavedView, engine._commander),
        _desk_of_order={
            order_id: each.view.name for order_id, each in engine._desk_of_order.items()
        },
    )


def _like(kind: type[S], source: object, **made: object) -> S:
    """A struct with the attributes of ``source``, but for those given."""
    names = kind.__struct_fields__
    return kind(**{name: made[name] if name in made else getattr(source, name) for name in names})


def _listing(listing: Listing) -> SavedListing:
    rules = None if listing.rules is None else listing.rules.instrument
    return _like(SavedListing, listing, book=_like(SavedBook, listing.book), rules=rules)


def _exchange(exchange: Exchange) -> SavedExchange:
    symbols = {symbol: _orders(orders) for symbol, orders in exchange._symbols.items()}
    matcher = _like(SavedMatcher, exchange._matcher)
    arrival = _like(SavedArrival, exchange._arrival)
    return _like(
        SavedExchange, exchange, _symbols=symbols, _matcher=matcher, _arrival=arrival,
        _unlimited=sorted(exchange._unlimited),
    )  # fmt: skip


def _orders(orders: SymbolOrders) -> SavedOrders:
    bids, asks = _like(SavedTaken, orders.taken_bids), _like(SavedTaken, orders.taken_asks)
    return _like(SavedOrders, orders, taken_bids=bids, taken_asks=asks)


def _shadow(shadow: Shadow) -> SavedShadow:
    assert not shadow.facts, "a shadow's facts are taken at the end of a step"
    account, exchange = _like(SavedAccount, shadow.account), _exchange(shadow.exchange)
    return _like(SavedShadow, shadow, account=account, exchange=exchange, ids=shadow.ids.last)


def _risk(risk: Risk) -> SavedRisk:
    scopes = {name: _scope(scope) for name, scope in risk._scopes.items()}
    return _like(SavedRisk, risk, total=_scope(risk.total), _scopes=scopes)


def _scope(scope: Scope) -> SavedScope:
    return SavedScope(_like(SavedResults, scope.results), list(scope._sent_ns))


def _desked(desked: Desked) -> SavedDesked:
    view = _like(SavedView, desked.view)
    return SavedDesked(Raw(encoded_state(desked.view.name, desked.strategy)), view)


def encoded_state(name: str, strategy: Strategy) -> bytes:
    """A strategy's ``state`` as JSON. Raises SnapshotError where it would not come back equal."""
    state = strategy.state
    try:
        text = msgspec.json.encode(state)
        same = msgspec.json.decode(text, type=type(state))
    except (TypeError, msgspec.MsgspecError) as error:
        raise SnapshotError(f"strategy {name!r}: `state` cannot be saved: {error}") from error
    if same != state:
        raise SnapshotError(f"strategy {name!r}: `state` is not the same after saving: {state!r}")
    return text


# --- Restoring -----------------------------------------------------------------------------------


def restore(engine: Engine, saved: SavedEngine) -> None:
    """Put a saved state into an engine that was just made with the same settings.

    Raises SnapshotError where the strategies are others.
    """
    names = {each.view.name: each for each in engine.desked}
    if saved.desked.keys() != names.keys():
        raise SnapshotError(f"strategies {sorted(saved.desked)} were saved, not {sorted(names)}")
    _restore_market(engine.market, saved.market)
    _put(engine.account, saved.account)
    _restore_exchange(engine.market, engine.exchange, saved.exchange)
    if len(saved.shadows) != len(engine.shadows):
        raise SnapshotError(f"{len(saved.shadows)} shadows were saved, not {len(engine.shadows)}")
    for shadow, each in zip(engine.shadows, saved.shadows, strict=True):
        _put(shadow.account, each.account)
        _restore_exchange(engine.market, shadow.exchange, each.exchange)
        shadow.ids.last = each.ids
        _put(shadow, each, "account", "exchange", "ids")
    _restore_risk(engine.risk, saved.risk)
    engine.ids.last = saved.ids
    for name, desked in saved.desked.items():
        _restore_desked(names[name], desked)
    _restore_view(engine._commander, saved._commander)
    desk_of_order = {order_id: names[name] for order_id, name in saved._desk_of_order.items()}
    _put(engine, saved, "market", "account", "exchange", "shadows", "risk", "ids", "desked",
         "_commander", _desk_of_order=desk_of_order)  # fmt: skip


def _put(target: object, saved: Struct, *but: str, **made: object) -> None:
    """The fields of ``saved`` into the attributes of the same names."""
    for name in saved.__struct_fields__:
        if name not in but:
            setattr(target, name, made[name] if name in made else getattr(saved, name))


def _restore_market(market: Market, saved: SavedMarket) -> None:
    for each in saved.listings:
        listing = market.listing(each.symbol)
        _put(listing.book, each.book)
        rules = None if each.rules is None else Rules(each.rules)
        _put(listing, each, "book", rules=rules)
        listing.tiers = () if each.rules is None else tiers_of(each.rules.tiers)
    _put(market, saved, "listings")


def _restore_risk(risk: Risk, saved: SavedRisk) -> None:
    if saved._scopes.keys() != risk._scopes.keys():
        raise SnapshotError(f"limits of {sorted(saved._scopes)} were saved, not of "
                            f"{sorted(risk._scopes)}")  # fmt: skip
    for scope, each in (
        (risk.total, saved.total),
        *((scope, saved._scopes[name]) for name, scope in risk._scopes.items()),
    ):
        _put(scope.results, each.results)
        scope._sent_ns = deque(each._sent_ns)
    _put(risk, saved, "total", "_scopes")


def _restore_exchange(market: Market, exchange: Exchange, saved: SavedExchange) -> None:
    symbols: dict[str, SymbolOrders] = exchange._symbols
    for symbol, each in saved._symbols.items():
        orders = symbols[symbol] = SymbolOrders(market.listing(symbol))
        _put(orders, each, "taken_bids", "taken_asks")
        _put(orders.taken_bids, each.taken_bids)
        _put(orders.taken_asks, each.taken_asks)
    _put(exchange._matcher, saved._matcher)
    _put(exchange._arrival, saved._arrival)
    unlimited = set(saved._unlimited)
    _put(exchange, saved, "_symbols", "_matcher", "_arrival", _unlimited=unlimited)


def _restore_desked(desked: Desked, saved: SavedDesked) -> None:
    strategy = desked.strategy
    strategy.state = msgspec.json.decode(saved.strategy, type=type(strategy.state))
    _restore_view(desked.view, saved.view)


def _restore_view(view: View, saved: SavedView) -> None:
    """In place: risk knows the desk, too."""
    _put(view.desk, saved.desk)
    view.ts = saved.ts
