"""Codes in tiles are those in rows, elsewhere: held against the places that the kernels name."""

from __future__ import annotations

import pytest
import torch

from bot.kvcache import tiles

BLOCKS, HEADS, BLOCK_SIZE = 3, 2, 32


def _codes(tokens: int, head_dim: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(
        -127, 128, (tokens, HEADS, head_dim), generator=generator, dtype=torch.int8
    )


def _empty(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(BLOCKS, HEADS, *shape, dtype=torch.int8)


@pytest.mark.parametrize("head_dim", [32, 64, 128])
@pytest.mark.parametrize("at_once", [1, 5, BLOCK_SIZE])
def test_keys_and_values_come_back_as_they_were_put(head_dim: int, at_once: int) -> None:
    codes = _codes(BLOCKS * BLOCK_SIZE, head_dim)
    keys, values = (
        _empty(shape(BLOCK_SIZE, head_dim)) for shape in (tiles.key_shape, tiles.value_shape)
    )
    for block in range(BLOCKS):
        for offset in range(0, BLOCK_SIZE, at_once):
            first = block * BLOCK_SIZE + offset
            part = codes[first : min(first + at_once, (block + 1) * BLOCK_SIZE)]
            tiles.put_keys(keys[block], offset, part)
            tiles.put_values(values[block], offset, part)
    assert torch.equal(tiles.take_keys(keys), codes.transpose(0, 1))
    assert torch.equal(tiles.take_values(values), codes.transpose(0, 1))


def test_an_element_lies_where_the_kernels_look_for_it() -> None:
    head_dim = 64
    codes = _codes(BLOCK_SIZE, head_dim)
    keys, values = (
        _empty(shape(BLOCK_SIZE, head_dim)) for shape in (tiles.key_shape, tiles.value_shape)
    )
    tiles.put_keys(keys[0], 0, codes)
    tiles.put_values(values[0], 0, codes)
    key_bytes, value_bytes = keys[0, 1].flatten(), values[0, 1].flatten()
    for token in (0, 3, 17, 31):
        for element in (0, 5, 31, 63):
            code = codes[token, 1, element]
            group, lane, quad = token // 16, token % 16, element // 4
            assert key_bytes[group * 16 * head_dim + quad * 64 + lane * 4 + element % 4] == code
            assert value_bytes[token // 4 * 4 * head_dim + element * 4 + token % 4] == code


@pytest.mark.parametrize(
    ("block_size", "head_dim", "fits"),
    [(16, 32, True), (64, 96, True), (8, 32, False), (16, 48, False)],
)
def test_tiles_need_sixteen_tokens_and_thirty_two_elements(
    block_size: int, head_dim: int, *, fits: bool
) -> None:
    assert tiles.fit(block_size, head_dim) is fits
