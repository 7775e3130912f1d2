"""`bot evaluate`, from files to rows and page."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from bot import config, evaluate_caches
from bot import evaluate as evaluating
from bot.cli import app
from bot.core.errors import PlainError
from bot.core.events import BookUpdate, Candle
from bot.evaluate import Evaluation, Options, evaluate
from bot.kvcache import KVCacheManager
from bot.model import CANDLE_TOKENS, Checkpoint, RealTimePricePredictor, save, seeded
from bot.model.evaluation import METRICS, Subject
from bot.model.samples import samples
from bot.model.streamed import Running, predict
from bot.model.tokens import CANDLE_FEATURES
from bot.research import evaluation_page
from bot.research.baselines import fit
from bot.venue.archive_candles import read_candles
from bot.venue.archive_text import Damage, Place
from tests.model.builders import MINUTE, SYMBOL, small_config
from tests.venue.real_data import real

MINUTES = 9 * 24 * 60
BEGIN = 1_700_006_400_000


def checkpoint() -> Checkpoint:
    made = small_config(
        CANDLE_FEATURES, 12, horizons_ns=(MINUTE, 5 * MINUTE), return_scale=(5e-4, 1e-3)
    )
    return seeded(made, 3, name="model", tokens=CANDLE_TOKENS, interval="1")


def quiet(_: str) -> object:
    return lambda _done, _total: None


def table(path: Path, rows: int = MINUTES, seed: int = 1, minutes: int = 1) -> Path:
    """Bars of a price that takes back a little of each move."""
    dice = random.Random(seed)
    lines = ["ts_ms,open,high,low,close,volume"]
    price, move = 100.0, 0.0
    for bar in range(rows):
        opened = price
        move = dice.gauss(-0.2 * move, 0.0005)
        price *= 1 + move
        high, low = max(opened, price) * 1.0001, min(opened, price) * 0.9999
        numbers = f"{opened:.4f},{high:.4f},{low:.4f},{price:.4f},{dice.randint(1, 99)}"
        lines.append(f"{BEGIN + bar * minutes * 60_000},{numbers}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two symbols' candles, and a small model with its baselines fitted on other candles."""
    made = tmp_path_factory.mktemp("evaluate")
    (made / "data").mkdir()
    table(made / "data" / "linear_BTCUSDT_1m.csv")
    table(made / "data" / "linear_ETHUSDT_1m.csv", seed=2)
    horizons = checkpoint().card.config.horizons_ns
    save(checkpoint(), made / "model.safetensors")
    earlier = table(made / "earlier.csv", seed=3)
    learned = samples(
        read_candles(Place(earlier, Damage()), SYMBOL, "1", 0),
        tokens=CANDLE_TOKENS, interval="1", horizons_ns=horizons,
    )  # fmt: skip
    fit(learned, made / "model.safetensors", tokens=CANDLE_TOKENS, trees=False,
        horizons_ns=horizons,
        quantiles=checkpoint().card.config.quantiles)  # fmt: skip
    return made


def evaluated(folder: Path, **more: object) -> Evaluation:
    options = Options(folder / "data", checkpoint=folder / "model.safetensors", **more)  # type: ignore[arg-type]
    return evaluate(config.Settings(), options, quiet)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found(folder: Path) -> Evaluation:
    return evaluated(folder)


def test_every_symbol_horizon_and_metric_has_its_row_with_intervals_and_differences(
    found: Evaluation,
) -> None:
    keys = [(row["symbol"], row["horizon"], row["metric"]) for row in found.rows]
    assert len(keys) == len(set(keys)) == 3 * 2 * len(METRICS)
    assert {symbol for symbol, _, _ in keys} == {"linear:BTCUSDT", "linear:ETHUSDT", "all"}
    for row in found.rows:
        assert set(row["baselines"]) == {"reversal", "momentum", "linear"}
        assert row["lo"] <= row["value"] <= row["hi"]
        for told in row["baselines"].values():
            gap = told["difference"]
            assert gap["value"] == pytest.approx(row["value"] - told["value"])
            assert gap["lo"] <= gap["value"] <= gap["hi"]
            assert ("dm" in told) == (row["metric"] in ("log_loss", "pinball"))


