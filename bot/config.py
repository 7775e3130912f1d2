"""config.yaml and BOT__SECTION__KEY variables to frozen settings; nothing else reads either.

An unknown key is an error. Every key is explained in the shipped ``config.yaml``.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from bot.core.errors import PlainError

Symbol = Annotated[str, Field(pattern=r"^(linear|spot):[A-Z0-9]{2,30}$")]
Interval = Literal["1", "3", "5", "15", "30", "60", "120", "240", "360", "720", "D"]
Positive = Annotated[Decimal, Field(gt=0)]
Depth = Annotated[
    Literal[1, 50, 200, 1000],
    BeforeValidator(lambda value: int(value) if str(value).isdigit() else value),
]
NotNegative = Annotated[Decimal, Field(ge=0)]


class ConfigError(PlainError):
    """The configuration cannot be used; the text says which key, its value, what is allowed."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Feed(Section):
    depth: Depth = 50
    interval: Interval = "1"
    queue_size: int = Field(20_000, ge=100)
    warmup_candles: int = Field(300, ge=0, le=1000)
    connect_timeout_s: float = Field(10.0, gt=0)
    silence_s: float = Field(10.0, gt=0)


class LocalVenue(Section):
    seed: int = 7
    port: int = Field(0, ge=0, le=65535)
    capture: Path | None = None
    events_per_s: float = Field(40.0, gt=0, le=5_000)


class Account(Section):
    usdt: NotNegative = Decimal(10_000)
    leverage: Annotated[Decimal, Field(ge=1, le=100)] = Decimal(10)


class FeeRates(Section):
    maker_rate: Decimal = Decimal("0.0002")
    taker_rate: Decimal = Decimal("0.00055")


class FeeTable(Section):
    linear: FeeRates = FeeRates()
    spot: FeeRates = FeeRates(maker_rate=Decimal("0.001"), taker_rate=Decimal("0.001"))


class Exchange(Section):
    queue: Literal["conservative", "probabilistic", "none"] = "conservative"
    through: Literal["traded", "full"] = "traded"
    order_latency_ms: float = Field(20.0, ge=0)
    response_latency_ms: float = Field(10.0, ge=0)
    latency_jitter_ms: float = Field(5.0, ge=0)
    queue_power: int = Field(3, ge=1, le=10)
    market_slippage: Annotated[Decimal, Field(gt=0, lt=1)] = Decimal("0.05")
    seed: int = 1
    fees: FeeTable = FeeTable()


class Risk(Section):
    max_position_notional: Positive = Decimal(5_000)
    max_order_notional: Positive = Decimal(2_000)
    max_orders_per_s: int = Field(20, ge=1)
    max_open_orders: int = Field(50, ge=1)
    max_daily_loss: Positive = Decimal(500)


_KIND = "(standard|paged|quantized|selective|prefix)"


class Cache(Section):
    kind: str = Field("paged", pattern=rf"^{_KIND}(\+{_KIND})*$")
    kv_cache_dtype: Literal["float32", "float16", "int8", "fp8_e4m3", "int4", "k8v4"] = "int8"
    block_size: int = Field(16, ge=1)
    retention: Literal["", "attention_score", "recency", "entropy", "hybrid"] = ""
    retain: int = Field(0, ge=0)
    budget_mb: float = Field(64.0, gt=0)
    when_full: Literal["evict", "refuse"] = "evict"


class Model(Section):
    enabled: bool = True
    checkpoint: Path | None = None
    seed: int = 1
    window: int = Field(512, ge=2)


class Models(Section):
    threads: int = Field(1, ge=1, le=256)
    decode: Literal["auto", "native", "torch"] = "auto"
    weight_dtype: Literal["float32", "int8"] = "float32"
    inbox: int = Field(10_000, ge=100)
    cache: Cache = Cache()
    predictor: Model = Model()
    analyzer: Model = Model(window=256)


class StrategyUse(Section):
    use: str = Field(pattern=r"^[A-Za-z_][\w.]*\.[A-Za-z_]\w*$")
    name: str | None = None
    symbols: tuple[Symbol, ...] = ()
    params: dict[str, Any] = {}


class Ledger(Section):
    db: str = "sqlite:///data/kvtrader.db"


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
        env_prefix="BOT__",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    instance: str = Field("kvtrader", pattern=r"^[\w.-]{1,64}$")
    network: Literal["mainnet", "testnet"] = "mainnet"
    symbols: Annotated[tuple[Symbol, ...], Field(min_length=1)] = (
        "linear:BTCUSDT",
        "linear:ETHUSDT",
    )
    feed: Feed = Feed()
    local_venue: LocalVenue = LocalVenue()
    account: Account = Account()
    exchange: Exchange = Exchange()
    risk: Risk = Risk()
    models: Models = Models()
    strategies: tuple[StrategyUse, ...] = ()
    ledger: Ledger = Ledger()
    journal: Journal = Journal()
    log: Log = Log()

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
    if path is None:
        local = Path("config.yaml")
        path = local if local.exists() else default_config_path()
    settings = parse(_read(path), str(path))
    if db is None:
        return settings
    return settings.model_copy(update={"ledger": Ledger(db=db)})


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {_one_line(error)}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must hold keys and values, holds a {type(raw).__name__}")
    return raw


def parse(raw: dict[str, Any], source: str) -> Settings:
    """Settings from plain data. Raises ConfigError that names key, value and the allowed."""
    try:
        return Settings(**raw)
    except ValidationError as error:
        problems = "; ".join(_problem(item) for item in error.errors())
        raise ConfigError(f"{source}: {problems}") from error


def _problem(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r} (see `bot init` for a commented file with every key)"
    return f"{key} = {item['input']!r}: {item['msg']}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
