"""How a head's vector becomes codes and scales, and back. Pure functions of tensors.

``int8`` is symmetric with one fp16 scale per token and head: no calibration, no zero point, and
a fourth of float32's bytes at an attention error near 1 % on Gaussian heads.
"""

from __future__ import annotations

from typing import Protocol

import torch
from msgspec import Struct
from torch import Tensor

_LEAST_SCALE = 2.0**-14  # the smallest normal fp16: a zero or tiny row must not divide by zero


class Format(Protocol):
    """What a cache needs to know of a storage format."""

    @property
    def code_dtype(self) -> torch.dtype: ...

    @property
    def params(self) -> int:
        """fp16 numbers stored per token and head beside the codes."""

    def codes(self, head_dim: int) -> int:
        """Code elements stored per token and head."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[..., D] to codes [..., codes(D)] and fp16 params [..., params]."""

    def decode(self, codes: Tensor, params: Tensor, dtype: torch.dtype) -> Tensor:
        """The inverse of ``encode``, as ``dtype`` [..., D]."""


class Exact(Struct, frozen=True):
    """The values themselves, in a floating-point type."""

    code_dtype: torch.dtype
    params: int = 0

    def codes(self, head_dim: int) -> int:
        return head_dim

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.to(self.code_dtype), x.new_empty((*x.shape[:-1], 0), dtype=torch.float16)

    def decode(self, codes: Tensor, params: Tensor, dtype: torch.dtype) -> Tensor:
        del params
        return codes.to(dtype)


class Int8(Struct, frozen=True):
    """``round(x / scale)`` in [-127, 127]; ``scale = max|x| / 127`` as fp16, never 0.

    Codes are taken against the *rounded* scale, so the fp16 error of the scale is not added to
    the values. A NaN, an infinity or a magnitude above 127 * 65504 makes the scale non-finite,
    and so shows in the output instead of vanishing.
    """

    code_dtype: torch.dtype = torch.int8
    params: int = 1

    def codes(self, head_dim: int) -> int:
        return head_dim

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        peak = x.abs().amax(-1, keepdim=True)
        params = (peak / 127.0).clamp_min(_LEAST_SCALE).to(torch.float16)
        codes = (x / params.to(x.dtype)).round_().clamp_(-127, 127)
        return codes.nan_to_num_().to(torch.int8), params

    def decode(self, codes: Tensor, params: Tensor, dtype: torch.dtype) -> Tensor:
        return codes.to(dtype) * params.to(dtype)


FORMATS: dict[str, Format] = {
    "float32": Exact(torch.float32),
    "float64": Exact(torch.float64),
    "int8": Int8(),
}
"""Formats by ``kv_cache_dtype``. float64 is there for proofs."""


def format_named(kv_cache_dtype: str) -> Format:
    """Raises ValueError that names the formats there are."""
    found = FORMATS.get(kv_cache_dtype)
    if found is None:
        known = ", ".join(sorted(FORMATS))
        raise ValueError(f"kv_cache_dtype {kv_cache_dtype!r} is not one of {known}")
    return found


def round_trip(x: Tensor, kv_cache_dtype: str) -> Tensor:
    """What a cache of this format gives back for ``x`` [..., D]."""
    kind = format_named(kv_cache_dtype)
    codes, params = kind.encode(x)
    return kind.decode(codes, params, x.dtype)
