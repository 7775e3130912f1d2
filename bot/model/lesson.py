"""What a student learns from: the mean of what teachers say of every row, in place of outcomes.

An outcome is nearly all noise; what many models agree on is not, so a student that learns it may
be trained for long without overfitting (Hinton, Vinyals and Dean, Distilling the Knowledge in a
Neural Network, 2015). Teachers see training rows alone, and nothing here looks at an outcome.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bot.core.errors import PlainError
from bot.model.checkpoint import load, read_card
from bot.model.crops import predicted
from bot.model.dataset import Dataset
from bot.model.tokens import mirror_of
from bot.model.transformer import CausalTransformer, Outputs

_QUANTILES = 0.25
"""The weight of the quantiles beside those of mean and direction, which rank."""
_LEAST_UNIT = 1e-6


class LessonError(PlainError):
    """Teachers do not fit the student; the text says which and the way out."""


class Teachers(Struct, frozen=True):
    """Who teaches: checkpoints, and a .npy [N, <= H, 2] of what others, boosted trees say, give for
    the dataset's rows and first horizons: a score that ranks the returns, in any unit, and the
    log-odds of a rise. Those others count for ``share`` of what is taught, the checkpoints for the
    rest."""

    checkpoints: tuple[Path, ...] = ()
    odds: Path | None = None
    share: float = 0.5

    def load(self) -> tuple[list[CausalTransformer], NDArray[np.float32] | None]:
        """The models and the odds. Raises CheckpointError, LessonError."""
        if self.odds is None:
            return [load(path).model for path in self.checkpoints], None
        try:
            odds = np.load(self.odds, allow_pickle=False).astype(np.float32)
        except (OSError, ValueError) as error:
            raise LessonError(f"{self.odds}: no log-odds can be read: {error}") from error
        return [load(path).model for path in self.checkpoints], odds

    def names(self) -> list[str]:
        """What a card says of them: the hashes of the weights, and of the odds."""
        names = [read_card(path.with_suffix(".json")).weights_sha256 for path in self.checkpoints]
        if self.odds is not None:
            digest = hashlib.sha256(self.odds.read_bytes()).hexdigest()
            names.append(f"odds {digest} for {self.share:g}")
        return names


class Lesson(Struct, frozen=True):
    """What is to be said of each row: mean, log-odds of a rise and quantiles, in units of the
    heads; and how much each varies over the rows that are taught."""

    said: Tensor  # [N, H, 2 + Q]
    unit: Tensor  # [H, 2 + Q]


def imitation(outputs: Outputs, lesson: Lesson, said: Tensor, counts: Tensor) -> Tensor:
    """How far [H] the outputs [..., H] are from what is ``said`` [..., H, 2 + Q], in units of its
    spread (Huber's loss), over the rows that count [...]."""
    error = functional.smooth_l1_loss(
        flat(outputs) / lesson.unit, said / lesson.unit, reduction="none"
    )
    each = error[..., :2].mean(-1) + _QUANTILES * error[..., 2:].mean(-1)
    weight = counts.unsqueeze(-1).to(each.dtype)
    over = tuple(range(each.dim() - 1))
    return (each * weight).sum(over) / weight.sum(over).clamp(min=1)


def flat(outputs: Outputs) -> Tensor:
    """[..., H, 2 + Q]."""
    pair = torch.stack((outputs.mean, outputs.up_logit), dim=-1)
    return torch.cat((pair, outputs.quantiles), dim=-1)


def upside_down(said: Tensor) -> Tensor:
    """The same of a market turned upside down: the lowest quantile becomes the highest."""
    return torch.cat((-said[..., :2], -said[..., 2:].flip(-1)), dim=-1)


def lesson_of(
    teachers: Sequence[CausalTransformer],
    data: Dataset,
    tokens: Tensor,
    part: NDArray[np.bool_],
    *,
    odds: NDArray[np.float32] | None = None,
    share: float = 0.5,
    autocast: torch.dtype | None = None,
) -> Lesson:
    """The mean of the teachers over the rows of ``part``, each asked upright and upside down.

    ``odds`` and their ``share`` are those of ``Teachers``. Raises LessonError.
    """
    _check(teachers, data)
    if odds is not None and len(odds) != len(data):
        raise LessonError(f"{len(odds)} rows of log-odds for {len(data)} rows: make them again")
    rows, total = np.flatnonzero(part), torch.zeros(0)
    places, signs = mirror_of(data.token_kind)
    turned = tokens[:, list(places)] * torch.tensor(signs, device=tokens.device)
    for teacher in teachers:
        upright, mirrored = (
            flat(teacher.outputs(predicted(teacher, x, data, part, autocast=autocast)[1]))
            for x in (tokens, turned)
        )
        each = (upright + upside_down(mirrored)) / 2
        total = each if not len(total) else total + each
    mean = total / len(teachers)
    if odds is not None:
        mean = _joined(mean, torch.from_numpy(odds[rows]).to(mean), share)
    said = mean.new_zeros(len(data), *mean.shape[1:])
    said[torch.from_numpy(rows).to(said.device)] = mean
    return Lesson(said, mean.std(0).clamp(min=_LEAST_UNIT))


def _joined(mean: Tensor, odds: Tensor, share: float) -> Tensor:
    """The teachers' mean [n, H, 2 + Q] with others [n, <= H, 2] that count for ``share``."""
    joined = mean.clone()
    for column in range(odds.shape[1]):
        was, score = mean[:, column, 0], odds[:, column, 0]
        score = (score - score.mean()) * (was.std() / score.std().clamp(min=_LEAST_UNIT))
        shift = share * (score + was.mean() - was)
        joined[:, column, 0] += shift
        joined[:, column, 1] += share * (odds[:, column, 1] - mean[:, column, 1])
        joined[:, column, 2:] += shift.unsqueeze(-1)
    return joined


def _check(teachers: Sequence[CausalTransformer], data: Dataset) -> None:
    if not teachers:
        raise LessonError("a student needs teachers: give at least one checkpoint")
    first = teachers[0].config
    levels = first.quantiles
    if any(abs(a + b - 1) > 1e-9 for a, b in zip(levels, reversed(levels), strict=True)):
        raise LessonError(f"the teachers' quantiles {levels} are not symmetric: train others")
    for teacher in teachers:
        config = teacher.config
        same = (config.horizons_ns, config.quantiles, config.volatility_scaled)
        if same != (first.horizons_ns, levels, first.volatility_scaled):
            raise LessonError("the teachers answer for different horizons: train them alike")
        if not np.allclose(config.return_scale, first.return_scale, rtol=1e-3):
            raise LessonError("the teachers learned from different rows: use one split for all")
        if config.features != data.tokens.shape[1]:
            raise LessonError(
                f"a teacher reads {config.features} features, the dataset has "
                f"{data.tokens.shape[1]}: train it on this dataset"
            )
