"""What the bytes of a block mean: four sections of [layer, head, token, element].

Head before token, so that one head's keys of a block lie together for the kernels that read them.
"""

from __future__ import annotations

import torch
from msgspec import Struct
from torch import Tensor

from bot.kvcache.quantize import format_named

_ALIGN = 64  # a cache line


class CacheSpec(Struct, frozen=True):
    """Everything that decides a cache's geometry. ``window`` counts the current token."""

    layers: int
    kv_heads: int
    head_dim: int
    window: int
    block_size: int = 16
    kv_cache_dtype: str = "int8"

    def __post_init__(self) -> None:
        format_named(self.kv_cache_dtype)
        for name in ("layers", "kv_heads", "head_dim", "window", "block_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def blocks_for(self, tokens: int) -> int:
        """The most blocks that a chunk of ``tokens`` and the window before it can touch."""
        held = self.window - 1 + tokens
        return -(-(held - 1) // self.block_size) + 1


class Views(Struct, frozen=True):
    """A pool's storage, typed: [slabs, per_slab, layers, heads, block_size, element]."""

    k_codes: Tensor
    v_codes: Tensor
    k_params: Tensor
    v_params: Tensor


class Layout:
    """Where each section of a spec's block starts, and how long the block is."""

    __slots__ = ("_sections", "block_bytes", "spec")

    def __init__(self, spec: CacheSpec) -> None:
        self.spec = spec
        kind = format_named(spec.kv_cache_dtype)
        codes = kind.codes(spec.head_dim)
        offset = 0
        self._sections: list[tuple[int, int, torch.dtype]] = []
        for width, dtype in (
            (codes, kind.code_dtype),
            (codes, kind.code_dtype),
            (kind.params, torch.float16),
            (kind.params, torch.float16),
        ):
            self._sections.append((offset, width, dtype))
            size = spec.layers * spec.kv_heads * spec.block_size * width * dtype.itemsize
            offset = -(-(offset + size) // _ALIGN) * _ALIGN
        self.block_bytes = offset

    @property
    def offsets(self) -> tuple[int, ...]:
        """Bytes from a block's start to its key codes, value codes, key and value params."""
        return tuple(offset for offset, _, _ in self._sections)

    def views(self, storage: Tensor) -> Views:
        """Typed views of a pool's ``storage``; writing to them writes the blocks."""
        return Views(*(self._view(storage, *section) for section in self._sections))

    def _view(self, storage: Tensor, offset: int, width: int, dtype: torch.dtype) -> Tensor:
        spec = self.spec
        shape = (spec.layers, spec.kv_heads, spec.block_size, width)
        if not width:
            return storage.new_empty((*storage.shape[:2], *shape), dtype=dtype)
        size = spec.layers * spec.kv_heads * spec.block_size * width * dtype.itemsize
        section = storage[..., offset : offset + size].view(dtype)
        return section.view(*storage.shape[:2], *shape)
