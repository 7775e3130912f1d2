"""C functions over raw addresses; ``step.py`` is the only caller."""

from types import CapsuleType
from typing import TypeAlias

MAX_ROWS: int

Shape: TypeAlias = tuple[int, int, int, int, int, int, int, int, int]
Span: TypeAlias = tuple[CapsuleType, list[int], int, int, int, int]

def isas() -> list[str]: ...
def create(
    isa: str, threads: int, shape: Shape, addresses: tuple[int, ...], /
) -> CapsuleType: ...
def storage(
    address: int,
    slabs: int,
    slab_bytes: int,
    per_slab: int,
    block_bytes: int,
    format: int,
    layers: int,
    kv_heads: int,
    head_dim: int,
    block_size: int,
    offsets: tuple[int, ...],
    /,
) -> CapsuleType: ...
def step(decoder: CapsuleType, x: int, out: int, spans: list[Span], /) -> None: ...
def first_not_finite(address: int, count: int, /) -> int: ...
def read(decoder: CapsuleType, address: int, count: int, /) -> None: ...
def advise_huge_pages(address: int, count: int, /) -> None: ...
