"""The composition law of attention states."""

import torch

from bot.kvcache.attention import attend, merge_sink, merge_state


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
