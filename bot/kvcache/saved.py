"""A sequence on disk, so that a restart begins warm: one safetensors file, no pickle.

The blocks' bytes as they lie in the pool, with the spec, the positions and the name of the model
that wrote them. A file is loaded into a sequence of exactly the same spec and model, or refused.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bot.kvcache.cache import WindowCache
from bot.kvcache.layout import CacheSpec
from bot.kvcache.table import Held

_FORMAT = 1
_HEADER = "kvtrader"


class SavedSequenceError(Exception):
    """A file cannot be used; the text names it, what is wrong and the way out."""


class _Header(Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    model: str
    spec: CacheSpec
    position: int
    start: int
    origin: int
    numbers: list[int]
    sha256: str


def save_sequence(
    cache: WindowCache, path: Path, *, model: str, inputs: Tensor | None = None
) -> None:
    """Write ``cache`` to ``path``, whole or not at all.

    ``model`` names the weights, for instance by their hash. ``inputs`` [N, F] travel along, for
    instance those from which the sequence could be rebuilt. Raises CacheError inside a step.
    """
    held = cache.held()
    tensors = {"blocks": held.blocks.contiguous()}
    tensors |= {f"retention.{i}": part.contiguous() for i, part in enumerate(held.retention)}
    if inputs is not None:
        tensors["inputs"] = inputs.detach().cpu().contiguous()
    header = _Header(
        format=_FORMAT,
        model=model,
        spec=cache.spec,
        position=held.position,
        start=held.start,
        origin=held.origin,
        numbers=held.numbers,
        sha256=_digest(tensors),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    save_file(tensors, unfinished, metadata={_HEADER: msgspec.json.encode(header).decode()})
    unfinished.replace(path)


def load_sequence(cache: WindowCache, path: Path, *, model: str) -> Tensor | None:
    """Fill ``cache`` from what ``save_sequence`` wrote; returns the inputs that travelled along.

    Raises SavedSequenceError when the file is missing, damaged or another model's or spec's, and
    OutOfBlocks when there is no room; the sequence is empty then.
    """
    header, tensors = _read(path)
    if header.model != model:
        raise SavedSequenceError(
            f"{path}: written by model {header.model!r}, this is {model!r}: rebuild the sequence"
        )
    differing = [
        f"{name} {getattr(header.spec, name)!r} in the file, {getattr(cache.spec, name)!r} here"
        for name in CacheSpec.__struct_fields__
        if getattr(header.spec, name) != getattr(cache.spec, name)
    ]
    if differing:
        raise SavedSequenceError(
            f"{path}: the caches differ: {'; '.join(differing)}: use the settings it was saved "
            "with, or rebuild the sequence"
        )
    shape = (len(header.numbers), cache.pool.block_bytes)
    if tuple(tensors["blocks"].shape) != shape:
        raise SavedSequenceError(
            f"{path}: blocks are {tuple(tensors['blocks'].shape)}, {shape} are needed: damaged"
        )
    retention = [tensors[name] for name in sorted(tensors) if name.startswith("retention.")]
    cache.take(
        Held(
            position=header.position,
            start=header.start,
            origin=header.origin,
            numbers=header.numbers,
            blocks=tensors["blocks"],
            retention=tuple(retention),
        )
    )
    return tensors.get("inputs")


def _read(path: Path) -> tuple[_Header, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_HEADER, "")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = msgspec.json.decode(text, type=_Header)
    except (OSError, SafetensorError, msgspec.DecodeError) as error:
        raise SavedSequenceError(f"{path}: not a saved sequence: {error}") from error
    if header.format != _FORMAT:
        raise SavedSequenceError(f"{path}: format {header.format}, this version reads {_FORMAT}")
    if _digest(tensors) != header.sha256 or "blocks" not in tensors:
        raise SavedSequenceError(f"{path}: the hash does not match: damaged, rebuild the sequence")
    return header, tensors


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
