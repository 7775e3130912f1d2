"""The fast reader of order-book and trade frames: what the C extension ``_scan`` offers.

The extension is optional: it is built where there is a C compiler. It reads frames that are plainly
right and judges none; without it, and for every other frame, ``bot.venue.payloads`` does the work,
with the same events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from bot.core.events import E12, Level, Side

ScannedBook: TypeAlias = tuple[str, bool, int, int, int, list[Level], list[Level]]
"""(topic, is snapshot, exchange_ts in ns, u, seq, bids, asks)"""
ScannedTrade: TypeAlias = tuple[int, int, Side, E12, E12, bool, bool]
"""(exchange_ts in ns, seq, taker's side, price, quantity, block, rpi)"""
ScannedTrades: TypeAlias = tuple[str, list[ScannedTrade]]
"""(topic, trades)"""
Scan: TypeAlias = Callable[[bytes], ScannedBook | ScannedTrades | None]

try:
    from bot.venue.native._scan import scan as _native
except ImportError:
    _native = None


def unread(data: bytes) -> None:
    """What takes the scanner's place where it was not built: every frame is left to ``payloads``."""
    del data


scan: Scan = _native or unread
"""The parts of a frame; None for a frame that it leaves to ``payloads``."""


def available() -> bool:
    """Whether the extension was built and can be loaded."""
    return _native is not None
