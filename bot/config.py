"""config.yaml and BOT__SECTION__KEY variables to frozen settings; nothing else reads either.

An unknown key is an error. Every key is explained in the shipped ``config.yaml``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError
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
from bot.config_operate import Dashboard, Metrics, Mqtt, Notify, Schedule
from bot.config_trade import (
    STRATEGIES,
    Account,
    Api,
    Backtest,
    Exchange,
    Feed,
    Journal,
    Ledger,
    LocalVenue,
    Log,
    Models,
    Risk,
    StrategyUse,
    Symbols,
)
from bot.secret_files import with_password

__all__ = ["ConfigError", "Settings", "load", "parse", "read", "recorded", "write_default"]

ENVIRONMENT = "BOT__"
"""The variables that are read start with this."""


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
    api: Api = Api()
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
