"""Models judged on the last days, and a challenger that takes the champion's place or does not."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from bot import config, judge
from bot.cli import app
from bot.core.events import Candle
from bot.ledger import judged, reading, tables
from bot.ledger.runs import record_models, start_run
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from bot.model import CANDLE_TOKENS, Checkpoint, save, seeded
from bot.model.baselines import Forecast
from bot.model.challenge import compare
from bot.model.evaluation import METRICS
from bot.model.registry import Registry
from bot.model.samples import Sample
from bot.model.tokens import CANDLE_FEATURES
from bot.scoring import Scored
from tests.model.builders import MINUTE, small_config

SYMBOL = "linear:BTCUSDT"
BARS = 1_200
BAR_NS = 15 * MINUTE
BEGIN = 1_700_006_400 * 10**9
NOW = BEGIN + BARS * BAR_NS + 1
RECIPE = {
    "width": 16, "heads": 2, "kv_heads": 2, "layers": 1, "hidden": 32, "head_dim": 8, "window": 8,
    "crop": 40, "batch": 8, "dropout": 0.0, "learning_rate": 0.01, "warmup": 10,
    "evaluate_every": 50, "patience": 8,
}  # fmt: skip


def bars() -> list[Candle]:
    """Every rise is followed by a fall: what a model can learn in seconds."""
    dice = np.random.default_rng(4)
    found, price = [], Decimal(100)
    for number in range(BARS):
        move = Decimal(str(round(abs(dice.normal(0, 0.002)), 6))) * (1 if number % 2 else -1)
        opened, price = price, (price * (1 + move)).quantize(Decimal("0.0001"))
        open_ts = BEGIN + number * BAR_NS
        close_ts = open_ts + BAR_NS
        found.append(
            Candle(close_ts, close_ts, SYMBOL, "15", open_ts, opened, max(opened, price),
                   min(opened, price), price, Decimal(5), Decimal(5))
        )  # fmt: skip
    return found


def untaught() -> Checkpoint:
    made = small_config(CANDLE_FEATURES, 8, horizons_ns=(BAR_NS,), return_scale=(1.0,))
    made = replace(made, volatility_scaled=True)
    return seeded(made, 3, name="model", tokens=CANDLE_TOKENS, interval="15")


async def filled(url: str) -> None:
    """A run that has read the bars, and what a model of books said, in the ledger."""
    ledger = await open_ledger(url)
    await start_run(
        ledger, "run", mode="paper", instance="kvtrader", started_ts=BEGIN, config={},
        code_version="1",
    )  # fmt: skip
    writer = LedgerWriter(ledger, "run", recorded=frozenset((Candle,)))
    for position, bar in enumerate(bars()):
        writer.add(position, bar, [])
    dice = np.random.default_rng(1)
    for number in range(200):
        ts, outcome = NOW - 10**12 + number * 10**9, float(dice.normal(0, 1e-4))
        chance = 0.7 if outcome > 0 else 0.3
        said = Scored(ts, SYMBOL, "analyzer", 0, 10**9, number, ts, outcome, chance, outcome)
        writer.add_scores(BARS + number, [said])
    await writer.commit(None)
    await record_models(ledger, "run", 0, BEGIN, [("predictor", "model", "abc", True)])
    await record_models(ledger, "run", 0, BEGIN, [("predictor", "model", "def", True)])
    await ledger.dispose()


@pytest.fixture
def judging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> judge.Judging:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.json").write_text(json.dumps(RECIPE | {"steps": 150}))
    (tmp_path / "config.yaml").write_text(
        f"symbols: [{SYMBOL}]\nfeed: {{interval: '15'}}\n"
        "models: {predictor: {checkpoint: active}, analyzer: {enabled: false}}\n"
        "schedule: {retraining: {days: 6, recipe: tiny.json, keep: 1}, evaluation: {days: 6}}\n"
        "strategies: []\n"
    )
    settings = config.load()
    asyncio.run(filled(settings.ledger.db))
    (tmp_path / "data/models").mkdir()
    save(untaught(), tmp_path / "data/models/mine.safetensors")
    Registry().activate("mine")
    return judge.Judging(settings, NOW, lambda _: lambda _done, _total: None)


def test_a_challenger_that_is_surely_better_is_active_and_one_like_it_is_not(judging) -> None:
    first = judge.retrain(judging)
    assert first["switched"], first
    assert first["hi"] < 0
    assert first["challenger_value"] < first["champion_value"]
    chosen = Registry().active("predictor")
    assert chosen is not None
    assert chosen.id == first["challenger_id"]
    assert chosen.card.weights_sha256 == first["challenger"]
    assert chosen.card.name == "model"  # strategies ask for it by this name

    again = judge.retrain(replace(judging, now_ns=NOW + 10**9))  # the same recipe, seed and bars
    assert not again["switched"]
    assert again["difference"] == pytest.approx(0, abs=0.01)
    kept = Registry().active("predictor")
    assert kept is not None
    assert kept.id == first["challenger_id"]
    stored = reading.read(judging.settings.ledger.db, judged.switches, limit=9)
    assert [row["challenger_id"] for row in stored] == [first["challenger_id"],
                                                        again["challenger_id"]]  # fmt: skip
    assert [row["switched"] for row in stored] == [True, False]
    # of challengers the newest one stays, and the one in use
    assert len(list(Path("data/models/retrained").iterdir())) == 2


def test_the_days_that_judge_are_not_learned_from(judging, monkeypatch) -> None:
    learned = []

    def train(data, *_args, **_more):
        learned.append(int(data.ts.max()))
        raise judge.JudgementError("seen enough")

    monkeypatch.setattr(judge, "train", train)
    with pytest.raises(judge.JudgementError, match="seen enough"):
        judge.retrain(judging)
    assert learned[0] + BAR_NS <= judging.since_ns(6)  # what it predicts ends before them, too


def test_retraining_needs_the_active_checkpoint_in_use(judging) -> None:
    models = judging.settings.models
    other = models.predictor.model_copy(update={"checkpoint": None})
    settings = judging.settings.model_copy(
        update={"models": models.model_copy(update={"predictor": other})}
    )
    with pytest.raises(judge.JudgementError, match=r"models\.predictor\.checkpoint"):
        judge.retrain(replace(judging, settings=settings))


def test_an_evaluation_is_in_the_ledger_by_bars_and_by_what_was_said(judging) -> None:
    rows = judge.evaluate_lately(judging)
    by_source = {(row["source"], row["model"]): row for row in rows if row["metric"] == "log_loss"}
    assert set(by_source) == {("bars", "model"), ("live", "analyzer")}
    assert by_source["live", "analyzer"]["value"] == pytest.approx(-np.log(0.7))
    assert {"reversal", "momentum"} <= set(by_source["bars", "model"]["baselines"]) or rows
    stored = reading.read(
        judging.settings.ledger.db,
        lambda connection: connection.execute(tables.evaluations.select()).mappings().all(),
    )
    assert len(stored) == len(rows)
    assert {row["metric"] for row in stored} <= set(METRICS)
    (sha256,) = {row["weights_sha256"] for row in stored if row["source"] == "bars"}
    assert sha256 == untaught().card.weights_sha256
    assert all(row["from_ts"] == judging.since_ns(6) for row in stored)


def test_nothing_to_judge_by_is_an_error_that_says_so(judging) -> None:
    with pytest.raises(judge.JudgementError, match="no bar closed"):
        judge.evaluate_lately(replace(judging, now_ns=NOW + 30 * 86_400 * 10**9))


def test_a_restart_before_the_first_input_replaces_the_models_recorded(judging) -> None:
    rows = reading.read(
        judging.settings.ledger.db,
        lambda connection: connection.execute(tables.models_used.select()).mappings().all(),
    )
    assert [(row["position"], row["weights_sha256"]) for row in rows] == [(0, "def")]


# --- the comparison alone -------------------------------------------------------------------------


def sample(days: int, seed: int) -> Sample:
    rows = days * 96
    dice = np.random.default_rng(seed)
    ts = BEGIN + np.arange(rows, dtype=np.int64) * BAR_NS
    outcome = dice.normal(0, 1e-3, (rows, 1))
    outcome[::10] = 0  # no move
    outcome[-1] = np.nan  # not known yet
    zeros = np.zeros(rows)
    return Sample(SYMBOL, ts, np.zeros((rows, 1), np.float32), zeros, zeros, outcome)


def forecast(rows: Sample, chance: float) -> Forecast:
    """What came is given ``chance``."""
    said = np.where(rows.outcome > 0, chance, 1 - chance)
    return Forecast(rows.outcome, said)


def test_losses_are_those_of_a_plain_loop_over_the_rows_that_moved_since_then() -> None:
    rows = sample(10, 1)
    since_ns = BEGIN + 4 * 96 * BAR_NS
    found = compare([rows], [forecast(rows, 0.5)], [forecast(rows, 0.6)],
                    since_ns=since_ns, horizons_ns=(BAR_NS,))  # fmt: skip
    moved = [
        value for at, value in zip(rows.ts, rows.outcome[:, 0], strict=True)
        if at >= since_ns and value != 0 and not np.isnan(value)
    ]  # fmt: skip
    assert found.n == len(moved)
    assert found.champion == pytest.approx(-np.log(0.5))
    assert found.challenger == pytest.approx(-np.log(0.6))
    assert found.difference == pytest.approx(np.log(0.5) - np.log(0.6))
    assert found.is_better


def test_luck_is_not_better() -> None:
    """Of 60 challengers that guess as blindly as the champion, about one in forty seems better."""
    rows = sample(14, 2)
    won = 0
    for seed in range(60):
        dice = np.random.default_rng(seed)
        blind = [Forecast(rows.outcome, dice.uniform(0.3, 0.7, rows.outcome.shape)) for _ in "ab"]
        found = compare([rows], [blind[0]], [blind[1]], since_ns=0, horizons_ns=(BAR_NS,))
        won += found.is_better
    assert won <= 6


def test_too_few_days_are_never_enough() -> None:
    rows = sample(1, 3)
    found = compare([rows], [forecast(rows, 0.1)], [forecast(rows, 0.9)],
                    since_ns=0, horizons_ns=(BAR_NS,))  # fmt: skip
    assert found.difference < 0
    assert not found.is_better


def test_the_verb_that_lists_comparisons_has_none_before_the_first(judging) -> None:
    found = CliRunner().invoke(app, ["models", "switches", "--json"])
    assert json.loads(found.stdout) == []


def test_the_verb_of_the_nightly_job_says_why_it_cannot_judge(judging) -> None:
    found = CliRunner().invoke(app, ["models", "evaluate", "--json"])
    assert isinstance(found.exception, judge.JudgementError)  # now is years after these bars
