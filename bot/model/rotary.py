"""Rotary positions that stay exact forever.

A frequency is kept as an integer number of 2^-64 turns per token, so that a position's phase is
an integer product modulo 2^64: no digit is lost at position 10^9 or 10^18, where float32 phases
are garbage from 10^8 on. (Su et al., RoFormer, 2021; the phase accumulator is the one of direct
digital synthesis.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_TURN = 2**64
_TWO_PI = Fraction("6.2831853071795864769252867665590057684")


def frequencies(head_dim: int, base: float) -> NDArray[np.uint64]:
    """[D / 2] turns per token in units of 2^-64; pair i turns ``base ** (-2 i / D)`` radians."""
    if head_dim % 2:
        raise ValueError(f"head_dim must be even for rotary positions, got {head_dim}")
    radians = [Fraction(base ** (-2 * i / head_dim)) for i in range(head_dim // 2)]
    return np.array([round(r / _TWO_PI * _TURN) for r in radians], dtype=np.uint64)


def phases(
    turns_per_token: NDArray[np.uint64], first: int, tokens: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [T, 1, D / 2] for positions ``first`` to ``first + tokens - 1``."""
    return phases_at(turns_per_token, range(first, first + tokens), dtype)


def phases_at(
    turns_per_token: NDArray[np.uint64], positions: Iterable[int], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [T, 1, D / 2] for any integer ``positions``, negative ones too."""
    wrapped = np.array([position % _TURN for position in positions], dtype=np.uint64)
    # unsigned products wrap: that is the reduction modulo one turn
    turns = (wrapped[:, None] * turns_per_token).view(np.int64)
    angle = turns.astype(np.float64) * (2 * math.pi / _TURN)
    cos, sin = torch.from_numpy(np.cos(angle)), torch.from_numpy(np.sin(angle))
    return cos.to(dtype).unsqueeze(1), sin.to(dtype).unsqueeze(1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x[i], x[i + D/2]) of [..., T, H, D] by their phases."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)
