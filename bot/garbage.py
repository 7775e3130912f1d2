"""How often Python looks for garbage while a run is stepped."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_COLLECT_EVERY = 20_000
"""Objects made and kept between two collections, where Python's own 700 are fewer. To look through
so many takes a millisecond, and as many more may wait for it than are garbage."""


@contextmanager
def rare_collections(every: int = _COLLECT_EVERY) -> Iterator[None]:
    """Look for it once ``every`` so many objects were made and kept.

    Stepping makes many objects and few cycles. What is there now stays, and is not looked through
    again, which would stop the loop for a tenth of a second; what comes is looked through less
    often, since most of it waits for the ledger and is no garbage.
    """
    usual = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(every, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()
