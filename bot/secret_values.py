"""The secrets of a run: where each comes from, and all of them, so that nothing shows one."""

from __future__ import annotations

from bot.config import ConfigError, Settings
from bot.ledger.database import secrets_of_url
from bot.secret_files import lines_of

SHORTEST_TOKEN = 16


def mqtt_password(settings: Settings) -> str | None:
    """From the environment, else from the file. Raises ConfigError."""
    mqtt = settings.mqtt
    if mqtt.password is not None:
        return mqtt.password.get_secret_value()
    if mqtt.password_file is None:
        return None
    lines = lines_of("mqtt.password_file", mqtt.password_file)
    return lines[0] if lines else ""


def notify_urls(settings: Settings) -> tuple[str, ...]:
    """From the environment and from the file. Raises ConfigError."""
    notify = settings.notify
    urls = [url.get_secret_value() for url in notify.urls]
    if notify.urls_file is not None:
        urls += lines_of("notify.urls_file", notify.urls_file)
    return tuple(url for url in urls if url)


def dashboard_token(settings: Settings) -> str | None:
    """From the environment, else from the file; None where neither says. Raises ConfigError."""
    dashboard = settings.dashboard
    token = None
    if dashboard.token is not None:
        token = dashboard.token.get_secret_value()
    elif dashboard.token_file is not None:
        lines = lines_of("dashboard.token_file", dashboard.token_file)
        token = lines[0] if lines else ""
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise ConfigError(
            f"dashboard.token has {len(token)} characters: take at least {SHORTEST_TOKEN}, for "
            "example from `openssl rand -hex 32`"
        )
    return token


def api_key(settings: Settings) -> tuple[str, str] | None:
    """A Bybit API key and its secret, the two lines of a file. Raises ConfigError."""
    path = settings.api.key_file
    if path is None:
        return None
    lines = [line for line in lines_of("api.key_file", path) if line]
    if len(lines) != 2:
        raise ConfigError(
            f"api.key_file = {str(path)!r}: {len(lines)} lines: the key in one, its secret in the "
            "next"
        )
    return lines[0], lines[1]


def known(settings: Settings) -> tuple[str, ...]:
    """Every secret text of these settings. Raises ConfigError."""
    found = [
        mqtt_password(settings),
        dashboard_token(settings),
        *notify_urls(settings),
        *secrets_of_url(settings.ledger.db),
        *(api_key(settings) or ()),
    ]
    return tuple(secret for secret in found if secret)
