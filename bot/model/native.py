"""A transformer packed for the native step: weights as tiles, and their addresses."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor
from torch.nn import functional

from bot.kvcache import WindowCache
from bot.kvcache.native import available, require
from bot.kvcache.native.step import MAX_ROWS, DecoderShape, StepKernel
from bot.model.checkpoint import CheckpointError
from bot.model.transformer import Block, CausalTransformer

if available():
    from bot.kvcache.native import _decode

WeightDtype = Literal["float32", "int8"]
_TILE = 32  # rows of a tile, as in decode.h
_HUGE_PAGE = 1 << 21
_CACHE_LINE = 64


class PackedWeights(Struct, frozen=True):
    """One run of bytes in the order in which a step reads it, and where its pieces start."""

    data: Tensor  # uint8
    addresses: tuple[int, ...]
    shape: DecoderShape


class NativeDecoder:
    """A model's weights, packed once, and the threads that step it: the torch model's own ``step``,
    ``prefill`` and ``decode``, for float32 and int8 caches in blocks.

    ``weight_dtype`` is that of the blocks; the input projection and the heads stay float32. Row by
    row every method gives the same bits as single steps. Raises NativeUnavailable, CheckpointError
    for a weight that is no number, and ValueError for a shape beyond the kernels.
    """

    __slots__ = ("_kernel", "_packed")

    def __init__(self, model: CausalTransformer, weight_dtype: WeightDtype, threads: int) -> None:
        require()
        packed = self._packed = pack(model, weight_dtype)
        self._kernel = StepKernel(packed.shape, packed.addresses, packed.data, threads=threads)

    @property
    def isa(self) -> str:
        return self._kernel.isa

    @property
    def threads(self) -> int:
        return self._kernel.threads

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that a step reads."""
        return self._packed.data.nbytes

    def step(self, x: Tensor, cache: WindowCache) -> Tensor:
        """Raw heads [T, outputs] for the next T tokens ``x`` [T, F] of the cached sequence.

        Raises ValueError for a wrong shape or a number that is none, CacheError, OutOfBlocks.
        """
        self._check(x, x.shape[0])
        parts = []
        for part in torch.split(x, MAX_ROWS):
            cache.tag(part)
            parts.append(self._kernel.step(part, (cache,), len(part)))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def prefill(self, x: Tensor, cache: WindowCache) -> Tensor:
        """``step`` for the first tokens of an empty sequence, but for a beginning that is known to
        a prefix cache: heads [<= T, outputs] of the last tokens, at least of the last one."""
        return self.step(x[cache.adopt(x) :], cache)

    def decode(self, x: Tensor, caches: Sequence[WindowCache]) -> Tensor:
        """Raw heads [B, outputs] for one next token ``x`` [B, F] of each of B sequences.

        Raises as ``step`` does; in a batch of at most MAX_ROWS no sequence has moved then.
        """
        self._check(x, len(caches))
        for index, cache in enumerate(caches):
            if cache.spec.prefix:
                cache.tag(x[index : index + 1])
        if len(caches) <= MAX_ROWS:
            return self._kernel.step(x, caches)
        return torch.cat(
            [
                self._kernel.step(rows, caches[index * MAX_ROWS : (index + 1) * MAX_ROWS])
                for index, rows in enumerate(torch.split(x, MAX_ROWS))
            ]
        )

    def read(self, data: Tensor) -> None:
        """Read ``data`` with the step's threads; see ``StepKernel.read``."""
        self._kernel.read(data)

    def _check(self, x: Tensor, rows: int) -> None:
        expected = (rows, self._packed.shape.features)
        if x.shape != expected or not rows or x.dtype != torch.float32 or not x.is_contiguous():
            raise ValueError(
                f"x is {x.dtype} {tuple(x.shape)}, must be contiguous float32 {expected}, at "
                "least one row"
            )


