"""What the bytes of a block mean: four sections of [layer, head, token, element].

In order: key codes, value codes, key params, value params; each section starts on a cache line.
Head before token, so that one head's keys of a block lie together for the kernels that read them.
With D = head_dim, per layer, head and token:

==========  ==================  ==================  ============  ============  =================
dtype       key codes           value codes         key params    value params  bytes, D = 64
==========  ==================  ==================  ============  ============  =================
float64     D x float64         D x float64         -             -             512 + 512
float32     D x float32         D x float32         -             -             256 + 256
float16     D x float16         D x float16         -             -             128 + 128
int8        D x int8            D x int8            fp16 scale    fp16 scale    66 + 66
fp8_e4m3    D x uint8 (e4m3)    D x uint8 (e4m3)    fp16 scale    fp16 scale    66 + 66
int4        D/2 x uint8         D/2 x uint8         scale, zero   scale, zero   36 + 36
k8v4        D x int8            D/2 x uint8         fp16 scale    scale, zero   66 + 36
==========  ==================  ==================  ============  ============  =================

int8 codes of paged blocks lie in tiles instead (see ``tiles.py``) where block_size and head_dim let
them: so the native kernels need not sum across lanes.

A value is ``raw * scale + zero``. ``int4``: element 2 i is the low nibble of byte i, 2 i + 1 the
high one, raw is 0 to 15, and the params are two fp16 numbers, scale then zero. ``e4m3``: the bits
of a float8_e4m3fn (1 sign, 4 exponent with bias 7, 3 mantissa; no infinity; 0x7f is NaN).

The token at position p lies in logical block ``p // block_tokens`` at offset ``p % block_tokens``.
A contiguous cache has one block, a ring: sink i at offset i, every other token at offset
``sinks + p % (block_tokens - sinks)``.
"""

from __future__ import annotations

import math

import torch
from msgspec import Struct
from torch import Tensor

from bot.kvcache import tiles
from bot.kvcache.quantize import formats_named

_ALIGN = 64  # a cache line
RETENTIONS = ("attention_score", "recency", "entropy", "hybrid")
_LEAST_RETAINED_BLOCKS = 4


