"""A dataset made ready for a model: on its device, with targets in the units of its heads; and
what a model reaches on a part of it."""

from __future__ import annotations

import math

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from bot.model.crops import predicted
from bot.model.dataset import Dataset, DatasetError, future_returns, parts_of
from bot.model.lesson import Lesson, imitation
from bot.model.losses import loss_of
from bot.model.recipe import Recipe, split_of
from bot.model.scores import daily_rank_ics, rank_correlation
from bot.model.transformer import CausalTransformer, TransformerConfig

_LEAST_SCALE = 1e-12


class Rows(Struct, frozen=True):
    """A dataset on the device, with its targets in the units of the heads."""

    data: Dataset
    tokens: Tensor  # [N, F]
    target: Tensor  # [N, H]
    known: Tensor  # [N, H]
    parts: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]
    returns: NDArray[np.float64]  # [N, H]
    lesson: Lesson | None = None

    @property
    def taught(self) -> NDArray[np.bool_]:
        """The rows [N] that a lesson speaks of: those for training and validation."""
        return self.parts[0] | self.parts[1]


def prepare(data: Dataset, recipe: Recipe, device: torch.device) -> tuple[TransformerConfig, Rows]:
    """The model's config, and the dataset with its targets on the device."""
    split = split_of(recipe, data)
    parts = parts_of(data, split)
    returns = future_returns(data, recipe.horizons)
    for name, part in zip(("training", "validation"), parts, strict=False):
        if not np.isfinite(returns[part]).any():
            raise DatasetError(
                f"no row for {name} between {data.ts.min()} and {data.ts.max()} ns: give other "
                "train_end and valid_end, or shorter horizons"
            )
    scale = _return_scale(data, returns, parts[0], recipe)
    unit = data.volatility[:, None] * scale if recipe.volatility_scaled(data) else scale
    target = returns / unit
    known = np.isfinite(target)
    config = recipe.model(
        features=data.tokens.shape[1],
        horizons_ns=tuple(data.horizons_ns(recipe.horizons)[0].tolist()),
        return_scale=tuple(scale.tolist()),
        volatility_scaled=recipe.volatility_scaled(data),
    )
    ready = Rows(
        data,
        torch.from_numpy(data.tokens).to(device),
        torch.from_numpy(np.where(known, target, 0.0).astype(np.float32)).to(device),
        torch.from_numpy(known).to(device),
        parts,
        returns,
    )
    return config, ready


def _return_scale(
    data: Dataset, returns: NDArray[np.float64], part: NDArray[np.bool_], recipe: Recipe
) -> NDArray[np.float64]:
    """[H] the standard deviation of the training rows' returns, of those scaled by volatility."""
    seen = returns[part]
    if recipe.volatility_scaled(data):
        seen = seen / data.volatility[part, None]
    low, high = np.nanquantile(seen, (0.001, 0.999), axis=0)  # a crash is no unit
    scale: NDArray[np.float64] = np.nanstd(np.clip(seen, low, high), axis=0)
    return np.maximum(scale, _LEAST_SCALE)


def device_of(recipe: Recipe) -> torch.device:
    if recipe.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(recipe.device)


def autocast_of(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """bfloat16 on a GPU, full precision elsewhere, unless the recipe says which."""
    if recipe.precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else None
    return torch.bfloat16 if recipe.precision == "bfloat16" else None


def figures_of(
    model: CausalTransformer, ready: Rows, part: NDArray[np.bool_], recipe: Recipe
) -> dict[str, float]:
    """Loss and rank correlations over the rows of a part; ``ic`` is the mean over horizons."""
    device = ready.tokens.device
    rows, raw = predicted(
        model, ready.tokens, ready.data, part, autocast=autocast_of(recipe, device)
    )
    at = torch.from_numpy(rows).to(device)
    outputs = model.outputs(raw.unsqueeze(0))
    weights = torch.tensor(recipe.horizon_weights_or_ones, device=device)
    loss = loss_of(
        outputs,
        ready.target[at].unsqueeze(0),
        ready.known[at].unsqueeze(0),
        model.config.quantiles,
        recipe.loss,
        weights,
    )
    figures = {"loss": loss.item()}
    if ready.lesson is not None and not part[~ready.taught].any():
        counts = torch.ones(len(rows), dtype=torch.bool, device=device)
        apart = imitation(outputs, ready.lesson, ready.lesson.said[at].unsqueeze(0), counts[None])
        figures["imitation"] = ((apart * weights).sum() / weights.sum()).item()
    means = outputs.mean[0].double().cpu().numpy()
    series, ts = ready.data.row_series[rows], ready.data.ts[rows]
    correlations = []
    for column, horizon in enumerate(recipe.horizons):
        outcome = ready.returns[rows, column]
        known = np.isfinite(outcome)
        forecast, outcome = means[known, column], outcome[known]
        pooled = rank_correlation(forecast, outcome) if known.any() else math.nan
        figures[f"ic_{horizon}"] = pooled
        if ready.data.kind == "candles":
            daily = daily_rank_ics(forecast, outcome, ts[known], series[known]).values
            daily = daily[np.isfinite(daily)]
            figures[f"daily_ic_{horizon}"] = float(daily.mean()) if len(daily) else math.nan
        # not the daily one: within a day the level of the price ranks even a random walk's returns
        correlations.append(pooled)
    share = np.array(recipe.horizon_weights_or_ones) * np.isfinite(correlations)
    figures["ic"] = float(np.nansum(share * np.nan_to_num(correlations)) / max(share.sum(), 1e-9))
    return figures


def judged(model: CausalTransformer, ready: Rows, recipe: Recipe) -> dict[str, float]:
    """Figures over the rows behind the validation's end, where there are some."""
    part = ready.parts[2]
    if not np.isfinite(ready.returns[part]).any():
        return {}
    figures = figures_of(model, ready, part, recipe)
    return {f"test_{name}": value for name, value in figures.items()}
