# C functions over raw addresses; see module.c
from typing import TypeAlias

Handle: TypeAlias = object  # a capsule

MAX_ROWS: int

Shape: TypeAlias = tuple[int, int, int, int, int, int, int, int, int]
Span: TypeAlias = tuple[Handle, dict[int, int], int, int, int]

def isas() -> list[str]: ...
def create(isa: str, threads: int, shape: Shape, addresses: tuple[int, ...], /) -> Handle: ...
def storage(
    address: int,
    slabs: int,
    slab_bytes: int,
    per_slab: int,
    block_bytes: int,
    cache_format: int,
    layers: int,
    kv_heads: int,
    head_dim: int,
    block_size: int,
    offsets: tuple[int, ...],
    /,
) -> Handle: ...
def step(decoder: Handle, x: int, out: int, spans: list[Span], /) -> None: ...
def first_not_finite(address: int, count: int, /) -> int: ...
def read(decoder: Handle, address: int, count: int, /) -> None: ...
def advise_huge_pages(address: int, count: int, /) -> None: ...
