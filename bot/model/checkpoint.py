"""A model on disk: weights as safetensors, and a card that says what they are.

Both belong together: the card carries the hash of the weights, and loading checks it. No pickle.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bot.core.errors import PlainError
from bot.model.drift import InputShares
from bot.model.tokens import interval_ns
from bot.model.transformer import CausalTransformer, TransformerConfig, initialize

_FORMAT = 1


class CheckpointError(PlainError):
    """A checkpoint cannot be used; the text names the file, what is wrong and the way out."""


class Card(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the weights are. ``tokens`` and ``interval`` say what the model reads; ``intervals``
    are all those that it was trained for, see ``at_interval``. ``training`` records what made it:
    recipe, split, data with hashes and venue, versions.

    ``tolerance`` bounds how far two computations of one prediction may lie apart when tokens are
    appended in other chunks (see ``forecast.deviation`` for the measure).
    """

    format: int = _FORMAT
    name: str
    tokens: str
    interval: str = ""
    intervals: tuple[str, ...] = ()
    config: TransformerConfig
    weights_sha256: str
    trained: bool
    seed: int | None = None
    tolerance: float = 0.005
    metrics: dict[str, float] = {}
    training: dict[str, Any] = {}
    inputs: InputShares | None = None
    """What the training tokens looked like; see ``drift.py``."""

    @property
    def venue(self) -> str:
        """The venue of the data it was trained on, "" for an untrained model."""
        return str(self.training.get("dataset", {}).get("venue", ""))


class Checkpoint(Struct, frozen=True):
    """A model with its card, ready for use: float32, no gradients."""

    card: Card
    model: CausalTransformer


def seeded(
    config: TransformerConfig, seed: int, *, name: str, tokens: str, interval: str = ""
) -> Checkpoint:
    """An untrained model, a pure function of config and seed; its card says ``trained=False``."""
    model = CausalTransformer(config)
    initialize(model, seed)
    card = Card(
        name=name,
        tokens=tokens,
        interval=interval,
        config=config,
        weights_sha256=weights_hash(model),
        trained=False,
        seed=seed,
    )
    return Checkpoint(card=card, model=_frozen(model))


def trained(
    model: CausalTransformer,
    *,
    name: str,
    tokens: str,
    interval: str,
    intervals: tuple[str, ...],
    seed: int,
    metrics: dict[str, float],
    training: dict[str, Any],
) -> Checkpoint:
    """A model whose training is over, with its card."""
    card = Card(
        name=name,
        tokens=tokens,
        interval=interval,
        intervals=intervals,
        config=model.config,
        weights_sha256=weights_hash(model),
        trained=True,
        seed=seed,
        metrics=metrics,
        training=msgspec.json.decode(msgspec.json.encode(training)),
    )
    return Checkpoint(card=card, model=_frozen(model))


def at_interval(checkpoint: Checkpoint, interval: str) -> Checkpoint:
    """The same weights for candles of another interval that they were trained for: the horizons
    are as many bars. Raises CheckpointError for an interval that is not among them."""
    card = checkpoint.card
    if interval == card.interval:
        return checkpoint
    if interval not in card.intervals:
        known = ", ".join(card.intervals or (card.interval,))
        raise CheckpointError(
            f"model {card.name!r} reads candles of {known} minutes, not of {interval}: set "
            "feed.interval to one of those, or choose another checkpoint"
        )
    bar_ns, own_ns = interval_ns(interval), interval_ns(card.interval)
    config = msgspec.structs.replace(
        card.config,
        horizons_ns=tuple(ns // own_ns * bar_ns for ns in card.config.horizons_ns),
    )
    model = copy.copy(checkpoint.model)
    model.config = config
    return Checkpoint(
        card=msgspec.structs.replace(card, interval=interval, config=config), model=model
    )


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write ``path`` (.safetensors) and the card beside it (.json).

    Raises CheckpointError when the card's hash is not that of the weights.
    """
    found = weights_hash(checkpoint.model)
    if found != checkpoint.card.weights_sha256:
        raise CheckpointError(
            f"{path}: the card says weights {checkpoint.card.weights_sha256[:12]}, the model has "
            f"{found[:12]}: make the card after the last change of the weights"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(_weights(checkpoint.model), path)
    text = msgspec.json.format(msgspec.json.encode(checkpoint.card), indent=2)
    path.with_suffix(".json").write_bytes(text + b"\n")


def load(path: Path) -> Checkpoint:
    """Read what ``save`` wrote. Raises CheckpointError for anything missing or mismatched."""
    card = read_card(path.with_suffix(".json"))
    model = CausalTransformer(card.config)
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: weights cannot be read: {error}") from error
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if found != expected:
        differing = sorted(
            name for name in expected | found if expected.get(name) != found.get(name)
        )
        name = differing[0]
        raise CheckpointError(
            f"{path}: weights do not fit the card's config: {name} is {found.get(name)}, config "
            f"needs {expected.get(name)} ({len(differing)} differ): use the card they came with"
        )
    model.load_state_dict(weights)
    actual = weights_hash(model)
    if actual != card.weights_sha256:
        raise CheckpointError(
            f"{path}: weights hash {actual[:12]} is not the card's {card.weights_sha256[:12]}: "
            "one of the two files was changed or belongs to another checkpoint"
        )
    return Checkpoint(card=card, model=_frozen(model))


def weights_hash(model: CausalTransformer) -> str:
    """SHA-256 over names, shapes, types and bytes of the weights in name order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(_weights(model).items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _weights(model: CausalTransformer) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def _frozen(model: CausalTransformer) -> CausalTransformer:
    model.requires_grad_(requires_grad=False)
    model.eval()
    return model


def read_card(path: Path) -> Card:
    try:
        card = msgspec.json.decode(path.read_bytes(), type=Card)
    except OSError as error:
        raise CheckpointError(f"{path}: the card cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a checkpoint card: {error}") from error
    if card.format != _FORMAT:
        raise CheckpointError(f"{path}: card format {card.format}, this version reads {_FORMAT}")
    return card
