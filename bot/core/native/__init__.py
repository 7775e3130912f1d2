"""The C extensions of the core, where they were built: ``_levels`` and ``_money``.

They are optional; each function stands in for the one of the same name in ``bot.core``, which is
the reference and does the work where it is None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from bot.core.events import E8, E12, Level

Apply: TypeAlias = Callable[[dict[E12, E12], list[Level], E12, bool], E12]
Hold: TypeAlias = Callable[
    [dict[E12, E12], dict[E12, E12], list[Level], list[E12]], list[E12] | None
]
Money: TypeAlias = Callable[[int, int], E8]

apply_levels: Apply | None = None
hold_marks: Hold | None = None
value_of: Money | None = None
initial: Money | None = None

try:
    from bot.core.native import _levels, _money
except ImportError:
    pass
else:
    apply_levels, hold_marks = _levels.apply_levels, _levels.hold_marks
    value_of, initial = _money.value_of, _money.initial


def available() -> bool:
    """Whether the extensions were built and can be loaded."""
    return apply_levels is not None
