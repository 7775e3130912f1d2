"""How a head's vector becomes codes and fp16 numbers, and back. Pure functions of tensors.

Every format is affine: a value is ``raw * scale + zero`` with ``scale`` and ``zero`` per token and
head. So attention can work on the raw codes and apply both to the scores and the weights, S
numbers a head instead of S * D (see ``attention.py``). Nothing is calibrated: a format needs one
row to encode it, as a stream must.
"""

from __future__ import annotations

from typing import Protocol

import torch
from msgspec import Struct
from torch import Tensor

_LEAST_SCALE = 2.0**-14  # the smallest normal fp16: a zero or tiny row must not divide by zero
_FP16_MAX = 65504.0
_E4M3_MAX = 448.0
_E4M3_VALUES = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).to(torch.float64)


class Coded(Struct, frozen=True):
    """Values as ``raw * scale + zero``; an absent scale is 1, an absent zero is 0."""

    raw: Tensor  # [..., D]
    scale: Tensor | None = None  # [..., 1]
    zero: Tensor | None = None  # [..., 1]

    def dense(self) -> Tensor:
        """The values [..., D]."""
        x = self.raw if self.scale is None else self.raw * self.scale
        return x if self.zero is None else x + self.zero


class Format(Protocol):
    """What a cache needs to know of a storage format."""

    @property
    def code_dtype(self) -> torch.dtype: ...

    @property
    def params(self) -> int:
        """fp16 numbers stored per token and head beside the codes."""

    @property
    def limit(self) -> float:
        """The largest magnitude that can be stored."""

    def codes(self, head_dim: int) -> int:
        """Code elements stored per token and head. Raises ValueError for an impossible D."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[..., D] to codes [..., codes(D)] and fp16 params [..., params]."""

    def decode(self, codes: Tensor, params: Tensor, dtype: torch.dtype) -> Coded:
        """The inverse of ``encode``, in ``dtype``."""


class Exact(Struct, frozen=True):
    """The values themselves, in a floating-point type."""

    code_dtype: torch.dtype
    params: int = 0

    @property
    def limit(self) -> float:
        return torch.finfo(self.code_dtype).max

    def codes(self, head_dim: int) -> int:
        return head_dim

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.to(self.code_dtype), x.new_empty((*x.shape[:-1], 0), dtype=torch.float16)

    def decode(self, codes: Tensor, params: Tensor, dtype: torch.dtype) -> Coded:
        del params
        return Coded(codes.to(dtype))


class Int8(Struct, frozen=True):
    """``round(x / scale)`` in [-127, 127]; ``scale = max|x| / 127`` as fp16, never 0.

    Codes are taken against the *rounded* scale, so the fp16 error of the scale is not added to
    the values. What lies beyond ``limit`` makes the scale infinite and shows in the output.
    """

    code_dtype: torch.dtype = torch.int8
    params: int = 1
    limit: float = 127 * _FP16_MAX

    def codes(self, head_dim: int) -> int:
        return head_dim

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        peak = x.abs().amax(-1, keepdim=True)
        params = (peak / 127.0).clamp_min(_LEAST_SCALE).to(torch.float16)
        codes = (x / params.to(x.dtype)).round_().clamp_(-127, 127)
        return codes.nan_to_num_().to(torch.int8), params

    def decode(self, codes: Tensor, params: Tensor, dtype: torch.dtype) -> Coded:
        return Coded(codes.to(dtype), params.to(dtype))


