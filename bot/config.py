"""config.yaml and BOT__SECTION__KEY variables to frozen settings; nothing else reads either.

An unknown key is an error. Every key is explained in the shipped ``config.yaml``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from bot.config_errors import (
    ConfigError,
    one_line,
    problem,
    secret_in_file,
    unknown_key,
    unknown_variable,
)
from bot.config_operate import Dashboard, Metrics, Mqtt, Notify, Schedule, Section
from bot.secret_files import with_password

__all__ = ["ConfigError", "Settings", "load", "parse", "read", "recorded", "write_default"]

ENVIRONMENT = "BOT__"
"""The variables that are read start with this."""
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
    interval: Interval = "1"
    queue_size: int = Field(20_000, ge=100)
    warmup_candles: int = Field(300, ge=0, le=1000)
    connect_timeout_s: float = Field(10.0, gt=0)
    silence_s: float = Field(10.0, gt=0)


class LocalVenue(Section):
    seed: Seed = 7
    port: int = Field(0, ge=0, le=65535)
    capture: Path | None = None
    events_per_s: float = Field(40.0, ge=0.01, le=5_000)


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


class Watch(Section):
    least_scored: int = Field(300, ge=10, le=1_000)
    least_rank_ic: float | None = Field(None, ge=-1, le=1)
    most_calibration_error: float | None = Field(None, gt=0, le=1)
    most_drift: float | None = Field(None, gt=0)
    command: Literal["pause", "halt", "flatten"] = "halt"


class Models(Section):
    threads: int = Field(1, ge=1, le=256)
    decode: Literal["auto", "native", "torch"] = "auto"
    weight_dtype: Literal["float32", "int8"] = "float32"
    inbox: int = Field(10_000, ge=100)
    cache: Cache = Cache()
    predictor: Model = Model()
    analyzer: Model = Model(window=256)
    watch: Watch = Watch()


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
            "lean": 0.5,
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


class Settings(BaseSettings):
    """The whole configuration. Environment variables win over the file."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        env_prefix=ENVIRONMENT,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    instance: str = Field("kvtrader", pattern=r"^[\w.-]{1,64}$")
    network: Literal["mainnet", "testnet"] = "mainnet"
    symbols: Annotated[Symbols, Field(min_length=1)] = ("linear:BTCUSDT", "linear:ETHUSDT")
    feed: Feed = Feed()
    local_venue: LocalVenue = LocalVenue()
    account: Account = Account()
    exchange: Exchange = Exchange()
    risk: Risk = Risk()
    models: Models = Models()
    strategies: tuple[StrategyUse, ...] = STRATEGIES
    ledger: Ledger = Ledger()
    journal: Journal = Journal()
    mqtt: Mqtt = Mqtt()
    notify: Notify = Notify()
    schedule: Schedule = Schedule()
    backtest: Backtest = Backtest()
    log: Log = Log()
    dashboard: Dashboard = Dashboard()
    metrics: Metrics = Metrics()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The file's values come in as init arguments; the environment goes before them."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


KEYS = tuple(Settings.model_fields)


