"""Training: it learns what is there, goes on where it stopped, and refuses what cannot be."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from msgspec.structs import replace

from bot.kvcache import KVCacheManager
from bot.model import CheckpointError, load, seeded
from bot.model.checkpoint import at_interval
from bot.model.crops import Crops, predicted
from bot.model.dataset import Dataset, DatasetError, Series, candle_segments, join, save_dataset
from bot.model.recipe import Recipe, RecipeError, recipe_of
from bot.model.resume import ResumeError
from bot.model.tokens import CANDLE_FEATURES, Bars
from bot.model.training import TrainingError, main, train
from tests.model.builders import MINUTE, START

RECIPE = Recipe(
    width=16, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=32, window=8, crop=40, batch=8,
    steps=30, warmup=5, evaluate_every=10, report_every=5, horizons=(1, 2), average=0.9,
    learning_rate=5e-3,
)  # fmt: skip


def reversing(interval: int = 5, count: int = 900, seed: int = 0, fold: float = 0.7) -> Dataset:
    """Two symbols whose bars give back ``fold`` of the move before."""
    parts = []
    for number, name in enumerate(("AAA", "BBB")):
        dice = np.random.default_rng(seed + number)
        moves = dice.normal(0, 1e-3, count)
        for index in range(1, count):
            moves[index] -= fold * moves[index - 1]
        close = 100 * np.exp(moves.cumsum())
        opened = np.append(100.0, close[:-1])
        bars = Bars(
            START - START % (interval * MINUTE) + np.arange(count) * interval * MINUTE,
            opened,
            np.maximum(opened, close) * 1.0001,
            np.minimum(opened, close) * 0.9999,
            close,
            dice.gamma(2, 100, count),
            np.full(count, np.nan),
        )
        parts += candle_segments(Series(f"linear:{name}USDT", str(interval)), bars)
    return join(parts, kind="candles", venue="made", sources={"made": "0"})


DATA = reversing()


def test_it_learns_a_reversal_and_the_card_says_what_it_learnt_from(tmp_path: Path) -> None:
    seen: list[int] = []
    made = train(DATA, RECIPE, tmp_path, progress=lambda step, _steps, _figures: seen.append(step))
    assert made.card.metrics["test_ic_1"] > 0.4
    assert seen[-1] == 30
    found = load(tmp_path / "predictor.safetensors")
    assert found.card == made.card
    assert found.card.trained
    assert found.card.venue == "made"
    assert found.card.training["dataset"]["sha256"] == DATA.sha256()
    assert found.card.config.volatility_scaled
    lines = (tmp_path / "run.jsonl").read_bytes().splitlines()
    events = [msgspec.json.decode(line) for line in lines]
    assert [entry["event"] for entry in events] == ["start", *["evaluation"] * 3, "end"]
    assert "polyline" in (tmp_path / "curve.svg").read_text()


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path: Path) -> None:
    short = replace(RECIPE, steps=6, evaluate_every=3)
    hashes = [
        train(DATA, recipe, tmp_path / str(number)).card.weights_sha256
        for number, recipe in enumerate((short, short, replace(short, seed=2)))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = replace(RECIPE, steps=8, evaluate_every=4, dropout=0.2)
    expected = train(DATA, whole, tmp_path / "whole")
    stopped = tmp_path / "stopped"

    def stop(step: int, _steps: int, figures: dict[str, float]) -> None:
        if step == 4 and "ic" in figures:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(DATA, whole, stopped, progress=stop)
    found = train(DATA, whole, stopped, resume=True)
    assert found.card.weights_sha256 == expected.card.weights_sha256


def test_a_resume_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="nothing to resume"):
        train(DATA, RECIPE, tmp_path, resume=True)
    train(DATA, replace(RECIPE, steps=2), tmp_path)
    with pytest.raises(ResumeError, match="other data"):
        train(reversing(seed=5), RECIPE, tmp_path, resume=True)
    with pytest.raises(ResumeError, match="another recipe"):
        train(DATA, replace(RECIPE, dropout=0.5), tmp_path, resume=True)


def test_what_cannot_be_trained_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no row for training"):
        train(reversing(count=30), replace(RECIPE, horizons=(25,)), tmp_path)
    with pytest.raises(RecipeError, match="must lie behind the first row"):
        train(DATA, replace(RECIPE, train_end="2001-01-01"), tmp_path)
    with pytest.raises(TrainingError, match="lower learning_rate"):
        train(DATA, replace(RECIPE, learning_rate=1e30, clip=1e30), tmp_path)


def test_a_recipe_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    for text, said in (
        ('{"widht": 3}', "widht"),
        ('{"crop": 10}', "crop 10 must be longer"),
        ('{"horizons": [1], "horizon_weights": [1, 2]}', "2 horizon_weights for 1 horizons"),
    ):
        path.write_text(text)
        with pytest.raises(RecipeError, match=said):
            recipe_of(path)
    assert recipe_of(Path("small")).layers == 2


def test_rows_are_predicted_as_streaming_would_whatever_the_pieces() -> None:
    config = RECIPE.model(
        features=CANDLE_FEATURES,
        horizons_ns=(1, 2),
        return_scale=(1.0, 1.0),
        volatility_scaled=True,
    )
    model = seeded(config, 3, name="m", tokens="candle-2").model
    part = np.zeros(len(DATA), dtype=bool)
    part[400:500] = part[1200:1240] = True
    tokens = torch.from_numpy(DATA.tokens)
    rows, raw = predicted(model, tokens, DATA, part, batch=2, length=30)
    assert rows.tolist() == np.flatnonzero(part).tolist()
    cache = KVCacheManager(1 << 20, slab_bytes=1 << 14).anonymous(
        config.cache_spec(kv_cache_dtype="float32")
    )
    with torch.inference_mode():
        steps = model.step(tokens[:500], cache)
    assert torch.allclose(raw[:100], steps[400:], atol=1e-4)


def test_a_crop_counts_only_rows_with_their_context_and_of_its_part() -> None:
    part = np.zeros(len(DATA), dtype=bool)
    part[:300] = part[950:1000] = True
    crops = Crops(DATA, part, length=40, burn_in=7, seed=1)
    hit = np.zeros(len(DATA), dtype=bool)
    for step in range(200):
        rows, counts, position = crops.at(step, 8)
        assert part[rows[counts]].all()
        inner = counts[:, :7].any(1)
        assert np.isin(rows[inner, 0], DATA.starts).all()
        assert 0 <= position < 1 << 20
        hit[rows[counts]] = True
    assert (hit == part).all()


def test_one_model_serves_the_intervals_that_it_was_trained_for(tmp_path: Path) -> None:
    both = [reversing(5), reversing(15)]
    parts = [
        segment
        for data, interval in zip(both, ("5", "15"), strict=True)
        for segment in candle_segments(Series("linear:AAAUSDT", interval), _bars(data))
    ]
    data = join(parts, kind="candles", venue="made", sources={})
    made = train(data, replace(RECIPE, steps=2), tmp_path)
    assert set(made.card.intervals) == {"5", "15"}
    for interval in ("5", "15"):
        card = at_interval(made, interval).card
        assert card.config.horizons_ns == (
            int(interval) * MINUTE,
            2 * int(interval) * MINUTE,
        )
    with pytest.raises(CheckpointError, match="not of 60"):
        at_interval(made, "60")


def _bars(data: Dataset) -> Bars:
    end = int(data.starts[1])
    price = data.price[:end]
    step = int(data.ts[1] - data.ts[0])
    return Bars(
        data.ts[:end] - step, price, price * 1.001, price * 0.999, price,
        np.ones(end), np.full(end, np.nan),
    )  # fmt: skip


def test_it_trains_alone_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_dataset(DATA, tmp_path / "rows.npz", half=True)
    (tmp_path / "recipe.json").write_bytes(msgspec.json.encode(replace(RECIPE, steps=5)))
    words = ["--dataset", str(tmp_path / "rows.npz"), "--config", str(tmp_path / "recipe.json")]
    main([*words, "--out", str(tmp_path / "out"), "--seed", "7"])
    assert load(tmp_path / "out" / "predictor.safetensors").card.seed == 7
    out, told = capsys.readouterr()
    assert "valid_loss" in msgspec.json.decode(out)
    assert "step 5/5" in told
    with pytest.raises(SystemExit, match=r"error: .*cannot be read"):
        main(["--dataset", str(tmp_path / "none.npz"), "--out", str(tmp_path / "out")])
