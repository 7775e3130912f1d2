"""What training minimises: errors of quantiles, mean and direction, and a lack of correlation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from msgspec import Struct
from torch import Tensor
from torch.nn import functional

from bot.model.transformer import Outputs


class LossWeights(Struct, frozen=True, forbid_unknown_fields=True):
    """How much each part counts. ``correlation`` is 1 less Pearson's correlation of the mean with
    the outcome within stretches of ``stretch`` tokens (a day's, say), where 0 is a whole crop.
    Outcomes are clipped to ``outlier`` units: a few crashes must not lead every step. The smaller
    it is, the more the mean tells where most returns lie instead of where their average does."""

    quantiles: float = 1.0
    mean: float = 0.5
    direction: float = 0.2
    correlation: float = 0.2
    stretch: int = 0
    outlier: float = 20.0


def loss_of(
    outputs: Outputs,
    target: Tensor,
    known: Tensor,
    levels: Sequence[float],
    weights: LossWeights,
    horizon_weights: Tensor,
) -> Tensor:
    """The loss, a scalar, of ``target`` [B, T, H] in units of the heads, where ``known`` [B, T, H].

    Pinball loss over the quantiles (Koenker and Bassett, 1978), Huber's over the mean, cross
    entropy of the sign where there was a move.
    """
    y = target.clamp(-weights.outlier, weights.outlier)
    error = y.unsqueeze(-1) - outputs.quantiles
    level = torch.tensor(levels, dtype=y.dtype, device=y.device)
    pinball = torch.maximum(level * error, (level - 1) * error).mean(-1)
    huber = functional.smooth_l1_loss(outputs.mean, y, reduction="none")
    cross = functional.binary_cross_entropy_with_logits(
        outputs.up_logit, (y > 0).to(y.dtype), reduction="none"
    )
    moved = known & (y != 0)
    parts = weights.quantiles * _mean(pinball, known) + weights.mean * _mean(huber, known)
    parts = parts + weights.direction * _mean(cross, moved)
    if weights.correlation:
        fit = _correlation(outputs.mean, y, known, weights.stretch)
        parts = parts + weights.correlation * (1 - fit)
    return (parts * horizon_weights).sum() / horizon_weights.sum()


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """The mean [H] over the rows that count."""
    counts = where.sum((0, 1)).clamp(min=1)
    return torch.where(where, values, 0.0).sum((0, 1)) / counts


def _correlation(forecast: Tensor, outcome: Tensor, known: Tensor, stretch: int) -> Tensor:
    """Pearson's correlation [H], its mean over stretches weighted by the rows in them."""
    size = stretch or forecast.shape[1]
    whole = forecast.shape[1] // size * size
    a, b, w = (
        x[:, :whole].reshape(-1, size, x.shape[-1]) for x in (forecast, outcome, known.float())
    )
    count = w.sum(1, keepdim=True).clamp(min=1)
    a = (a - (a * w).sum(1, keepdim=True) / count) * w
    b = (b - (b * w).sum(1, keepdim=True) / count) * w
    spread = (a.square().sum(1) * b.square().sum(1) + 1e-8).sqrt()
    each = (a * b).sum(1) / spread  # [stretches, H]
    share = w.sum(1)
    return (each * share).sum(0) / share.sum(0).clamp(min=1)
