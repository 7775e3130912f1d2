"""A plan carried out on a small market: every part lies in its place; a stopped one goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from bot.model.baselines import load_baselines
from bot.model.checkpoint import load
from bot.model.dataset import Dataset, parts_of
from bot.model.recipe import Recipe, split_of
from bot.model.registry import Registry
from bot.model.tokens import mirror_of
from bot.research.teaching.candle_trees import candle_inputs, candle_odds
from bot.research.teaching.distil import distil, trees_part
from bot.research.teaching.plans import PLANS, Plan
from tests.model.test_training import RECIPE, reversing

DATA = reversing(count=240)
SMALL = replace(RECIPE, steps=4, evaluate_every=2)


def reversal(
    data: Dataset, _horizons: tuple[int, ...], _part: object, out: Path, _say: Callable[[str], None]
) -> Path:
    """Says the opposite of the last bar."""
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "odds.npy", np.repeat(-data.tokens[:, 3:4, None], 2, axis=2))
    return out / "odds.npy"


PLAN = Plan(
    (SMALL, replace(SMALL, seed=2)),
    replace(SMALL, monitor="imitation", seed=3, mirror=0.5),
    reversal,
    0.5,
    "train_end",
)


def test_a_plan_is_carried_out_and_taken_up_again(tmp_path: Path) -> None:
    said: list[str] = []
    made = distil(DATA, PLAN, tmp_path, say=said.append)
    found = load(tmp_path / "predictor.safetensors")
    assert found.card == made.card
    assert found.card.inputs is not None
    digest = found.card.training["teachers"]
    taught_by = [load(tmp_path / f"teacher{n}" / "predictor.safetensors").card for n in (1, 2)]
    assert digest[:2] == [card.weights_sha256 for card in taught_by]
    assert digest[2].startswith("odds ")
    assert load_baselines(tmp_path / "predictor.safetensors") is not None
    assert [text for text in said if text.startswith("teacher")] == [
        "teacher 1 of 2", "teacher 2 of 2"
    ]  # fmt: skip
    said.clear()
    again = distil(DATA, PLAN, tmp_path, say=said.append)
    assert again.card.weights_sha256 == made.card.weights_sha256
    assert not [text for text in said if text.startswith("teacher")]


def test_trees_never_see_a_row_whose_outcome_reaches_beyond_their_end() -> None:
    split = split_of(PLAN.student, DATA)
    assert np.array_equal(trees_part(DATA, PLAN), parts_of(DATA, split)[0])
    wider = trees_part(DATA, replace(PLAN, trees_until="valid_end"))
    assert DATA.ts[wider].max() < split.valid_end - split.embargo_ns + 1
    assert wider.sum() > trees_part(DATA, PLAN).sum()


def test_trees_of_candles_read_the_past_and_its_mirror_image() -> None:
    places, signs = mirror_of(DATA.token_kind)
    turned = replace(DATA, tokens=DATA.tokens[:, list(places)] * np.float32(signs))
    upright, mirrored = candle_inputs(DATA)
    assert np.array_equal(candle_inputs(turned)[0], mirrored)
    later = replace(DATA, tokens=np.where(np.arange(len(DATA))[:, None] > 50, 9, DATA.tokens))
    assert np.array_equal(candle_inputs(later)[0][:51], upright[:51])


def test_the_plans_are_those_on_the_cards_that_ship() -> None:
    for name, plan in PLANS.items():
        card = Registry().find(name).card
        assert msgspec.convert(card.training["recipe"], type=Recipe) == plan.student
        assert len(card.training["teachers"]) == len(plan.teachers) + 1


def test_four_fits_speak_for_each_horizon_of_candles(tmp_path: Path) -> None:
    part = np.arange(len(DATA)) % 240 < 160
    odds = np.load(candle_odds(DATA, (1,), part, tmp_path))
    assert odds.shape == (len(DATA), 1, 2)
    assert len(list(tmp_path.glob("*.lgb.txt"))) == 4
