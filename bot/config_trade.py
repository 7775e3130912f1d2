"""The sections of config.yaml that say what is read, predicted, traded and kept."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from bot.config_operate import Section

_DECIMALS = 12  # what core's integers hold


def _number(value: Any) -> Any:
    """In YAML a number, in the environment its text; true is no 1."""
    return int(value) if str(value).isdecimal() else str(value)


def _text(value: Any) -> Any:
    """A person writes ``interval: 5``; Bybit's name for it is "5"."""
    return str(value) if type(value) is int else value


def _once(symbols: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands there more than once")
    return symbols


Symbol = Annotated[str, Field(pattern=r"^(linear|spot):[A-Z0-9]{2,30}$")]
Symbols = Annotated[tuple[Symbol, ...], AfterValidator(_once)]
Interval = Annotated[
    Literal["1", "3", "5", "15", "30", "60", "120", "240", "360", "720", "D"],
    BeforeValidator(_text),
]
Depth = Annotated[Literal[1, 50, 200, 1000], BeforeValidator(_number)]
Positive = Annotated[Decimal, Field(gt=0, le=10**12)]
NotNegative = Annotated[Decimal, Field(ge=0, le=10**12)]
Rate = Annotated[Decimal, Field(gt=-1, lt=1, decimal_places=_DECIMALS)]
LatencyMs = Annotated[float, Field(ge=0, le=60_000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Feed(Section):
    depth: Depth = 50
    interval: Interval = "5"
    queue_size: int = Field(20_000, ge=100)
    warmup_candles: int = Field(300, ge=0, le=1000)
    connect_timeout_s: float = Field(10.0, gt=0)
    silence_s: float = Field(10.0, gt=0)


class Api(Section):
    """The account at Bybit whose fee rates are used; nothing is ever ordered with it."""

    key_file: Path | None = None


class LocalVenue(Section):
    seed: Seed = 7
    port: int = Field(0, ge=0, le=65535)
    capture: Path | None = None
    events_per_s: float = Field(40.0, ge=0.01, le=5_000)
    funding_minutes: int = Field(480, ge=1, le=1440)


class Account(Section):
    usdt: NotNegative = Decimal(10_000)
    leverage: Annotated[Decimal, Field(ge=1, le=100, decimal_places=_DECIMALS)] = Decimal(10)


class FeeRates(Section):
    maker_rate: Rate = Decimal("0.0002")
    taker_rate: Rate = Decimal("0.00055")


class FeeTable(Section):
    linear: FeeRates = FeeRates()
    spot: FeeRates = FeeRates(maker_rate=Decimal("0.001"), taker_rate=Decimal("0.001"))


def _each_once(policies: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(policies)) != len(policies):
        raise ValueError("a policy stands there more than once")
    return policies


Policy = Literal["conservative", "probabilistic", "none"]


class Exchange(Section):
    policies: Annotated[tuple[Policy, ...], Field(min_length=1), AfterValidator(_each_once)] = (
        "conservative",
    )
    through: Literal["traded", "full"] = "traded"
    order_latency_ms: LatencyMs = 20.0
    response_latency_ms: LatencyMs = 10.0
    latency_jitter_ms: LatencyMs = 5.0
    queue_power: int = Field(3, ge=1, le=10)
    latency: Literal["modelled", "measured"] = "modelled"
    market_slippage: Annotated[Rate, Field(gt=0)] = Decimal("0.05")
    beyond_limit: Literal["move", "reject"] = "move"
    rate_limits: bool = True
    seed: Seed = 1
    fees: FeeTable = FeeTable()


class Risk(Section):
    max_position_notional: Positive = Decimal(5_000)
    max_total_notional: NotNegative = Decimal(0)
    max_order_notional: Positive = Decimal(2_000)
    max_orders_per_s: int = Field(20, ge=1)
    max_open_orders: int = Field(50, ge=1)
    max_price_deviation: Annotated[Decimal, Field(ge=0, lt=1, decimal_places=_DECIMALS)] = Decimal(
        "0.1"
    )
    max_daily_loss: Positive = Decimal(500)
    max_drawdown: NotNegative = Decimal(0)
    max_consecutive_losses: int = Field(0, ge=0)
    max_data_age_s: float = Field(10.0, ge=0, le=1e6)
    max_prediction_age: Annotated[Decimal, Field(ge=0, le=1000, decimal_places=3)] = Decimal(3)


class StrategyLimits(Section):
    """A strategy's own part of the risk limits; what is not given is not limited."""

    max_position_notional: Positive | None = None
    max_total_notional: Positive | None = None
    max_order_notional: Positive | None = None
    max_orders_per_s: int | None = Field(None, ge=1)
    max_open_orders: int | None = Field(None, ge=1)
    max_daily_loss: Positive | None = None
    max_drawdown: Positive | None = None
    max_consecutive_losses: int | None = Field(None, ge=1)


_KIND = "(standard|paged|quantized|selective|prefix)"


class Cache(Section):
    kind: str = Field("paged", pattern=rf"^{_KIND}(\+{_KIND})*$")
    kv_cache_dtype: Literal["float32", "float16", "int8", "fp8_e4m3", "int4", "k8v4"] = "int8"
    block_size: int = Field(16, ge=1)
    retention: Literal["", "attention_score", "recency", "entropy", "hybrid"] = ""
    retain: int = Field(0, ge=0)
    budget_mb: float = Field(64.0, ge=1, le=1_000_000)
    when_full: Literal["evict", "refuse"] = "evict"


class Model(Section):
    enabled: bool = True
    checkpoint: Path | None = None
    seed: Seed = 1
    window: int = Field(512, ge=2)


_ACTIVE = Path("active")  # the checkpoint that `bot models` says is in use


class Watch(Section):
    least_scored: int = Field(300, ge=10, le=1_000)
    least_rank_ic: float | None = Field(None, ge=-1, le=1)
    most_calibration_error: float | None = Field(None, gt=0, le=1)
    most_drift: float | None = Field(None, gt=0)
    command: Literal["pause", "halt", "flatten"] = "halt"


class Portfolio(Section):
    enabled: bool = False
    checkpoint: Path = _ACTIVE
    market: Symbol | None = None
    own_tokens: int = Field(32, ge=1, le=100_000)
    horizon: int = Field(0, ge=0)
    long_only: bool = False
    volatility: float = Field(0.2, gt=0)
    cap: float = Field(0.3, gt=0, le=1)
    gross: float = Field(1.0, gt=0)


class Models(Section):
    threads: int = Field(1, ge=1, le=256)
    decode: Literal["auto", "native", "torch"] = "auto"
    weight_dtype: Literal["float32", "int8"] = "float32"
    inbox: int = Field(10_000, ge=100)
    cache: Cache = Cache()
    predictor: Model = Model(checkpoint=_ACTIVE)
    analyzer: Model = Model(checkpoint=_ACTIVE, window=256)
    portfolio: Portfolio = Portfolio()
    watch: Watch = Watch()

    @property
    def is_any_enabled(self) -> bool:
        return self.predictor.enabled or self.analyzer.enabled or self.portfolio.enabled


class StrategyUse(Section):
    use: str = Field(pattern=r"^[A-Za-z_][\w.]*\.[A-Za-z_]\w*$")
    name: str | None = None
    symbols: Symbols = ()
    params: dict[str, Any] = Field(default_factory=dict)
    limits: StrategyLimits | None = None


STRATEGIES = (
    StrategyUse(
        use="strategies.threshold.Threshold",
        name="threshold",
        symbols=("linear:ETHUSDT",),
        params={"model": "predictor", "horizon": 0, "notional": 500, "edge": 0.0002},
    ),
    StrategyUse(
        use="strategies.market_maker.MarketMaker",
        name="maker",
        symbols=("linear:BTCUSDT",),
        params={
            "model": "analyzer",
            "notional": 200,
            "half_spread": 0.0001,
            "lean": 0.0,
            "max_inventory": 1000,
            "requote_ms": 200,
        },
    ),
)


class Ledger(Section):
    db: str = "sqlite:///data/kvtrader.db"
    password_file: Path | None = None
    snapshot_s: float = Field(60.0, gt=0)
    away_s: float = Field(60.0, gt=0)


class Backtest(Section):
    candle_spread: Annotated[Rate, Field(ge=0)] = Decimal("0.0002")
    prediction_latency_ms: LatencyMs | Literal["measured"] = 2.0
    warmup_candles: int = Field(512, ge=0)


class Journal(Section):
    folder: Path = Path("data/runs")
    chunk_entries: int = Field(500, ge=1)
    chunk_s: float = Field(1.0, gt=0)


class Log(Section):
    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"
