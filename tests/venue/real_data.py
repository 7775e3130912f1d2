"""Where real market data lies, for the tests that hold the code against it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def real(name: str) -> Path:
    """A file or folder of the real data, or a skip that says what is missing."""
    here = Path(__file__).resolve().parents[2]
    root = Path(os.environ.get("BOT_REAL_DATA", here.parent / "shared" / "data"))
    path = root / name
    if not path.exists():
        pytest.skip(f"no real market data at {path} (set BOT_REAL_DATA)")
    return path