def test_a_rule_that_the_data_follow_is_found_and_the_untrained_model_is_said_to_lose(
    found: Evaluation,
) -> None:
    (row,) = [
        row for row in found.rows
        if (row["symbol"], row["horizon"], row["metric"]) == ("all", 60.0, "daily_rank_ic")
    ]  # fmt: skip
    assert row["baselines"]["reversal"]["lo"] > 0.15
    assert row["baselines"]["reversal"]["difference"]["hi"] < 0
    verdict = evaluation_page.verdict(found.checkpoint.card, found.rows)
    assert "does NOT beat the baselines" in verdict
    assert any("UNTRAINED" in note for note in found.notes)


def test_rows_of_one_minute_do_not_overlap_and_of_five_every_fifth_counts(
    found: Evaluation,
) -> None:
    counts = {
        row["horizon"]: (row["n"], row["n_independent"])
        for row in found.rows
        if row["symbol"] == "linear:BTCUSDT"
    }
    assert counts == {
        60.0: (MINUTES - 1, MINUTES - 1),
        300.0: (MINUTES - 5, -(-(MINUTES - 5) // 5)),
    }


def test_the_same_rows_give_the_same_numbers(folder: Path, found: Evaluation) -> None:
    assert msgspec.json.encode(evaluated(folder).rows) == msgspec.json.encode(found.rows)


def test_the_predictor_that_ships_says_the_same_of_the_same_rows_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "linear_BTCUSDT_5m.csv", rows=900, minutes=5)
    words = ["evaluate", "--data", "linear_BTCUSDT_5m.csv", "--json"]
    first, again = (CliRunner().invoke(app, words) for _ in range(2))
    assert first.exit_code == again.exit_code == 0, first.output
    assert first.stdout == again.stdout
    rows = {(row["horizon"], row["metric"]): row for row in json.loads(first.stdout)}
    assert {metric for _, metric in rows} == set(METRICS)
    told = rows[300.0, "rank_ic"]
    assert (told["model"], told["n"]) == ("predictor", 899)
    assert set(told["baselines"]) == {"reversal", "momentum", "linear", "boosted_trees"}


def test_rows_before_the_beginning_are_context_only(folder: Path) -> None:
    since = (BEGIN + 6 * 86_400_000) * 10**6
    later = evaluated(folder, since_ns=since, symbol="linear:BTCUSDT")
    assert {row["symbol"] for row in later.rows} == {"linear:BTCUSDT"}
    assert {row["n"] for row in later.rows if row["horizon"] == 60} == {3 * 1440}


def test_the_model_says_what_a_live_forecaster_says(folder: Path) -> None:
    candles: list[Candle] = list(
        read_candles(Place(folder / "data" / "linear_BTCUSDT_1m.csv", Damage()), SYMBOL, "1", 0)
    )[:200]
    model = checkpoint()
    (sample,) = samples(
        candles, tokens=CANDLE_TOKENS, interval="1", horizons_ns=model.card.config.horizons_ns
    )
    said = predict(model, sample, Running())
    live = RealTimePricePredictor(model, KVCacheManager(1 << 22, slab_bytes=1 << 16), SYMBOL)
    for row, event in enumerate(candles):
        live.take(event, row)
        prediction = live.predict()
        assert prediction is not None
        for index, horizon in enumerate(prediction.horizons):
            scale = model.card.config.return_scale[index]
            near = model.card.tolerance * scale
            assert said.expected[row, index] == pytest.approx(horizon.expected_return, abs=near)
            assert said.chance is not None
            assert said.quantiles is not None
            assert said.chance[row, index] == pytest.approx(horizon.up_probability, abs=0.005)
            assert said.quantiles[row, index] == pytest.approx(horizon.quantiles, abs=near)


def test_the_page_stands_alone_and_says_first_who_won(
    folder: Path, found: Evaluation, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    evaluation_page.write(
        page, found.checkpoint.card, found.subjects, found.rows, notes=found.notes, cost=0.0005
    )
    text = page.read_text()
    body = text.partition("</style>")[2]
    assert body.lstrip().startswith('<p class="verdict">model does NOT beat the baselines')
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"(?:src|href)=|url\(|<script", text)
    assert text.count("<svg") == 3 * 2 * 3  # subjects, horizons, plots
    assert "nan" not in body.lower().replace("finance", "")


def test_the_caches_are_held_against_the_exact_one(folder: Path) -> None:
    options = Options(folder / "data", symbol="linear:BTCUSDT",
                      checkpoint=folder / "model.safetensors")  # fmt: skip
    rows = evaluate_caches.costs(config.Settings(), options, quiet, windows=(12, 24))  # type: ignore[arg-type]
    by_kind = {
        (row["window"], row["kv_cache_dtype"], row["weight_dtype"]): row
        for row in rows
        if row["horizon"] == 60
    }
    exact = by_kind[12, "float32", "float32"]
    assert exact["direction_kl"] == 0
    assert exact["direction_agreement"] == 1
    kinds = ("int8", "k8v4", "int4")
    kls = [by_kind[12, kind, "float32"]["direction_kl"] for kind in kinds]
    assert 0 < kls[0] < kls[1] < kls[2]
    assert by_kind[24, "float32", "float32"]["nbytes"] == 2 * exact["nbytes"]
    assert by_kind[12, "int8", "float32"]["rank_ic"] == pytest.approx(exact["rank_ic"], abs=0.01)


def test_divergence_is_that_of_two_coins() -> None:
    p, q = np.array([0.5]), np.array([0.25])
    expected = 0.5 * np.log(2) + 0.5 * np.log(0.5 / 0.75)
    assert evaluate_caches.divergence(p, q)[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"interval": "5"}, "reads candles of 1"),
        ({"symbol": "linear:XRPUSDT"}, "holds no candles of interval 1"),
        ({"since_ns": 2 * 10**18}, "no row has an outcome"),
    ],
)
def test_what_cannot_be_evaluated_is_told_in_one_line(folder: Path, more: dict, said: str) -> None:
    with pytest.raises(PlainError, match=said):
        evaluated(folder, **more)


