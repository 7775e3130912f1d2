"""The composition law of attention states."""

import pytest
import torch

from bot.kvcache import round_trip
from bot.kvcache.attention import attend, attend_coded, merge_sink, merge_state
from bot.kvcache.quantize import FORMATS


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_attend_is_torchs_attention() -> None:
    q, k, v = draw(1, 5, 6, 8), draw(2, 3, 11, 8), draw(3, 3, 11, 8)
    visible = torch.ones(5, 11, dtype=torch.bool).tril(6)
    out, _ = attend(q, k, v, visible=visible)
    expected = torch.nn.functional.scaled_dot_product_attention(
        q.transpose(0, 1), k, v, attn_mask=visible, enable_gqa=True
    )
    assert torch.allclose(out, expected.transpose(0, 1), atol=1e-12)


def test_merging_the_parts_in_any_order_is_the_whole() -> None:
    q, k, v = draw(1, 2, 3, 4), draw(2, 3, 9, 4), draw(3, 3, 9, 4)
    whole, whole_lse = attend(q, k, v)
    a, b, c = (attend(q, k[:, part], v[:, part]) for part in (slice(2), slice(2, 5), slice(5, 9)))
    for first, second, third in ((a, b, c), (c, a, b), (b, c, a)):
        left = merge_state(*merge_state(*first, *second), *third)
        right = merge_state(*first, *merge_state(*second, *third))
        for out, lse in (left, right):
            assert torch.allclose(out, whole, atol=1e-12)
            assert torch.allclose(lse, whole_lse, atol=1e-12)


def test_a_sink_is_a_segment_of_one_key_with_value_zero() -> None:
    q, k, v, sink = draw(1, 2, 3, 4), draw(2, 3, 7, 4), draw(3, 3, 7, 4), draw(4, 3)
    out, lse = attend(q, k, v)
    merged, _ = merge_state(out, lse, torch.zeros_like(out), sink.expand(2, 3))
    assert torch.allclose(merge_sink(out, lse, sink), merged, atol=1e-12)


def test_states_of_very_different_size_merge_without_overflow() -> None:
    out, lse = merge_state(
        torch.ones(1, 2), torch.tensor([1e4]), torch.zeros(1, 2), torch.tensor([-1e4])
    )
    assert torch.equal(out, torch.ones(1, 2))
    assert lse.item() == 1e4


def test_a_query_that_sees_nothing_adds_nothing() -> None:
    q, k, v = draw(1, 2, 3, 4), draw(2, 3, 7, 4), draw(3, 3, 7, 4)
    visible = torch.tensor([[True] * 7, [False] * 7])
    out, lse = attend(q, k, v, visible=visible)
    assert torch.equal(out[1], torch.zeros(3, 4).double())
    assert torch.equal(lse[1], torch.full((3,), -torch.inf).double())
    whole, whole_lse = attend(q, k, v)
    merged, merged_lse = merge_state(out, lse, whole, whole_lse)
    assert torch.allclose(merged[1], whole[1], atol=1e-12)
    assert torch.allclose(merged_lse[1], whole_lse[1], atol=1e-12)
    nothing, _ = merge_state(out[1:], lse[1:], out[1:], lse[1:])
    assert torch.equal(nothing, torch.zeros_like(nothing))


@pytest.mark.parametrize("keys", sorted(FORMATS))
@pytest.mark.parametrize("values", sorted(FORMATS))
def test_attention_on_codes_is_attention_on_dequantized_values(keys: str, values: str) -> None:
    q = draw(1, 5, 6, 16).float()
    k, v = 3 * draw(2, 3, 40, 16).float() + 1, draw(3, 3, 40, 16).float() - 1
    visible = torch.ones(5, 40, dtype=torch.bool).tril(35)
    coded_k, coded_v = (
        FORMATS[name].decode(*FORMATS[name].encode(x), torch.float32)
        for name, x in ((keys, k), (values, v))
    )
    fused, fused_lse, _ = attend_coded(q, coded_k, coded_v, visible=visible)
    plain, plain_lse = attend(q, round_trip(k, keys), round_trip(v, values), visible=visible)
    assert (fused - plain).abs().max() < 1e-5
    assert (fused_lse - plain_lse).abs().max() < 1e-5