def rounded(model: CausalTransformer, weight_dtype: WeightDtype) -> CausalTransformer:
    """``model`` with the weights that a decoder of this ``weight_dtype`` has, as floats: what torch
    runs where the extension is missing, so that both round the weights alike."""
    if weight_dtype == "float32":
        return model
    twin = copy.deepcopy(model)
    for block in twin.blocks:
        assert isinstance(block, Block)
        for weight in (block.qkv, block.out, block.up, block.down):
            codes, scales = quantize_rows(weight.detach())
            weight.data = codes * scales.unsqueeze(1)
    return twin


def pack(model: CausalTransformer, weight_dtype: WeightDtype) -> PackedWeights:
    """Weights as the kernels read them. Raises CheckpointError for one that is no number."""
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise CheckpointError(f"weight {name} has values that are no number: train it again")
    pieces: list[Tensor | None] = [torch.from_numpy(model.turns.view(np.int64))]
    pieces += _matrix(model.embed, "float32")
    pieces.append(model.embed_bias)
    for block in model.blocks:
        assert isinstance(block, Block)
        pieces.append(block.attention_norm)
        pieces += _matrix(block.qkv, weight_dtype)
        pieces += [block.q_norm, block.k_norm, block.sink]
        pieces += _matrix(block.out, weight_dtype)
        pieces.append(block.mlp_norm)
        pieces += _matrix(block.up, weight_dtype)
        pieces += _matrix(block.down, weight_dtype)
    pieces.append(model.final_norm)
    pieces += _matrix(model.head, "float32")
    pieces.append(model.head_bias)
    data, addresses = _lay_out(pieces)
    return PackedWeights(data, addresses, _shape(model))


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 codes [N, K] and float32 scales [N], symmetric: ``weight`` is about codes * scales."""
    scales = (weight.abs().amax(1) / 127).clamp_min(1e-30)
    codes = (weight / scales.unsqueeze(1)).round_().clamp_(-127, 127)
    return codes.to(torch.int8), scales


def _matrix(weight: Tensor, weight_dtype: WeightDtype) -> list[Tensor | None]:
    """Tiles, scales and sums of codes of [N, K]; N is padded to whole tiles, K to whole quads."""
    weight = weight.detach().float()
    rows, cols = weight.shape
    short = -rows % _TILE
    if weight_dtype == "float32":
        tiles = functional.pad(weight, (0, 0, 0, short)).view(-1, _TILE, cols).transpose(1, 2)
        return [tiles.contiguous(), None, None]
    codes, scales = quantize_rows(weight)
    codes = functional.pad(codes, (0, -cols % 4, 0, short))
    tiles = codes.view(-1, _TILE, codes.shape[1] // 4, 4).transpose(1, 2)
    sums = codes.sum(1, dtype=torch.int32)
    return [tiles.contiguous(), functional.pad(scales, (0, short)), sums]


def _lay_out(pieces: list[Tensor | None]) -> tuple[Tensor, tuple[int, ...]]:
    """Copy the pieces one after another, on cache lines of their own; None has address 0."""
    offsets, end = [], 0
    for piece in pieces:
        offsets.append(end)
        if piece is not None:
            end += -(-piece.nbytes // _CACHE_LINE) * _CACHE_LINE
    room = torch.zeros(end + _HUGE_PAGE, dtype=torch.uint8)
    skipped = -room.data_ptr() % _HUGE_PAGE
    _decode.advise_huge_pages(room.data_ptr(), room.nbytes)
    data = room[skipped : skipped + end]
    addresses = []
    for piece, offset in zip(pieces, offsets, strict=True):
        if piece is None:
            addresses.append(0)
            continue
        flat = piece.detach().contiguous().flatten().view(torch.uint8)
        data[offset : offset + flat.numel()] = flat
        addresses.append(data.data_ptr() + offset)
    return data, tuple(addresses)


def _shape(model: CausalTransformer) -> DecoderShape:
    config = model.config
    return DecoderShape(
        features=config.features,
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        hidden=config.hidden,
        outputs=model.head.shape[0],
        window=config.window,
    )
