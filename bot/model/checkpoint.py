"""A model on disk: weights as safetensors, and a card that says what they are.

Both belong together: the card carries the hash of the weights, and loading checks it. No pickle.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bot.core.errors import PlainError
from bot.model.drift import InputShares
from bot.model.transformer import CausalTransformer, TransformerConfig, initialize

_FORMAT = 1


class CheckpointError(PlainError):
    """A checkpoint cannot be used; the text names the file, what is wrong and the way out."""


class Card(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the weights are. ``tokens`` and ``interval`` say what the model reads.

    ``tolerance`` bounds how far two computations of one prediction may lie apart when tokens are
    appended in other chunks (see ``forecast.deviation`` for the measure).
    """

    format: int = _FORMAT
    name: str
    tokens: str
    interval: str = ""
    config: TransformerConfig
    weights_sha256: str
    trained: bool
    seed: int | None = None
    tolerance: float = 0.005
    metrics: dict[str, float] = {}
    inputs: InputShares | None = None
    """What the training tokens looked like; see ``drift.py``."""


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
    card = _read_card(path.with_suffix(".json"))
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


def _read_card(path: Path) -> Card:
    try:
        card = msgspec.json.decode(path.read_bytes(), type=Card)
    except OSError as error:
        raise CheckpointError(f"{path}: the card cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a checkpoint card: {error}") from error
    if card.format != _FORMAT:
        raise CheckpointError(f"{path}: card format {card.format}, this version reads {_FORMAT}")
    return card
