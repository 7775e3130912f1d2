"""The README's strategy is real: it loads by dotted name and trades."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from bot import build
from bot.config import parse
from bot.core.events import BookUpdate, Fill, Instrument, Tick, Trade
from bot.core.instrument import UNIT

README = Path(__file__).parent.parent / "README.md"
SYMBOL = "linear:BTCUSDT"


def test_the_readme_strategy_loads_by_dotted_name_and_trades(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = re.search(r"```python\n# dip\.py\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "dip.py").write_text(code[1])
    monkeypatch.syspath_prepend(tmp_path)
    settings = parse(
        {
            "symbols": [SYMBOL],
            "exchange": {
                "order_latency_ms": 0,
                "response_latency_ms": 0,
                "latency_jitter_ms": 0,
            },
            "strategies": [{"use": "dip.BuyTheDip", "params": {"drop": 0.002}}],
        },
        "test",
    )
    engine = build.engine(settings)
    for event in (*build.fees(settings, 0), _rules()):
        engine.step(event)
    fills = []
    for number, mid in enumerate((100.0, 100.0, 99.7, 99.7, 100.1, 100.1), 1):
        for event in _market(number * 1_000_000, mid):
            fills += [fact for fact in engine.step(event) if isinstance(fact, Fill)]
    assert [(fill.side, fill.maker) for fill in fills] == [("Buy", False), ("Sell", False)]
    assert engine.account.qty(SYMBOL) == 0


def _rules() -> Instrument:
    return Instrument(
        0, 0, SYMBOL, "BTC", "USDT", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(5)
    )


def _market(ts: int, mid: float) -> list[BookUpdate | Trade | Tick]:
    bid, ask = round((mid - 0.05) * UNIT), round((mid + 0.05) * UNIT)
    qty = 1000 * UNIT
    book = BookUpdate(ts, ts, SYMBOL, 0, ts, ts, True, [(bid, qty)], [(ask, qty)])
    return [book, Trade(ts, ts, SYMBOL, ts, "Buy", ask, UNIT), Tick(ts)]
