"""Storage formats: exact codes, bounded errors, nothing that vanishes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bot.kvcache import round_trip
from bot.kvcache.quantize import FORMATS


def test_int8_codes_round_half_to_even() -> None:
    row = torch.tensor([-127.0, -2.6, -2.5, -1.5, -1.4, -0.6, -0.5, 0.5, 1.5, 2.5, 127.0])
    codes, scale = FORMATS["int8"].encode(row)
    assert scale.item() == 1.0
    assert codes.tolist() == [-127, -3, -2, -2, -1, -1, 0, 0, 2, 2, 127]


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=64),
)
def test_int8_error_is_at_most_half_a_step_of_the_stored_scale(values: list[float]) -> None:
    row = torch.tensor(values, dtype=torch.float64)
    codes, scale = FORMATS["int8"].encode(row)
    step = scale.double().item()
    back = FORMATS["int8"].decode(codes, scale, torch.float64)
    # fp16 may round the scale down by 2^-11, which saturates the peak by at most that much
    slack = row.abs().max().item() * 2.0**-11
    assert (back - row).abs().max().item() <= max(step / 2, slack) + 1e-12


def test_each_token_and_head_has_its_own_scale() -> None:
    x = torch.randn(5, 3, 16) * torch.logspace(-1, 3, 15).view(5, 3, 1)
    error = (round_trip(x, "int8") - x).abs().amax(-1) / x.abs().amax(-1)
    assert error.max() < 0.5 / 127 + 2.0**-10


def test_zero_and_constant_rows_come_back_without_nan() -> None:
    x = torch.stack((torch.zeros(8), torch.full((8,), 3.0), torch.full((8,), 1e-9)))
    back = round_trip(x, "int8")
    assert torch.allclose(back, x, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
def test_what_int8_cannot_hold_stays_visible(bad: float) -> None:
    back = round_trip(torch.tensor([1.0, bad, 2.0]), "int8")
    assert not torch.isfinite(back).all()


def test_exact_formats_change_nothing() -> None:
    x = torch.randn(4, 2, 8)
    assert torch.equal(round_trip(x, "float32"), x)
    assert torch.equal(round_trip(x.double(), "float64"), x.double())


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'int3' is not one of float32, float64, int8"):
        round_trip(torch.zeros(1), "int3")
