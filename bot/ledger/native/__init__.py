"""The fast writer of facts: what the C extension ``_rows`` offers, where it was built.

The extension is optional. It makes the lines and rows of facts in one pass, to the byte what
``bot.ledger.digest`` makes, which has the rules and does the work without it.
"""

from __future__ import annotations

try:
    from bot.ledger.native import _rows
except ImportError:
    _is_built = False
else:
    _is_built = True
    Shape, take_step = _rows.Shape, _rows.take_step


def available() -> bool:
    """Whether the extension was built and can be loaded."""
    return _is_built
