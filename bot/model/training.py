"""Training of a causal transformer on a prepared dataset, on a CPU or one GPU.

Nothing here reads a market: a caller makes the dataset (``bot train``), or this module is started
alone on a machine with torch and little else:

    python -m bot.model.training --dataset FILE --config FILE --out DIR

Which rows a step reads and what dropout leaves out are functions of (seed, step), so a training
that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from bot.core.errors import PlainError
from bot.model.checkpoint import Checkpoint, save, trained
from bot.model.crops import Crops, predicted
from bot.model.dataset import (
    Dataset,
    DatasetError,
    future_returns,
    load_dataset,
    parts_of,
)
from bot.model.learning_curve import write_curve
from bot.model.losses import loss_of
from bot.model.rank import daily_rank_correlations, rank_correlation
from bot.model.recipe import Recipe, recipe_of, split_of
from bot.model.resume import TrainingState, load_state, save_state
from bot.model.transformer import CausalTransformer, TransformerConfig, initialize

_VOLATILITY_PARTS = 1e-12
Progress = Callable[[int, int, dict[str, float]], None]
"""Called with the step, the steps in all, and what is known of it: loss, or validation figures."""


class TrainingError(PlainError):
    """A training cannot go on; the text says why and the way out."""


class _Data(Struct, frozen=True):
    """A dataset on the device, with its targets in the units of the heads."""

    data: Dataset
    tokens: Tensor  # [N, F]
    target: Tensor  # [N, H]
    known: Tensor  # [N, H]
    parts: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]
    returns: NDArray[np.float64]  # [N, H]


def train(
    data: Dataset,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress = lambda _step, _steps, _figures: None,
    code_version: str = "",
) -> Checkpoint:
    """Train, write ``<name>.safetensors`` with its card, the record and the curve into ``out``.

    Returns the best checkpoint by the recipe's monitor. Raises DatasetError for a dataset that the
    recipe does not fit, TrainingError where the loss is no number or there is nothing to resume.
    """
    device = _device(recipe)
    config, ready = _prepare(data, recipe, device)
    model = CausalTransformer(config).to(device)
    state = _begin(model, ready, recipe, out, resume=resume)
    run = _Run(model, ready, recipe, out, state, progress)
    run.record({"event": "resume" if resume else "start", **_setting(data, recipe, config, device)})
    while not run.is_over:
        run.step()
        if run.state.step % recipe.evaluate_every == 0 or run.state.step == recipe.steps:
            run.evaluate()
    model.load_state_dict(run.state.best)
    figures = {**run.state.best_figures, **_judged(model, ready, recipe)}
    made = trained(
        model.cpu(),
        name=recipe.name,
        tokens=data.token_kind,
        interval=data.series[0].interval,
        intervals=tuple(dict.fromkeys(one.interval for one in data.series if one.interval)),
        seed=recipe.seed,
        metrics={name: value for name, value in figures.items() if math.isfinite(value)},
        training=_setting(data, recipe, config, device) | {"code_version": code_version},
    )
    save(made, out / f"{recipe.name}.safetensors")
    run.record({"event": "end", "weights_sha256": made.card.weights_sha256, **figures})
    write_curve(out / "run.jsonl", out / "curve.svg")
    return made


class _Run:
    """One training while it goes on."""

    def __init__(
        self,
        model: CausalTransformer,
        ready: _Data,
        recipe: Recipe,
        out: Path,
        state: TrainingState,
        progress: Progress,
    ) -> None:
        self.model, self.ready, self.recipe, self.out = model, ready, recipe, out
        self.state, self._progress = state, progress
        self._device = ready.tokens.device
        self._autocast = _autocast(recipe, self._device)
        self._crops = Crops(
            ready.data,
            ready.parts[0],
            length=recipe.crop,
            burn_in=recipe.burn_in,
            seed=recipe.seed,
        )
        self._optimizer = _optimizer(model, recipe, state)
        self._weights = torch.tensor(recipe.horizon_weights_or_ones, device=self._device)
        for block in model.typed_blocks():
            block.dropout = recipe.dropout
        self._losses: list[Tensor] = []

    @property
    def is_over(self) -> bool:
        return self.state.step >= self.recipe.steps or self.state.stale > self.recipe.patience

    def step(self) -> None:
        """One step of the optimizer. Raises TrainingError where the loss is no number."""
        recipe, state = self.recipe, self.state
        torch.manual_seed((recipe.seed << 32) + state.step)
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.learning_rate * recipe.schedule(state.step)
        self.model.train()
        loss = self._loss()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        self._optimizer.step()
        keep = min(recipe.average, (1 + state.step) / (10 + state.step))
        with torch.no_grad():
            for name, weight in self.model.state_dict().items():
                state.average[name].lerp_(weight, 1 - keep)
        state.step += 1
        self._losses.append(loss.detach())
        if state.step % recipe.report_every == 0:
            self._progress(state.step, recipe.steps, {"loss": self._recent_loss()})

    def _loss(self) -> Tensor:
        recipe, ready = self.recipe, self.ready
        rows, counts, position = self._crops.at(self.state.step, recipe.batch)
        at = torch.from_numpy(rows).to(self._device)
        known = ready.known[at] & torch.from_numpy(counts).to(self._device).unsqueeze(-1)
        x = ready.tokens[at]
        with torch.autocast(self._device.type, self._autocast, enabled=self._autocast is not None):
            hidden = self.model.trunk(x, first_position=position)
        outputs = self.model.outputs(self.model.read_out(hidden))
        return loss_of(
            outputs,
            ready.target[at],
            known,
            self.model.config.quantiles,
            recipe.loss,
            self._weights,
        )

    def _recent_loss(self) -> float:
        loss = torch.stack(self._losses).mean().item()
        self._losses.clear()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {self.state.step}: lower learning_rate "
                f"({self.recipe.learning_rate}) or clip ({self.recipe.clip})"
            )
        return loss

    def evaluate(self) -> None:
        """Validate the averaged weights, keep the best, write the state for a resume."""
        state = self.state
        twin = CausalTransformer(self.model.config).to(self._device)
        twin.load_state_dict(state.average)
        figures = _figures(twin, self.ready, self.ready.parts[1], self.recipe)
        if self._losses:
            figures["train_loss"] = self._recent_loss()
        score = figures["ic"] if self.recipe.monitor == "ic" else -figures["loss"]
        if score > state.best_score:
            state.best_score, state.stale = score, 0
            state.best = {name: tensor.clone() for name, tensor in state.average.items()}
            state.best_figures = {f"valid_{name}": value for name, value in figures.items()}
            state.best_figures["step"] = float(state.step)
        else:
            state.stale += 1
        self.record({"event": "evaluation", "step": state.step, **figures})
        save_state(state, self.model, self._optimizer, self.recipe, self.ready.data, self.out)
        self._progress(state.step, self.recipe.steps, figures)

    def record(self, entry: dict[str, Any]) -> None:
        """Append one line to the record of the run."""
        stamped = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **entry}
        with (self.out / "run.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(stamped) + b"\n")


# --- Before -----------------------------------------------------------------------------------


def _prepare(
    data: Dataset, recipe: Recipe, device: torch.device
) -> tuple[TransformerConfig, _Data]:
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
    ready = _Data(
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
    return np.maximum(scale, _VOLATILITY_PARTS)


def _begin(
    model: CausalTransformer, ready: _Data, recipe: Recipe, out: Path, *, resume: bool
) -> TrainingState:
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        return load_state(model, recipe, ready.data, out)
    fresh = CausalTransformer(model.config)
    initialize(fresh, recipe.seed)
    model.load_state_dict(fresh.state_dict())
    with torch.no_grad():
        # an input that is always 0 here would speak by chance the first time it is not
        model.embed[:, (ready.tokens == 0).all(0)] = 0.0
    (out / "run.jsonl").unlink(missing_ok=True)
    average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    best = {name: tensor.clone() for name, tensor in average.items()}
    return TrainingState(average=average, best=best)


def _optimizer(
    model: CausalTransformer, recipe: Recipe, state: TrainingState
) -> torch.optim.Optimizer:
    """AdamW; norms, biases and sink logits do not decay."""
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    others = [weight for weight in model.parameters() if weight.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, recipe.beta2))
    for name, weight in model.named_parameters():
        if name in state.moments:
            first, second = state.moments[name]
            optimizer.state[weight] = {
                "step": torch.tensor(float(state.step)),
                "exp_avg": first.to(weight.device),
                "exp_avg_sq": second.to(weight.device),
            }
    return optimizer


def _device(recipe: Recipe) -> torch.device:
    if recipe.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(recipe.device)


def _autocast(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """bfloat16 on a GPU, full precision elsewhere, unless the recipe says which."""
    if recipe.precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else None
    return torch.bfloat16 if recipe.precision == "bfloat16" else None


def _setting(
    data: Dataset, recipe: Recipe, config: TransformerConfig, device: torch.device
) -> dict[str, Any]:
    """What a training is made of, for its record and the card."""
    return {
        "recipe": recipe,
        "model": config,
        "split": split_of(recipe, data),
        "dataset": {
            "sha256": data.sha256(),
            "venue": data.venue,
            "rows": len(data),
            "first_ts": int(data.ts.min()),
            "last_ts": int(data.ts.max()),
            "series": [str(one) for one in data.series],
            "sources": data.sources,
        },
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


# --- Judging ----------------------------------------------------------------------------------


def _figures(
    model: CausalTransformer, ready: _Data, part: NDArray[np.bool_], recipe: Recipe
) -> dict[str, float]:
    """Loss and rank correlations over the rows of a part; ``ic`` is the mean over horizons."""
    device = ready.tokens.device
    rows, raw = predicted(model, ready.tokens, ready.data, part, autocast=_autocast(recipe, device))
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
            daily, _ = daily_rank_correlations(forecast, outcome, ts[known], series[known])
            figures[f"daily_ic_{horizon}"] = float(daily.mean()) if len(daily) else math.nan
        prefix = "daily_ic" if ready.data.kind == "candles" else "ic"
        correlations.append(figures[f"{prefix}_{horizon}"])
    share = np.array(recipe.horizon_weights_or_ones) * np.isfinite(correlations)
    figures["ic"] = float(np.nansum(share * np.nan_to_num(correlations)) / max(share.sum(), 1e-9))
    return figures


def _judged(model: CausalTransformer, ready: _Data, recipe: Recipe) -> dict[str, float]:
    """Figures over the rows behind the validation's end, where there are some."""
    part = ready.parts[2]
    if not np.isfinite(ready.returns[part]).any():
        return {}
    figures = _figures(model, ready, part, recipe)
    return {f"test_{name}": value for name, value in figures.items()}


# --- Alone ------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    """Train from a prepared dataset and a JSON recipe, with a line of progress a report."""
    parser = argparse.ArgumentParser(prog="python -m bot.model.training", description=__doc__)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="a JSON recipe, or small, candles, book")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    words = parser.parse_args(arguments)
    began = time.monotonic()

    def told(step: int, steps: int, figures: dict[str, float]) -> None:
        text = " ".join(f"{name} {value:.5g}" for name, value in figures.items())
        passed = time.monotonic() - began
        sys.stderr.write(f"{passed:7.1f} s  step {step}/{steps}  {text}\n")

    try:
        recipe = recipe_of(words.config)
        if words.seed is not None:
            recipe = msgspec.structs.replace(recipe, seed=words.seed)
        made = train(
            load_dataset(words.dataset), recipe, words.out, resume=words.resume, progress=told
        )
    except PlainError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(msgspec.json.encode(made.card.metrics).decode() + "\n")


if __name__ == "__main__":
    main()
