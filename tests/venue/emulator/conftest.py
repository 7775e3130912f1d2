"""Where real traffic is, for the tests that compare with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def real_capture() -> Path:
    """A raw v5 capture. Skips the test where there is none."""
    folder = Path(os.environ.get("BOT_REAL_DATA", ROOT.parent / "shared" / "data"))
    path = folder / "bybit_v5_capture" / "BYBIT.jsonl.zst"
    if not path.exists():
        pytest.skip(f"no real capture at {path}; BOT_REAL_DATA names the folder with real data")
    return path
