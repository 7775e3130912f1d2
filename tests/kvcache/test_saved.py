"""A sequence that goes on after a restart as if nothing had been."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bot.kvcache import (
    CacheError,
    CacheSpec,
    KVCacheManager,
    OutOfBlocks,
    SavedSequenceError,
    WindowCache,
    load_sequence,
    save_sequence,
)
from bot.kvcache.layout import Layout
from tests.kvcache.test_lives import LAYERS, SPECS, split, vectors

PLAIN = SPECS["paged"]


def fresh(spec: CacheSpec = PLAIN) -> WindowCache:
    return KVCacheManager(1 << 20, slab_bytes=1 << 14).anonymous(spec)


def live(cache: WindowCache, seeds: range) -> list[torch.Tensor]:
    outs = []
    for seed in seeds:
        for layer in range(LAYERS):
            q, q_sink, k, v = split(vectors(seed, layer)[None])
            cache.append(layer, k, v)
            outs.append(cache.attend(layer, q, q_sink)[0])
    return outs


@pytest.mark.parametrize("name", sorted(SPECS))
@pytest.mark.parametrize("tokens", [0, 2, 50])
@pytest.mark.parametrize("origin", [0, 10**12 + 1])
def test_a_loaded_sequence_goes_on_bit_for_bit(
    name: str, tokens: int, origin: int, tmp_path: Path
) -> None:
    cache, again = fresh(SPECS[name]), fresh(SPECS[name])
    live(again, range(700, 720))  # what was there before goes
    cache.reset(origin)
    live(cache, range(tokens))
    cache.truncate(5)
    save_sequence(cache, tmp_path / "deep" / "s.safetensors", model="m")
    assert load_sequence(again, tmp_path / "deep" / "s.safetensors", model="m") is None
    assert (again.position, again.positions) == (cache.position, cache.positions)
    assert again.block_numbers == cache.block_numbers
    for ours, theirs in zip(live(cache, range(90, 140)), live(again, range(90, 140)), strict=True):
        assert torch.equal(ours, theirs)


def test_inputs_travel_along(tmp_path: Path) -> None:
    inputs = torch.randn(5, 3)
    save_sequence(fresh(), tmp_path / "s", model="m", inputs=inputs)
    found = load_sequence(fresh(), tmp_path / "s", model="m")
    assert found is not None
    assert torch.equal(found, inputs)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_another_spec_or_model_is_refused_by_name(tmp_path: Path) -> None:
    cache = fresh()
    live(cache, range(5))
    save_sequence(cache, tmp_path / "s", model="m")
    with pytest.raises(SavedSequenceError, match="written by model 'm', this is 'n'"):
        load_sequence(fresh(), tmp_path / "s", model="n")
    other = fresh(CacheSpec(2, 2, 4, 9, 3, "int8"))
    with pytest.raises(SavedSequenceError, match="window 7 in the file, 9 here"):
        load_sequence(other, tmp_path / "s", model="m")
    other = fresh(CacheSpec(2, 2, 4, 7, 4, "int4"))
    message = "block_size 3 in the file, 4 here; kv_cache_dtype 'int8' in the file, 'int4' here"
    with pytest.raises(SavedSequenceError, match=message):
        load_sequence(other, tmp_path / "s", model="m")
    assert other.position == 0


def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path) -> None:
    cache, path = fresh(), tmp_path / "s"
    live(cache, range(5))
    save_sequence(cache, path, model="m")
    whole = path.read_bytes()
    for broken in (b"", whole[:50], whole[:-9], whole[:-9] + b"x" + whole[-8:]):
        path.write_bytes(broken)
        with pytest.raises(SavedSequenceError, match=r"not a saved sequence|hash does not match"):
            load_sequence(fresh(), path, model="m")
    save_file({"blocks": torch.zeros(2)}, path)
    with pytest.raises(SavedSequenceError, match="not a saved sequence"):
        load_sequence(fresh(), path, model="m")
    with pytest.raises(SavedSequenceError, match="none: not a saved sequence"):
        load_sequence(fresh(), tmp_path / "none", model="m")


def test_a_sequence_without_room_to_load_stays_empty(tmp_path: Path) -> None:
    cache = fresh()
    live(cache, range(20))
    save_sequence(cache, tmp_path / "s", model="m")
    block_bytes = Layout(PLAIN).block_bytes
    small = KVCacheManager(2 * block_bytes, slab_bytes=block_bytes).anonymous(PLAIN)
    with pytest.raises(OutOfBlocks, match="needs 3 more blocks"):
        load_sequence(small, tmp_path / "s", model="m")
    assert (small.position, small.block_table, small.pool.used) == (0, (), 0)


def test_a_step_in_flight_cannot_be_saved(tmp_path: Path) -> None:
    cache = fresh()
    _, _, k, v = split(vectors(0, 0)[None])
    cache.append(0, k, v)
    with pytest.raises(CacheError, match="inside a step"):
        save_sequence(cache, tmp_path / "s", model="m")
