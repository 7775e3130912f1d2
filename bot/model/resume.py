"""The state of a training on disk: tensors as safetensors, the rest as JSON. No pickle."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from bot.core.errors import PlainError
from bot.model.dataset import Dataset
from bot.model.recipe import Recipe
from bot.model.transformer import CausalTransformer

_FILE = "state.safetensors"


class ResumeError(PlainError):
    """There is nothing to resume, or it is of another training; the text says which."""


class TrainingState(Struct):
    """Where a training stands, beside the model's own weights."""

    average: dict[str, Tensor]
    best: dict[str, Tensor]
    moments: dict[str, tuple[Tensor, Tensor]] = {}
    step: int = 0
    stale: int = 0
    """Evaluations since the best one."""
    best_score: float = float("-inf")
    best_figures: dict[str, float] = {}


class _Rest(Struct):
    step: int
    stale: int
    best_score: float
    best_figures: dict[str, float | None]
    recipe: Recipe
    dataset_sha256: str


def save_state(
    state: TrainingState,
    model: CausalTransformer,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    data: Dataset,
    out: Path,
) -> None:
    """Write the state; a stop in the middle leaves the state before it whole."""
    tensors: dict[str, Tensor] = {}
    for name, weight in model.named_parameters():
        moments = optimizer.state[weight]
        tensors |= {
            f"model/{name}": weight.detach(),
            f"first/{name}": moments["exp_avg"],
            f"second/{name}": moments["exp_avg_sq"],
            f"average/{name}": state.average[name],
            f"best/{name}": state.best[name],
        }
    rest = _Rest(
        state.step, state.stale, state.best_score, dict(state.best_figures), recipe, data.sha256()
    )
    whole = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    draft = out / f".{_FILE}.new"
    save_file(whole, draft, metadata={"rest": msgspec.json.encode(rest).decode()})
    draft.replace(out / _FILE)


def load_state(model: CausalTransformer, recipe: Recipe, data: Dataset, out: Path) -> TrainingState:
    """Put the saved weights into the model and return the rest. Raises ResumeError."""
    path = out / _FILE
    try:
        tensors = load_file(path)
        rest = _rest_of(path)
    except (OSError, SafetensorError, msgspec.MsgspecError, KeyError) as error:
        raise ResumeError(f"{path}: nothing to resume: {error}; start without --resume") from error
    if rest.dataset_sha256 != data.sha256():
        raise ResumeError(f"{path}: was trained on other data; use that, or start anew")
    if msgspec.structs.replace(rest.recipe, steps=0) != msgspec.structs.replace(recipe, steps=0):
        raise ResumeError(f"{path}: is of another recipe; only `steps` may change on a resume")
    device = model.embed.device
    named: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        named.setdefault(kind, {})[name] = tensor.to(device)
    model.load_state_dict(named["model"])
    return TrainingState(
        average=named["average"],
        best=named["best"],
        moments={name: (named["first"][name], named["second"][name]) for name in named["first"]},
        step=rest.step,
        stale=rest.stale,
        best_score=rest.best_score,
        best_figures={k: float("nan") if v is None else v for k, v in rest.best_figures.items()},
    )


def _rest_of(path: Path) -> _Rest:
    with safe_open(path, framework="pt") as file:
        return msgspec.json.decode(file.metadata()["rest"], type=_Rest)
