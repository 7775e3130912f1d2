"""A plan carried out: trees, teachers, a student, and the baselines beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from bot.model.checkpoint import Card, Checkpoint, read_card, save
from bot.model.dataset import Dataset, parts_of
from bot.model.drift import input_shares
from bot.model.lesson import Teachers
from bot.model.recipe import Recipe, split_of
from bot.model.samples import samples_of
from bot.model.training import Progress, train
from bot.research import baselines
from bot.research.teaching.plans import Plan

Say = Callable[[str], None]


def distil(
    data: Dataset,
    plan: Plan,
    out: Path,
    *,
    code_version: str = "",
    say: Say = lambda _: None,
    progress: Progress = lambda _step, _steps, _figures: None,
) -> Checkpoint:
    """Fit the trees, train the teachers and the student, fit the baselines; all lie in ``out``.

    A teacher that is there already, of the same recipe and dataset, is not trained again, so a
    plan that was stopped goes on. Raises as ``train`` does.
    """
    student = plan.student
    part = trees_part(data, plan)
    odds = plan.odds(data, student.horizons, part, out / "trees", say)
    found = []
    for number, recipe in enumerate(plan.teachers, 1):
        folder = out / f"teacher{number}"
        found.append(folder / f"{recipe.name}.safetensors")
        if _is_there(found[-1], recipe, data):
            continue
        say(f"teacher {number} of {len(plan.teachers)}")
        train(data, recipe, folder, progress=progress, code_version=code_version)
    say("student")
    made = train(
        data, student, out, progress=progress, code_version=code_version,
        teachers=Teachers(tuple(found), odds, plan.share),
    )  # fmt: skip
    learned = parts_of(data, split_of(student, data))[0]
    made = Checkpoint(replace(made.card, inputs=input_shares(data.tokens[learned])), made.model)
    path = out / f"{student.name}.safetensors"
    save(made, path)
    _fit_baselines(data, learned, made.card, student, path, say)
    return made


def trees_part(data: Dataset, plan: Plan) -> NDArray[np.bool_]:
    """The rows [N] whose longest outcome is known before the trees' end."""
    split = split_of(plan.student, data)
    until: int = getattr(split, plan.trees_until)
    return data.ts < until - split.embargo_ns


def _is_there(path: Path, recipe: Recipe, data: Dataset) -> bool:
    if not path.with_suffix(".json").exists():
        return False
    made = read_card(path.with_suffix(".json")).training
    same = msgspec.convert(made["recipe"], type=Recipe) == recipe
    return same and bool(made["dataset"]["sha256"] == data.sha256())


def _fit_baselines(
    data: Dataset, part: NDArray[np.bool_], card: Card, recipe: Recipe, path: Path, say: Say
) -> None:
    config = card.config
    baselines.fit(
        samples_of(data, recipe.horizons, part), path, tokens=card.tokens,
        horizons_ns=config.horizons_ns, quantiles=config.quantiles, say=say,
    )  # fmt: skip
