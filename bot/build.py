"""Settings to the objects that decide: strategies, policy, limits, engine. No I/O but imports."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from bot.config import Settings
from bot.config_trade import Risk as RiskSettings
from bot.config_trade import StrategyLimits, StrategyUse
from bot.core.engine import Engine
from bot.core.errors import PlainError
from bot.core.events import Event, Fees
from bot.core.instrument import to_e8, to_e12
from bot.core.latency import Latency
from bot.core.matching import FillPolicy
from bot.core.risk import RiskLimits
from bot.core.strategy import Strategy

_NS_PER_MS = 1e6
_UNBOUND = 10**30
_RESPONSE_SEED = 1_000_003
"""Answers draw their latency independently of requests."""


class StrategyError(PlainError):
    """A strategy cannot be loaded; the text names it and says what to change."""


def engine(settings: Settings) -> Engine:
    """The engine that the settings describe. Raises StrategyError."""
    trading, *shadows = policies(settings)
    return Engine(
        strategies(settings),
        usdt=to_e8(settings.account.usdt),
        leverage=to_e12(settings.account.leverage),
        policy=trading,
        limits=limits(settings.risk),
        strategy_limits={
            name_of(use): strategy_limits(use.limits)
            for use in settings.strategies
            if use.limits is not None
        },
        shadows=shadows,
    )


def limits(risk: RiskSettings) -> RiskLimits:
    """The limits of the whole account."""
    return RiskLimits(
        max_position_notional=to_e8(risk.max_position_notional),
        max_order_notional=to_e8(risk.max_order_notional),
        max_daily_loss=to_e8(risk.max_daily_loss),
        max_orders_per_s=risk.max_orders_per_s,
        max_open_orders=risk.max_open_orders,
        max_total_notional=to_e8(risk.max_total_notional),
        max_price_deviation=to_e12(risk.max_price_deviation),
        max_drawdown=to_e8(risk.max_drawdown),
        max_consecutive_losses=risk.max_consecutive_losses,
        max_data_age_ns=round(risk.max_data_age_s * 1e9),
        max_prediction_age=to_e12(risk.max_prediction_age),
    )


def strategy_limits(own: StrategyLimits) -> RiskLimits:
    """A strategy's own limits; those not given never bind."""

    def most(value: Decimal | None) -> int:
        return _UNBOUND if value is None else to_e8(value)

    return RiskLimits(
        max_position_notional=most(own.max_position_notional),
        max_order_notional=most(own.max_order_notional),
        max_daily_loss=most(own.max_daily_loss),
        max_orders_per_s=own.max_orders_per_s or _UNBOUND,
        max_open_orders=own.max_open_orders or _UNBOUND,
        max_total_notional=0 if own.max_total_notional is None else most(own.max_total_notional),
        max_drawdown=0 if own.max_drawdown is None else most(own.max_drawdown),
        max_consecutive_losses=own.max_consecutive_losses or 0,
    )


def policies(settings: Settings) -> list[FillPolicy]:
    """One for each of the configured names; the first trades."""
    exchange = settings.exchange
    jitter_ns = round(exchange.latency_jitter_ms * _NS_PER_MS)
    order_ns = round(exchange.order_latency_ms * _NS_PER_MS)
    response_ns = round(exchange.response_latency_ms * _NS_PER_MS)
    measured = exchange.latency == "measured"
    return [
        FillPolicy(
            queue=queue,
            through=exchange.through,
            queue_power=exchange.queue_power,
            order_latency=Latency(order_ns, jitter_ns, exchange.seed, measured),
            response_latency=Latency(
                response_ns, jitter_ns, exchange.seed + _RESPONSE_SEED, measured
            ),
            market_slippage=to_e12(exchange.market_slippage),
            beyond_limit=exchange.beyond_limit,
            rate_limits=exchange.rate_limits,
        )
        for queue in exchange.policies
    ]


def policy(settings: Settings) -> FillPolicy:
    """The policy that trades."""
    return policies(settings)[0]


def fees(settings: Settings, ts: int) -> list[Event]:
    """The configured fee tiers as events."""
    table = settings.exchange.fees
    return [
        Fees(ts, category, rates.maker_rate, rates.taker_rate)
        for category, rates in (("linear", table.linear), ("spot", table.spot))
    ]


def strategies(settings: Settings) -> list[tuple[str, tuple[str, ...], Strategy]]:
    """Every configured strategy, by name. Raises StrategyError."""
    loaded: list[tuple[str, tuple[str, ...], Strategy]] = []
    for use in settings.strategies:
        name = name_of(use)
        if any(name == other for other, _, _ in loaded):
            raise StrategyError(f"two strategies are called {name!r}: give one another `name`")
        symbols = use.symbols or settings.symbols
        unknown = sorted(set(symbols) - set(settings.symbols))
        if unknown:
            raise StrategyError(f"{name}: {', '.join(unknown)} not among `symbols` of the config")
        loaded.append((name, symbols, _load(use, symbols)))
    return loaded


def name_of(use: StrategyUse) -> str:
    """The name under which a strategy stands in the ledger."""
    return use.name or use.use.rpartition(".")[2]


def _load(use: StrategyUse, symbols: Sequence[str]) -> Strategy:
    module_name, _, class_name = use.use.rpartition(".")
    kind: Any = getattr(_module(use.use, module_name), class_name, None)
    is_strategy = inspect.isclass(kind) and callable(getattr(kind, "on_event", None))
    if not is_strategy:
        raise StrategyError(f"strategy {use.use!r}: {class_name} is not a class with `on_event`")
    try:
        strategy: Strategy = kind(tuple(symbols), **use.params)
    except TypeError as error:
        accepted = ", ".join(list(inspect.signature(kind).parameters)[1:]) or "none"
        raise StrategyError(f"strategy {use.use!r}: {error}; params: {accepted}") from error
    except Exception as error:
        raise StrategyError(f"strategy {use.use!r}: {_told(error)}") from error
    _require_saveable(use.use, strategy)
    return strategy


def _module(use: str, name: str) -> ModuleType:
    """A strategy's file, installed or in the working directory."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise StrategyError(
            f"strategy {use!r}: no module {error.name!r} here or on the Python path"
        ) from error
    except Exception as error:
        raise StrategyError(f"strategy {use!r}: {_told(error)}") from error


def _told(error: Exception) -> str:
    """What a user's file raised, and where, in one line."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({place.filename}, line {place.lineno})"


def _require_saveable(name: str, strategy: Strategy) -> None:
    """A run is resumed from what can be saved, so a strategy keeps all it knows in ``state``."""
    if not hasattr(strategy, "state"):
        raise StrategyError(f"strategy {name!r}: has no `state` (None, if it remembers nothing)")
    state = strategy.state
    try:
        same = msgspec.json.decode(msgspec.json.encode(state), type=type(state))
    except (TypeError, msgspec.MsgspecError) as error:
        raise StrategyError(f"strategy {name!r}: `state` cannot be saved: {error}") from error
    if same != state:
        raise StrategyError(f"strategy {name!r}: `state` is not the same after saving: {state!r}")
