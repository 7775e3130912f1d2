"""Secrets in files of their own, as Docker and systemd hand them over."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from bot.config_errors import ConfigError


def lines_of(key: str, path: Path) -> list[str]:
    """The lines of the file that ``key`` names, without those that are comments.

    Raises ConfigError, which tells nothing of what the file holds.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"{key} = {str(path)!r}: cannot be read: {reason}") from None
    return [line.strip() for line in text.splitlines() if not line.startswith("#")]


def with_password(db: str, path: Path) -> str:
    """A database's URL with the password from a file. Raises ConfigError."""
    lines = lines_of("ledger.password_file", path)
    parts = urlsplit(db)
    user, at, host = parts.netloc.rpartition("@")
    if not (lines and at):
        raise ConfigError(
            f"ledger.password_file = {str(path)!r}: empty, or ledger.db names no user: "
            "postgresql://USER@HOST/NAME"
        )
    password = quote(lines[0], safe="")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:{password}@{host}"))
