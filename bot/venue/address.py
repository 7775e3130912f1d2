"""Where Bybit, or a venue on this machine, is reached, and the error for when it is not."""

from __future__ import annotations

import os
from ssl import SSLError
from typing import Literal

from picows import WSError

from bot.core.errors import PlainError

Network = Literal["mainnet", "testnet"]

# https://bybit-exchange.github.io/docs/v5/ws/connect
_STREAM_HOSTS = {"mainnet": "stream.bybit.com", "testnet": "stream-testnet.bybit.com"}
# https://bybit-exchange.github.io/docs/v5/guide
_REST_HOSTS = {"mainnet": "api.bybit.com", "testnet": "api-testnet.bybit.com"}


class VenueUnreachable(PlainError):
    """The venue does not answer; the text says which address, why, and the way out."""

    def __init__(self, url: str, cause: str) -> None:
        text = f"{url} cannot be reached: {cause.rstrip('.')}."
        if ".bybit.com" in url:
            text += " For a market on this machine: bot paper --venue local"
        super().__init__(text)


def public_url(venue: str, category: str) -> str:
    """The public stream of a category. ``venue``: a Network, or a base such as ws://host:port."""
    host = _STREAM_HOSTS.get(venue)
    base = f"wss://{host}" if host else _base(venue, ("ws://", "wss://"))
    return f"{base}/v5/public/{category}"


def rest_url(venue: str) -> str:
    """The REST base. ``venue``: a Network, or a base such as http://host:port."""
    host = _REST_HOSTS.get(venue)
    return f"https://{host}" if host else _base(venue, ("http://", "https://"))


def _base(venue: str, schemes: tuple[str, str]) -> str:
    if not venue.startswith(schemes):
        raise ValueError(f"venue {venue!r}: give mainnet, testnet, or a URL with {schemes[0]}")
    return venue.rstrip("/")


def cause_of(error: Exception) -> str:
    """Why a connection failed, in one line."""
    if isinstance(error, OSError) and not isinstance(error, SSLError) and (error.errno or 0) > 0:
        return os.strerror(error.errno or 0)
    text = str(error.args[0]) if isinstance(error, WSError) and error.args else str(error)
    return " ".join(text.split()) or "no answer in time"