class Fp8E4M3(Struct, frozen=True):
    """``x / scale`` as float8 e4m3 (OCP, 2023) with ``scale = max|x| / 448`` as fp16, never 0.

    Clamped before the cast, since casts beyond 448 saturate in some releases of torch and give
    NaN in others; stored as uint8, since most operators do not know float8 on a CPU.
    """

    code_dtype: torch.dtype = torch.uint8
    params: int = 1
    limit: float = _E4M3_MAX * _FP16_MAX

    def codes(self, head_dim: int) -> int:
        return head_dim

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        peak = x.abs().amax(-1, keepdim=True)
        params = (peak / _E4M3_MAX).clamp_min(_LEAST_SCALE).to(torch.float16)
        scaled = (x / params.to(x.dtype)).clamp_(-_E4M3_MAX, _E4M3_MAX)
        return scaled.to(torch.float8_e4m3fn).view(torch.uint8), params

    def decode(self, codes: Tensor, params: Tensor, dtype: torch.dtype) -> Coded:
        # a table is twice as fast as torch's cast on a CPU
        raw = _E4M3_VALUES.to(codes.device, dtype).index_select(0, codes.flatten().int())
        return Coded(raw.view(codes.shape), params.to(dtype))


class Int4(Struct, frozen=True):
    """``round((x - zero) / scale)`` in [0, 15], two a byte, the low nibble the even index.

    Asymmetric: ``zero = min x`` and ``scale = (max x - min x) / 15``, both as fp16; codes are taken
    against the rounded pair. The params of a row are (scale, zero).
    """

    code_dtype: torch.dtype = torch.uint8
    params: int = 2
    limit: float = _FP16_MAX

    def codes(self, head_dim: int) -> int:
        if head_dim % 2:
            raise ValueError(f"int4 packs two values a byte: head_dim must be even, got {head_dim}")
        return head_dim // 2

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        zero = x.amin(-1, keepdim=True).to(torch.float16)
        span = x.amax(-1, keepdim=True) - zero.to(x.dtype)
        scale = (span / 15.0).clamp_min(_LEAST_SCALE).to(torch.float16)
        steps = ((x - zero.to(x.dtype)) / scale.to(x.dtype)).round_().clamp_(0, 15)
        nibbles = steps.nan_to_num_().to(torch.uint8)
        packed = nibbles[..., 0::2] | (nibbles[..., 1::2] << 4)
        return packed, torch.cat((scale, zero), dim=-1)

    def decode(self, codes: Tensor, params: Tensor, dtype: torch.dtype) -> Coded:
        nibbles = torch.stack((codes & 15, codes >> 4), dim=-1).flatten(-2)
        scale, zero = params.to(dtype).chunk(2, dim=-1)
        return Coded(nibbles.to(dtype), scale, zero)


FORMATS: dict[str, Format] = {
    "float64": Exact(torch.float64),
    "float32": Exact(torch.float32),
    "float16": Exact(torch.float16),
    "int8": Int8(),
    "fp8_e4m3": Fp8E4M3(),
    "int4": Int4(),
}
"""Formats of one vector by name. float64 is there for proofs."""

KV_CACHE_DTYPES: dict[str, tuple[str, str]] = {
    **{name: (name, name) for name in FORMATS},
    "k8v4": ("int8", "int4"),
}
"""``kv_cache_dtype`` to the formats of keys and of values. An error in the keys moves the weights,
one in the values only averages into the output, so the values can do with fewer bits."""

QUANTIZED = frozenset({"int8", "fp8_e4m3", "int4", "k8v4"})


def formats_named(kv_cache_dtype: str) -> tuple[Format, Format]:
    """The formats of keys and values. Raises ValueError that names those there are."""
    found = KV_CACHE_DTYPES.get(kv_cache_dtype)
    if found is None:
        known = ", ".join(sorted(KV_CACHE_DTYPES))
        raise ValueError(f"kv_cache_dtype {kv_cache_dtype!r} is not one of {known}")
    keys, values = found
    return FORMATS[keys], FORMATS[values]


def round_trip(x: Tensor, kv_cache_dtype: str) -> Tensor:
    """What a cache gives back for keys or values ``x`` [..., D] stored in this format of one
    vector (k8v4 is two: int8 for keys, int4 for values)."""
    kind = FORMATS.get(kv_cache_dtype)
    if kind is None:
        raise ValueError(
            f"kv_cache_dtype {kv_cache_dtype!r} is not one of {', '.join(sorted(FORMATS))}"
        )
    codes, params = kind.encode(x)
    return kind.decode(codes, params, x.dtype).dense()
