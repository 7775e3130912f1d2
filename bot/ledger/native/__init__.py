"""The fast writer of facts: what the C extension ``_rows`` offers, where it was built.

The extension is optional. It makes a fact's line and row in one pass, to the byte what
``bot.ledger.digest`` makes, which has the rules and does the work without it.
"""

from __future__ import annotations

try:
    from bot.ledger.native import _rows
except ImportError:
    _is_built = False
else:
    _is_built = True
    Shape = _rows.Shape


def available() -> bool:
    """Whether the extension was built and can be loaded."""
    return _is_built
