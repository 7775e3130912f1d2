"""A student is taught what teachers say: upright and upside down, and others by their share."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from msgspec.structs import replace

from bot.model.dataset import parts_of
from bot.model.lesson import LessonError, Teachers, flat, lesson_of, upside_down
from bot.model.recipe import split_of
from bot.model.tokens import CANDLE_FEATURES, mirror_of
from bot.model.training import train
from bot.model.transformer import CausalTransformer, initialize
from tests.model.builders import small_config
from tests.model.test_training import DATA, RECIPE

TOKENS = torch.from_numpy(DATA.tokens)
TAUGHT = np.arange(len(DATA)) < 60  # the first rows of the first symbol


def teacher(seed: int, **changes: object) -> CausalTransformer:
    model = CausalTransformer(small_config(CANDLE_FEATURES, 8, **changes))
    initialize(model, seed)
    return model.requires_grad_(requires_grad=False)


def test_what_is_taught_is_the_mean_of_all_teachers_upright_and_upside_down() -> None:
    teachers = [teacher(1), teacher(2)]
    places, signs = mirror_of(DATA.token_kind)
    x = TOKENS[:60]
    turned = x[:, list(places)] * torch.tensor(signs)
    said = [flat(model.outputs(model(x))) for model in teachers]
    said += [upside_down(flat(model.outputs(model(turned)))) for model in teachers]
    lesson = lesson_of(teachers, DATA, TOKENS, TAUGHT)
    assert torch.allclose(lesson.said[:60], torch.stack(said).mean(0), atol=1e-5)
    assert not lesson.said[60:].any()  # nothing is said of rows that are not taught


def test_upside_down_twice_is_upright_and_quantiles_keep_rising() -> None:
    said = lesson_of([teacher(1)], DATA, TOKENS, TAUGHT).said[:60]
    assert torch.equal(upside_down(upside_down(said)), said)
    assert (upside_down(said)[..., 2:].diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_others_count_for_their_share(share: float) -> None:
    models = [teacher(1)]
    odds = np.random.default_rng(3).normal(0, 7, (len(DATA), 1, 2)).astype(np.float32)
    before = lesson_of(models, DATA, TOKENS, TAUGHT).said[:60]
    after = lesson_of(models, DATA, TOKENS, TAUGHT, odds=odds, share=share).said[:60]
    told = torch.from_numpy(odds[:60, 0])
    score = (told[:, 0] - told[:, 0].mean()) / told[:, 0].std()
    alone = score * before[:, 0, 0].std() + before[:, 0, 0].mean()
    mixed = (1 - share) * before[:, 0] + share * torch.stack(
        (alone, told[:, 1], *(before[:, 0, 2:] + (alone - before[:, 0, 0]).unsqueeze(-1)).T), -1
    )
    assert torch.allclose(after[:, 0], mixed, atol=1e-4)
    assert torch.equal(after[:, 1], before[:, 1])  # a horizon of which they say nothing


def test_a_student_comes_near_its_teachers_and_its_card_names_them(tmp_path: Path) -> None:
    made = train(DATA, RECIPE, tmp_path / "teacher")
    path = tmp_path / "teacher" / "predictor.safetensors"
    recipe = replace(RECIPE, monitor="imitation", seed=2, mirror=0.5)
    student = train(DATA, recipe, tmp_path / "student", teachers=Teachers((path,)))
    lines = (tmp_path / "student" / "run.jsonl").read_bytes().splitlines()
    apart = [entry["imitation"] for entry in map(msgspec.json.decode, lines) if "ic" in entry]
    assert apart[-1] < apart[0]
    assert student.card.training["teachers"] == [made.card.weights_sha256]
    assert student.card.metrics["test_ic_1"] > 0.4
    assert parts_of(DATA, split_of(recipe, DATA))[2].any()


def test_teachers_that_do_not_fit_each_other_or_the_rows_are_refused(tmp_path: Path) -> None:
    for wrong, why in (
        ([], "at least one"),
        ([teacher(1), teacher(1, horizons_ns=(1_000, 6_000))], "different horizons"),
        ([teacher(1), teacher(1, return_scale=(1e-4, 3e-4))], "different rows"),
        ([teacher(1, quantiles=(0.1, 0.5, 0.8))], "not symmetric"),
    ):
        with pytest.raises(LessonError, match=why):
            lesson_of(wrong, DATA, TOKENS, TAUGHT)
    with pytest.raises(LessonError, match="rows of log-odds"):
        lesson_of([teacher(1)], DATA, TOKENS, TAUGHT, odds=np.zeros((3, 1, 2), np.float32))
    with pytest.raises(LessonError, match="no log-odds can be read"):
        Teachers((), tmp_path / "none.npy").load()
