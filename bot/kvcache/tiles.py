"""int8 codes in the order in which the native kernels multiply them, four bytes at a time.

Keys of 16 tokens lie as [D / 4, 16, 4], so that a register holds the same four elements of many
tokens; values of 4 tokens as [D, 4], so that it holds the same four tokens of many elements. A
lane then is a token or an element, and nothing is summed across lanes.
"""

from __future__ import annotations

import torch
from torch import Tensor

KEY_TOKENS = 16
VALUE_TOKENS = 4
_QUAD = 4


def fit(block_size: int, head_dim: int) -> bool:
    """Whether blocks of this size can be tiled for the kernels."""
    return block_size % KEY_TOKENS == 0 and head_dim % 32 == 0


def key_shape(block_size: int, head_dim: int) -> tuple[int, ...]:
    """The shape of one head's keys in a block."""
    return block_size // KEY_TOKENS, head_dim // _QUAD, KEY_TOKENS, _QUAD


def value_shape(block_size: int, head_dim: int) -> tuple[int, ...]:
    """The shape of one head's values in a block."""
    return block_size // VALUE_TOKENS, head_dim, VALUE_TOKENS


def put_keys(block: Tensor, offset: int, codes: Tensor) -> None:
    """Store ``codes`` [T, Hkv, D] at the tokens from ``offset`` of a block [Hkv, *key_shape]."""
    at = _slots(offset, codes)
    quads = codes.reshape(*codes.shape[:-1], -1, _QUAD)
    block[:, at // KEY_TOKENS, :, at % KEY_TOKENS] = quads


def put_values(block: Tensor, offset: int, codes: Tensor) -> None:
    """Store ``codes`` [T, Hkv, D] at the tokens from ``offset`` of a block [Hkv, *value_shape]."""
    at = _slots(offset, codes)
    block[:, at // VALUE_TOKENS, :, at % VALUE_TOKENS] = codes


def take_keys(blocks: Tensor) -> Tensor:
    """Blocks [N, Hkv, *key_shape] laid end to end: [Hkv, S, D]."""
    quads = blocks.view(torch.int32).squeeze(-1)  # four bytes move as one
    rows = quads.permute(1, 0, 2, 4, 3).contiguous()
    return rows.view(torch.int8).flatten(1, 3)


def take_values(blocks: Tensor) -> Tensor:
    """Blocks [N, Hkv, *value_shape] laid end to end: [Hkv, S, D]."""
    return blocks.permute(1, 0, 2, 4, 3).flatten(1, 3)


def _slots(offset: int, codes: Tensor) -> int | Tensor:
    tokens = codes.shape[0]
    return offset if tokens == 1 else torch.arange(offset, offset + tokens)
