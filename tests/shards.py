"""Long tests in parts, which pytest-xdist spreads over the cores of a machine."""

from __future__ import annotations

import pytest


def shards(total: int, parts: int) -> pytest.MarkDecorator:
    """``total`` seeds in ``parts`` tests of a few minutes; each is given its ``seeds``."""
    size, left = divmod(total, parts)
    assert not left
    ranges = [range(start, start + size) for start in range(0, total, size)]
    return pytest.mark.parametrize(
        "seeds", ranges, ids=[f"{each.start}-{each.stop - 1}" for each in ranges]
    )