def test_a_capture_of_order_books_is_evaluated_too(real_capture: Path) -> None:
    found = evaluate(config.Settings(), Options(real_capture, symbol="DOGEUSDT"), quiet)  # type: ignore[arg-type]
    (row,) = [row for row in found.rows if row["horizon"] == 1.0 and row["metric"] == "rank_ic"]
    assert row["n"] > 300
    assert row["baselines"]["imbalance"]["value"] > 0.1
    json.dumps(found.rows)


def test_the_books_of_a_binance_recording_are_read() -> None:
    data = real("binance_l2/usdm_ethusdt_20240718.gz")
    options = Options(data, repair=True)
    events = evaluating._events(options, "", of_candles=False)
    first = next(event for event in events if isinstance(event, BookUpdate))
    assert first.symbol == "linear:ETHUSDT"


def test_rows_that_a_model_learned_from_are_told() -> None:
    made = checkpoint()
    ts = np.arange(1, 5, dtype=np.int64) * 10**9
    subject = Subject("all", ts, np.zeros(4, np.int64), np.ones((4, 2)), {})
    for end, said in ((0, []), (3 * 10**9, ["2 of 4 rows lie before 1970-01-01T00:00:03"])):
        card = replace(made.card, training={"split": {"valid_end": end}})
        notes = evaluating._overlap(card, [subject])
        assert [note.partition(",")[0] for note in notes] == said
