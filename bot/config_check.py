"""What a configuration says, where each value is from, and whether a run could start with it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bot import build, secret_values
from bot.config import (
    ALL_KEYS,
    ENVIRONMENT,
    SECRET_KEYS,
    ConfigError,
    Settings,
    config_path,
    load,
    read,
)
from bot.config_errors import Problem
from bot.core.errors import PlainError
from bot.ledger.database import parse_url, redacted
from bot.operate.schedule import trigger_of

_FILES = (
    "models.predictor.checkpoint", "models.analyzer.checkpoint", "models.portfolio.checkpoint",
    "local_venue.capture", "api.key_file", "ledger.password_file", "dashboard.token_file",
    "mqtt.password_file", "mqtt.ca_file", "mqtt.cert_file", "mqtt.key_file", "notify.urls_file",
)  # fmt: skip

_MODELS = (Path("data/models"), Path(__file__).resolve().parent / "model" / "checkpoints")
_ACTIVE = Path("active")


def shown(settings: Settings) -> dict[str, Any]:
    """The settings as plain data, with ``***`` for what is secret."""
    values = settings.model_dump(mode="json")
    values["ledger"]["db"] = redacted(settings.ledger.db)
    for key in SECRET_KEYS:
        *sections, name = key.split(".")
        section = values
        for part in sections:
            section = section[part]
        held = section[name]
        section[name] = ["***" for _ in held] if isinstance(held, list) else held and "***"
    return values


def table(settings: Settings, path: Path | None) -> Iterator[dict[str, Any]]:
    """A row a setting: its key, its value, and whether file, environment or nobody set it."""
    raw, values = read(path or config_path()), shown(settings)
    for key in ALL_KEYS:
        value = _at(values, key)
        if not isinstance(value, dict):
            yield {"key": key, "value": value, "from": _origin(raw, key)}


def _origin(raw: dict[str, Any], key: str) -> str:
    parts = key.split(".")
    names = [ENVIRONMENT + "__".join(parts[:size]).upper() for size in range(1, len(parts) + 1)]
    for name in reversed(names):
        if name in os.environ:
            return name
    section = raw
    for part in parts:
        if not isinstance(section, dict) or part not in section:
            return "default"
        section = section[part]
    return "file"


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def problems(path: Path | None) -> list[Problem]:
    """Everything that would keep a run from starting; [] where all is well."""
    try:
        settings = load(path)
    except ConfigError as error:
        return list(error.problems) or [Problem("", str(error))]
    found: list[Problem] = []
    for key, check in _checks(settings):
        try:
            check()
        except PlainError as error:
            found.append(Problem(key, str(error)))
    return found


def _checks(settings: Settings) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "strategies", lambda: build.strategies(settings)
    yield "ledger.db", lambda: parse_url(settings.ledger.db)
    yield "", lambda: secret_values.known(settings)
    for name in type(settings.schedule).model_fields:
        job = getattr(settings.schedule, name)
        if hasattr(job, "when"):
            key, when = f"schedule.{name}.when", job.when
            yield key, lambda key=key, when=when: trigger_of(key, when)  # type: ignore[misc]
    for key in _FILES:
        path: Any = settings
        for part in key.split("."):
            path = getattr(path, part)
        if path is not None:
            yield key, lambda key=key, path=path: _require_file(key, path)  # type: ignore[misc]
    yield "notify.urls", lambda: _require_apprise(settings)


def _require_file(key: str, path: Path) -> None:
    if key.endswith(".checkpoint") and not path.suffix:
        _require_model(key, path)
        return
    if not path.is_file():
        raise ConfigError(f"{key} = {str(path)!r}: no such file")


def _require_model(key: str, name: Path) -> None:
    """An id of `bot models`, looked for without loading torch as the registry would."""
    places = [(folder / name).with_suffix(".safetensors") for folder in _MODELS]
    if name != _ACTIVE and not any(place.is_file() for place in places):
        raise ConfigError(f"{key} = {str(name)!r}: no such model: see `bot models list`")


def _require_apprise(settings: Settings) -> None:
    if secret_values.notify_urls(settings) and importlib.util.find_spec("apprise") is None:
        raise ConfigError("notify: Apprise is not installed: pip install 'kvtrader[notify]'")
