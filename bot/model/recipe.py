"""How a model is trained: every choice in one frozen struct, read from JSON."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from bot.core.errors import PlainError
from bot.model.dataset import Dataset, Split
from bot.model.losses import LossWeights
from bot.model.transformer import TransformerConfig


class RecipeError(PlainError):
    """A recipe cannot be read or makes no sense; the text names the field and the way out."""


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A training. ``horizons`` are bars of candles, or milliseconds for books.

    ``train_end`` and ``valid_end`` are UTC times (2025-06-30, 2025-06-30T12:00); where they are
    "", the dataset's time is cut at ``train_share`` and ``valid_share`` of it. The embargo is the
    longest horizon, or ``embargo_s`` where that is longer. ``mirror`` is the share of crops that
    are read upside down (``tokens.mirror_of``): what is learned of rises then holds for falls.
    """

    name: str = "predictor"
    horizons: tuple[int, ...] = (1, 2, 4, 8, 16)
    horizon_weights: tuple[float, ...] = ()
    scale_by_volatility: Literal["auto", "yes", "no"] = "auto"
    # the model's shape
    width: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 4
    head_dim: int = 32
    hidden: int = 512
    window: int = 256
    quantiles: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    # which rows
    train_start: str = ""
    train_end: str = ""
    valid_end: str = ""
    test_end: str = ""
    train_share: float = 0.7
    valid_share: float = 0.85
    embargo_s: float = 0.0
    # the loss
    loss: LossWeights = LossWeights()
    # the optimizer
    steps: int = 4000
    batch: int = 32
    crop: int = 1024
    burn_in: int = -1
    learning_rate: float = 1e-3
    last_share: float = 0.05
    warmup: int = 200
    weight_decay: float = 0.1
    beta2: float = 0.99
    dropout: float = 0.1
    mirror: float = 0.0
    clip: float = 1.0
    average: float = 0.999
    seed: int = 1
    # when to look, when to stop
    evaluate_every: int = 250
    report_every: int = 25
    patience: int = 8
    monitor: Literal["ic", "loss", "imitation"] = "ic"
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        if self.burn_in < 0:
            msgspec.structs.force_setattr(self, "burn_in", self.window - 1)
        if self.crop <= max(self.burn_in, self.window):
            raise ValueError(
                f"crop {self.crop} must be longer than window {self.window} and burn_in "
                f"{self.burn_in}"
            )
        if self.horizon_weights and len(self.horizon_weights) != len(self.horizons):
            raise ValueError(
                f"{len(self.horizon_weights)} horizon_weights for {len(self.horizons)} horizons"
            )
        if not self.horizons or min(self.horizons) < 1:
            raise ValueError(f"horizons must be positive, got {self.horizons}")
        if not 0 < self.train_share < self.valid_share <= 1:
            raise ValueError(
                f"train_share {self.train_share} must lie below valid_share {self.valid_share} <= 1"
            )

    @property
    def horizon_weights_or_ones(self) -> tuple[float, ...]:
        return self.horizon_weights or (1.0,) * len(self.horizons)

    def volatility_scaled(self, data: Dataset) -> bool:
        """Whether returns are predicted in units of the volatility known with the token."""
        if self.scale_by_volatility == "auto":
            return data.kind == "candles"
        return self.scale_by_volatility == "yes"

    def schedule(self, step: int) -> float:
        """The share of ``learning_rate`` at a step: a linear rise, then half a cosine."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        way = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return self.last_share + (1 - self.last_share) * (1 + math.cos(math.pi * min(way, 1))) / 2

    def model(
        self,
        *,
        features: int,
        horizons_ns: tuple[int, ...],
        return_scale: tuple[float, ...],
        volatility_scaled: bool,
    ) -> TransformerConfig:
        """The config of the model that this trains."""
        return TransformerConfig(
            features=features,
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            hidden=self.hidden,
            window=self.window,
            quantiles=self.quantiles,
            horizons_ns=horizons_ns,
            return_scale=return_scale,
            volatility_scaled=volatility_scaled,
        )


RECIPES = {
    "small": Recipe(
        width=64, layers=2, heads=2, kv_heads=2, hidden=256, window=128, crop=512, batch=16,
        steps=1_000, warmup=100, evaluate_every=100, average=0.99,
    ),
    "candles": Recipe(),
    "book": Recipe(
        name="analyzer", horizons=(100, 1_000, 5_000, 10_000), steps=2_000, dropout=0.2,
        loss=LossWeights(correlation=0.5),
    ),
}  # fmt: skip
"""By name: ``small`` is for a CPU, the others for a GPU."""


def recipe_of(path: Path | None) -> Recipe:
    """The recipe of a JSON file, or one of ``RECIPES`` by name. Raises RecipeError."""
    if path is None:
        return RECIPES["candles"]
    if str(path) in RECIPES:
        return RECIPES[str(path)]
    try:
        return msgspec.json.decode(path.read_bytes(), type=Recipe)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise RecipeError(f"{path}: no recipe: {error}") from error


def split_of(recipe: Recipe, data: Dataset) -> Split:
    """The recipe's split of a dataset. Raises RecipeError for times in the wrong order."""
    first, last = int(data.ts.min()), int(data.ts.max())
    longest = int(data.horizons_ns(recipe.horizons).max())
    span = last - first
    train_end = _time_ns(recipe.train_end) or first + round(recipe.train_share * span)
    valid_end = _time_ns(recipe.valid_end) or first + round(recipe.valid_share * span)
    if not first < train_end < valid_end:
        raise RecipeError(
            f"train_end {train_end} must lie behind the first row {first} and before valid_end "
            f"{valid_end} (ns): give both"
        )
    embargo = max(longest, round(recipe.embargo_s * 1e9))
    return Split(
        train_end,
        valid_end,
        embargo,
        train_start=_time_ns(recipe.train_start),
        test_end=_time_ns(recipe.test_end),
    )


def _time_ns(text: str) -> int:
    if not text:
        return 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise RecipeError(f"{text!r} is no time: write 2025-06-30 or 2025-06-30T12:00") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000) * 1_000_000