class _Recorded(Settings):
    """Settings as a run wrote them down: today's environment changes nothing in them."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **more: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del settings_cls, others, more
        return (init_settings,)


def default_config_path() -> Path:
    """The config.yaml that ships with the project: beside this file, or in the source tree."""
    here = Path(__file__).resolve().parent
    packaged = here / "config.yaml"
    return packaged if packaged.exists() else here.parent / "config.yaml"


def write_default(path: Path, *, overwrite: bool) -> None:
    """Write the shipped, commented file. Raises ConfigError."""
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists: choose another name, or overwrite it with --force")
    try:
        path.write_bytes(default_config_path().read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def load(path: Path | None = None, *, db: str | None = None) -> Settings:
    """Read ``path``, else ./config.yaml, else the shipped defaults; ``db`` replaces ledger.db.

    Raises ConfigError.
    """
    path = path or config_path()
    variables = sorted(name for name in os.environ if name.startswith(ENVIRONMENT))
    unknown = [name for name in variables if name.split("__")[1].lower() not in KEYS]
    if unknown:
        raise ConfigError(unknown[0], [unknown_variable(name, VARIABLES) for name in unknown])
    raw = read(path)
    misplaced = [secret_in_file(key) for key in SECRET_KEYS if _value_at(raw, key)]
    if misplaced:
        raise ConfigError(str(path), misplaced)
    settings = parse(raw, ", ".join([str(path), *variables]))
    if db is not None:
        ledger = settings.ledger.model_copy(update={"db": db})
        return settings.model_copy(update={"ledger": ledger})
    path = settings.ledger.password_file
    if path is None:
        return settings
    db = with_password(settings.ledger.db, path)
    return settings.model_copy(update={"ledger": settings.ledger.model_copy(update={"db": db})})


def varied(
    settings: Settings, *, strategy: str | None, params: Iterable[str], seed: int | None
) -> Settings:
    """The settings with one strategy over every symbol in place of theirs, or another seed.

    ``params`` are KEY=VALUE texts, each value in YAML. Raises ConfigError.
    """
    pairs = [text.partition("=") for text in params]
    unread = [key for key, equals, _ in pairs if not (key and equals)]
    if unread or (pairs and strategy is None):
        raise ConfigError(f"--param {unread or pairs[0][0]}: write KEY=VALUE, beside --strategy")
    changed: dict[str, Any] = {}
    if seed is not None:
        changed["exchange"] = settings.exchange.model_copy(update={"seed": seed})
    if strategy is not None:
        values = {key: yaml.safe_load(value) for key, _, value in pairs}
        try:
            changed["strategies"] = (StrategyUse(use=strategy, params=values),)
        except ValidationError as error:
            raise ConfigError(f"--strategy {strategy!r}: write module.Class") from error
    return settings.model_copy(update=changed)


def config_path() -> Path:
    """./config.yaml, else the shipped file."""
    local = Path("config.yaml")
    return local if local.exists() else default_config_path()


def read(path: Path) -> dict[str, Any]:
    """The keys and values of a file, as they stand there. Raises ConfigError."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid YAML: {one_line(error)}") from error
    except yaml.YAMLError as error:  # its own text quotes the line, which may hold a password
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or type(error).__name__
        raise ConfigError(f"{path}: not valid YAML{where}: {what}") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must hold keys and values, holds a {type(raw).__name__}")
    return raw


def parse(raw: dict[str, Any], source: str) -> Settings:
    """Settings from plain data and the environment. Raises ConfigError that names ``source``."""
    return _parsed(Settings, raw, source)


def recorded(raw: dict[str, Any], source: str) -> Settings:
    """Settings from a run's own record, whatever the environment says. Raises ConfigError."""
    return _parsed(_Recorded, raw, source)


def _parsed(kind: type[Settings], raw: dict[str, Any], source: str) -> Settings:
    unknown = [key for key in raw if key not in KEYS]
    if unknown:
        raise ConfigError(source, [unknown_key(str(key), ALL_KEYS) for key in unknown])
    try:
        return kind(**raw)
    except ValidationError as error:
        problems = [problem(item, ALL_KEYS, HIDDEN_KEYS) for item in error.errors()]
        raise ConfigError(source, problems) from error
    except SettingsError as error:  # a variable that should hold JSON does not
        text = f"{source}: {one_line(error)}: lists and sections are JSON"
        raise ConfigError(text) from None


# --- every key ----------------------------------------------------------------------------------


def fields_of(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key below a section, dotted, sections themselves included, in order."""
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields_of(field.annotation, f"{prefix}{name}.")


def _value_at(raw: Any, key: str) -> Any:
    for part in key.split("."):
        raw = raw.get(part) if isinstance(raw, dict) else None
    return raw


ALL_KEYS = tuple(key for key, _ in fields_of(Settings))
SECRET_KEYS = tuple(key for key, field in fields_of(Settings) if "SecretStr" in str(field))
"""Values of these are never shown, and are not read from config.yaml."""
HIDDEN_KEYS = frozenset(
    (*SECRET_KEYS, *(key.partition(".")[0] for key in SECRET_KEYS), "ledger", "ledger.db")
)
"""Values of these are not shown in errors: they are secrets, or may hold one."""
VARIABLES = tuple(f"{ENVIRONMENT}{key.upper()}" for key in KEYS)
