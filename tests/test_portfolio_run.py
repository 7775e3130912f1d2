"""A portfolio in a paper run on the local venue: weights, orders, and the same from its journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import bot, told

CONFIG = """\
symbols: [linear:BTCUSDT, linear:ETHUSDT]
models:
  predictor: {enabled: false}
  analyzer: {enabled: false}
  portfolio: {enabled: true, own_tokens: 16}
strategies:
  - {use: strategies.portfolio.Portfolio, params: {band: 0.0}}
"""


@pytest.mark.nightly
def test_a_paper_run_trades_the_weights_and_its_replay_does_the_same(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    run = told(bot("paper", "--venue", "local", "--for", "8s", "--json", cwd=tmp_path))
    assert run["predictions"] >= 2  # a weight for each symbol, from the history alone
    assert run["orders"] >= 1
    assert run["untrained"] == []
    again = told(bot("replay", run["journal"], "--verify", "--json", cwd=tmp_path))
    assert again["digest"] == run["digest"]
    made = told(bot("replay", run["journal"], "--predictions", "recompute", "--json", cwd=tmp_path))
    assert made["deviation"]["portfolio"]["ok"]
    assert made["recomputed"] >= 2