class CacheSpec(Struct, frozen=True):
    """Everything that decides a cache's geometry and what it keeps.

    ``window`` counts the current token. ``sinks`` first tokens of a sequence are kept beside the
    window. ``contiguous`` gives the sequence one block that holds all of it, and takes at most
    ``step_tokens`` at once. ``retention`` names a rule by which at most ``retain`` tokens of the
    window are kept. ``prefix`` names the model (its weights) whose full blocks may be shared
    between sequences; "" shares nothing.
    """

    layers: int
    kv_heads: int
    head_dim: int
    window: int
    block_size: int = 16
    kv_cache_dtype: str = "int8"
    sinks: int = 0
    contiguous: bool = False
    step_tokens: int = 64
    retention: str = ""
    retain: int = 0
    prefix: str = ""

    def __post_init__(self) -> None:
        for kind in formats_named(self.kv_cache_dtype):
            kind.codes(self.head_dim)
        for name in ("layers", "kv_heads", "head_dim", "window", "block_size", "step_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.sinks < 0:
            raise ValueError(f"sinks must not be negative, got {self.sinks}")
        if self.contiguous and (self.retention or self.prefix):
            raise ValueError(
                "a contiguous cache has no blocks to retain or share: use a paged one with "
                f"retention {self.retention!r} or prefix {self.prefix!r}"
            )
        self._check_retention()

    @property
    def block_tokens(self) -> int:
        """Tokens in one block."""
        if self.contiguous:
            return self.sinks + self.window - 1 + self.step_tokens
        return self.block_size

    def blocks_for(self, tokens: int) -> int:
        """The most blocks that a chunk of ``tokens`` and what is held before it can touch."""
        if self.contiguous:
            return 1
        held = self.window - 1 + tokens
        blocks = -(-(held - 1) // self.block_size) + 1
        if self.retention:
            blocks = min(blocks, self.retain_blocks + -(-(tokens - 1) // self.block_size) + 1)
        return blocks + self.sink_blocks

    @property
    def retain_blocks(self) -> int:
        return self.retain // self.block_size

    @property
    def sink_blocks(self) -> int:
        """The most blocks of their own that sinks can need."""
        return -(-(self.sinks - 1) // self.block_tokens) + 1 if self.sinks else 0

    def _check_retention(self) -> None:
        if not self.retention:
            if self.retain:
                raise ValueError(f"retain {self.retain} without a retention rule keeps nothing")
            return
        if self.retention not in RETENTIONS:
            known = ", ".join(RETENTIONS)
            raise ValueError(f"retention {self.retention!r} is not one of {known}")
        if self.prefix:
            raise ValueError(
                "selective blocks depend on what their sequence dropped and cannot be shared: "
                f"drop retention {self.retention!r} or prefix {self.prefix!r}"
            )
        if self.retain_blocks < _LEAST_RETAINED_BLOCKS:
            raise ValueError(
                f"retain {self.retain} tokens are {self.retain_blocks} blocks of "
                f"{self.block_size}: at least {_LEAST_RETAINED_BLOCKS} are needed to choose among"
            )


class Views(Struct, frozen=True):
    """A pool's storage, typed: [rows, layers, heads, block_tokens, element], or in tiles.

    A row starts every ``row_bytes``, the greatest step that meets every block's start, so rows
    overlap; only those that ``row_of`` gives are blocks.
    """

    k_codes: Tensor
    v_codes: Tensor
    k_params: Tensor
    v_params: Tensor
    slab_rows: int
    block_rows: int
    per_slab: int
    tiled: bool

    def row_of(self, block: int) -> int:
        """The row of a pool's block id."""
        slab, index = divmod(block, self.per_slab)
        return slab * self.slab_rows + index * self.block_rows


class Layout:
    """Where each section of a spec's block starts, and how long the block is."""

    __slots__ = ("_sections", "block_bytes", "spec")

    def __init__(self, spec: CacheSpec) -> None:
        self.spec = spec
        keys, values = formats_named(spec.kv_cache_dtype)
        offset = 0
        self._sections: list[tuple[int, int, torch.dtype]] = []
        for width, dtype in (
            (keys.codes(spec.head_dim), keys.code_dtype),
            (values.codes(spec.head_dim), values.code_dtype),
            (keys.params, torch.float16),
            (values.params, torch.float16),
        ):
            self._sections.append((offset, width, dtype))
            size = spec.layers * spec.kv_heads * spec.block_tokens * width * dtype.itemsize
            offset = -(-(offset + size) // _ALIGN) * _ALIGN
        self.block_bytes = offset

    @property
    def tiled(self) -> bool:
        """Whether the codes lie in tiles."""
        spec = self.spec
        paged = not spec.contiguous and spec.kv_cache_dtype == "int8"
        return paged and tiles.fit(spec.block_size, spec.head_dim)

    @property
    def token_bytes(self) -> float:
        """Bytes of one token over all layers: codes and scales, alignment included."""
        return self.block_bytes / self.spec.block_tokens

    @property
    def offsets(self) -> tuple[int, ...]:
        """Bytes from a block's start to each of its four sections."""
        return tuple(offset for offset, _, _ in self._sections)

    def views(self, storage: Tensor) -> Views:
        """Typed views of a pool's ``storage`` [slabs, per_slab, block_bytes]; writing to them
        writes the blocks. One row number a block makes a gather one ``index_select``."""
        slabs, per_slab, slab_bytes = *storage.shape[:2], storage.stride(0)
        row_bytes = math.gcd(slab_bytes, self.block_bytes)
        last = (slabs - 1) * slab_bytes + (per_slab - 1) * self.block_bytes
        spec = self.spec
        shape = (spec.layers, spec.kv_heads, spec.block_tokens)
        typed = []
        for offset, width, dtype in self._sections:
            rows = (last // row_bytes + 1, math.prod(shape) * width * dtype.itemsize)
            section = storage.as_strided(rows, (row_bytes, 1), storage.storage_offset() + offset)
            typed.append(section.view(dtype).view(rows[0], *shape, width))
        k_codes, v_codes, k_params, v_params = typed
        if self.tiled:
            heads = (-1, spec.layers, spec.kv_heads)
            k_codes = k_codes.view(*heads, *tiles.key_shape(spec.block_size, spec.head_dim))
            v_codes = v_codes.view(*heads, *tiles.value_shape(spec.block_size, spec.head_dim))
        return Views(
            k_codes=k_codes,
            v_codes=v_codes,
            k_params=k_params,
            v_params=v_params,
            slab_rows=slab_bytes // row_bytes,
            block_rows=self.block_bytes // row_bytes,
            per_slab=per_slab,
            tiled=self.tiled,
        )
