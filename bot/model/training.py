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
import torch
from torch import Tensor

from bot.core.errors import PlainError
from bot.model.checkpoint import Checkpoint, save, trained
from bot.model.crops import Crops
from bot.model.dataset import Dataset, load_dataset
from bot.model.learning_curve import write_curve
from bot.model.lesson import Teachers, imitation, lesson_of, upside_down
from bot.model.losses import loss_of
from bot.model.recipe import Recipe, recipe_of, split_of
from bot.model.resume import TrainingState, load_state, save_state
from bot.model.rows import Rows, autocast_of, device_of, figures_of, judged, prepare
from bot.model.tokens import mirror_of
from bot.model.transformer import CausalTransformer, TransformerConfig, initialize

Progress = Callable[[int, int, dict[str, float]], None]
"""Called with the step, the steps in all, and what is known of it: loss, or validation figures."""

_NOBODY = Teachers()


class TrainingError(PlainError):
    """A training cannot go on; the text says why and the way out."""


def train(
    data: Dataset,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress = lambda _step, _steps, _figures: None,
    code_version: str = "",
    teachers: Teachers = _NOBODY,
) -> Checkpoint:
    """Train, write ``<name>.safetensors`` with its card, the record and the curve into ``out``.

    Returns the best checkpoint by the recipe's monitor. Raises DatasetError for a dataset that the
    recipe does not fit, TrainingError where the loss is no number or there is nothing to resume.
    With ``teachers`` it learns what they say in place of what came (see ``lesson.py``).
    """
    device = device_of(recipe)
    config, ready = prepare(data, recipe, device)
    if teachers.checkpoints:
        ready = _taught(ready, recipe, teachers)
    model = CausalTransformer(config).to(device)
    state = _begin(model, ready, recipe, out, resume=resume)
    run = _Run(model, ready, recipe, out, state, progress)
    setting = _setting(data, recipe, config, device) | {"teachers": teachers.names()}
    run.record({"event": "resume" if resume else "start", **setting})
    while not run.is_over:
        run.step()
        if run.state.step % recipe.evaluate_every == 0 or run.state.step == recipe.steps:
            run.evaluate()
    model.load_state_dict(run.state.best)
    figures = {**run.state.best_figures, **judged(model, ready, recipe)}
    made = trained(
        model.cpu(),
        name=recipe.name,
        tokens=data.token_kind,
        interval=data.series[0].interval,
        intervals=tuple(dict.fromkeys(one.interval for one in data.series if one.interval)),
        seed=recipe.seed,
        metrics={name: value for name, value in figures.items() if math.isfinite(value)},
        training=setting | {"code_version": code_version},
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
        ready: Rows,
        recipe: Recipe,
        out: Path,
        state: TrainingState,
        progress: Progress,
    ) -> None:
        self.model, self.ready, self.recipe, self.out = model, ready, recipe, out
        self.state, self._progress = state, progress
        self._device = ready.tokens.device
        self._autocast = autocast_of(recipe, self._device)
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
        places, signs = mirror_of(ready.data.token_kind)
        self._places = torch.tensor(places, device=self._device)
        self._signs = torch.tensor(signs, device=self._device)
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
        x, target = ready.tokens[at], ready.target[at]
        if recipe.mirror:
            turned = (torch.rand(len(at)) < recipe.mirror).to(self._device)[:, None, None]
            x = torch.where(turned, x[..., self._places] * self._signs, x)
            target = torch.where(turned, -target, target)
        with torch.autocast(self._device.type, self._autocast, enabled=self._autocast is not None):
            hidden = self.model.trunk(x, first_position=position)
        outputs = self.model.outputs(self.model.read_out(hidden))
        if ready.lesson is not None:
            said = ready.lesson.said[at]
            if recipe.mirror:
                said = torch.where(turned.unsqueeze(-1), upside_down(said), said)
            counted = torch.from_numpy(counts).to(self._device)
            apart = imitation(outputs, ready.lesson, said, counted)
            return (apart * self._weights).sum() / self._weights.sum()
        return loss_of(
            outputs,
            target,
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
        figures = figures_of(twin, self.ready, self.ready.parts[1], self.recipe)
        if self._losses:
            figures["train_loss"] = self._recent_loss()
        monitor = self.recipe.monitor
        score = figures["ic"] if monitor == "ic" else -figures[monitor]
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


def _begin(
    model: CausalTransformer, ready: Rows, recipe: Recipe, out: Path, *, resume: bool
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


def _taught(ready: Rows, recipe: Recipe, teachers: Teachers) -> Rows:
    """The rows with what the teachers say of those for training and validation."""
    device = ready.tokens.device
    models, odds = teachers.load()
    lesson = lesson_of(
        [model.to(device) for model in models], ready.data, ready.tokens, ready.taught,
        odds=odds, share=teachers.share, autocast=autocast_of(recipe, device),
    )  # fmt: skip
    return msgspec.structs.replace(ready, lesson=lesson)


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


# --- Alone ------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    """Train from a prepared dataset and a JSON recipe, with a line of progress a report."""
    parser = argparse.ArgumentParser(prog="python -m bot.model.training", description=__doc__)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="a JSON recipe, or small, candles, book")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--teacher", type=Path, action="append", help="a checkpoint; repeat")
    parser.add_argument("--odds", type=Path, help="a .npy of others' scores, of trees say")
    parser.add_argument("--share", type=float, default=0.5, help="how much those count")
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
            load_dataset(words.dataset), recipe, words.out, resume=words.resume, progress=told,
            teachers=Teachers(tuple(words.teacher or ()), words.odds, words.share),
        )  # fmt: skip
    except PlainError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(msgspec.json.encode(made.card.metrics).decode() + "\n")


if __name__ == "__main__":
    main()
