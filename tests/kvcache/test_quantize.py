"""Codes and scales, format by format."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bot.kvcache import CacheSpec, round_trip
from bot.kvcache.layout import Layout
from bot.kvcache.quantize import FORMATS, KV_CACHE_DTYPES, QUANTIZED

VECTOR_FORMATS = ("int8", "fp8_e4m3", "int4")


def test_int8_codes_round_half_to_even() -> None:
    row = torch.tensor([-127.0, -2.6, -2.5, -1.5, -1.4, -0.6, -0.5, 0.5, 1.5, 2.5, 127.0])
    codes, scale = FORMATS["int8"].encode(row)
    assert scale.item() == 1.0
    assert codes.tolist() == [-127, -3, -2, -2, -1, -1, 0, 0, 2, 2, 127]


def test_int4_codes_lie_two_a_byte_with_the_even_index_low() -> None:
    row = torch.arange(16.0) - 5
    codes, params = FORMATS["int4"].encode(row)
    assert params.tolist() == [1.0, -5.0]
    assert codes.tolist() == [low | (low + 1) << 4 for low in range(0, 16, 2)]
    assert torch.equal(round_trip(row, "int4"), row)


def test_fp8_codes_are_the_bits_of_e4m3() -> None:
    # by the format's definition: sign, 4 exponent bits with bias 7, 3 mantissa bits
    values = [448.0, -448.0, 1.0, 1.125, 0.0, 2.0**-9, -(2.0**-6), 240.0]
    codes, scale = FORMATS["fp8_e4m3"].encode(torch.tensor(values))
    assert scale.item() == 1.0
    assert codes.tolist() == [0x7E, 0xFE, 0x38, 0x39, 0x00, 0x01, 0x88, 0x77]
    assert torch.equal(round_trip(torch.tensor(values), "fp8_e4m3"), torch.tensor(values))


def bound(row: torch.Tensor, name: str, params: torch.Tensor) -> float:
    """The largest error that the format's definition allows for a row."""
    peak = row.abs().max().item()
    step = params[0].item()
    # fp16 may round the scale down by 2^-11, which saturates the peak by at most that much
    slack = peak * 2.0**-11
    if name == "fp8_e4m3":
        return max(peak * 2.0**-4 * (1 + 2.0**-10), slack, step * 2.0**-10)
    if name == "int8":
        return max(step / 2, slack)
    span = (row.max() - row.min()).item()
    return step / 2 + slack + span * 2.0**-11


@pytest.mark.parametrize("name", VECTOR_FORMATS)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=32))
def test_the_error_is_at_most_half_a_step_of_the_stored_scale(
    name: str, values: list[float]
) -> None:
    row = torch.tensor(values * 2, dtype=torch.float64)
    _, params = FORMATS[name].encode(row)
    error = (round_trip(row, name) - row).abs().max().item()
    assert error <= bound(row, name, params) + 1e-12


@pytest.mark.parametrize(("name", "most"), [("int8", 0.005), ("fp8_e4m3", 0.064), ("int4", 0.07)])
def test_each_token_and_head_has_its_own_scale(name: str, most: float) -> None:
    x = torch.randn(5, 3, 16) * torch.logspace(-1, 3, 15).view(5, 3, 1)
    error = (round_trip(x, name) - x).abs().amax(-1) / x.abs().amax(-1)
    assert error.max() < most


@pytest.mark.parametrize("name", VECTOR_FORMATS)
def test_zero_constant_tiny_and_huge_rows_come_back_without_nan(name: str) -> None:
    x = torch.stack(
        [torch.full((8,), value) for value in (0.0, 3.0, -3.0, 1e-9, -1e-30, 6e4)]
        + [torch.linspace(-6e4, 6e4, 8)]
    )
    back = round_trip(x, name)
    assert torch.isfinite(back).all()
    assert (back[:5] - x[:5]).abs().max() < 2e-3
    assert torch.equal(back[0], x[0])
    assert ((back[5:] - x[5:]).abs() / 6e4).max() < 0.07


@pytest.mark.parametrize("name", VECTOR_FORMATS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
def test_what_a_format_cannot_hold_stays_visible(name: str, bad: float) -> None:
    assert not abs(bad) <= FORMATS[name].limit
    assert not torch.isfinite(round_trip(torch.tensor([1.0, bad, 2.0, 3.0]), name)).all()


@pytest.mark.parametrize("name", VECTOR_FORMATS)
def test_the_largest_magnitude_that_fits_does(name: str) -> None:
    x = torch.tensor([0.0, 1.0, FORMATS[name].limit, 2.0], dtype=torch.float64)
    back = round_trip(x, name)
    assert torch.isfinite(back).all()
    assert abs(back[2] / x[2] - 1) < 1e-3


def test_exact_formats_change_nothing() -> None:
    x = torch.randn(4, 2, 8)
    assert torch.equal(round_trip(x, "float32"), x)
    assert torch.equal(round_trip(x.double(), "float64"), x.double())
    assert torch.equal(round_trip(x, "float16"), x.half().float())


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'int3' is not one of float16, .*int8"):
        round_trip(torch.zeros(1), "int3")
    with pytest.raises(ValueError, match=r"'int3' is not one of .*k8v4"):
        CacheSpec(1, 1, 2, 1, kv_cache_dtype="int3")


def test_an_odd_head_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="must be even, got 5"):
        CacheSpec(1, 1, 5, 1, kv_cache_dtype="k8v4")


def bytes_per_token(kv_cache_dtype: str, *, layers: int, heads: int, head_dim: int) -> float:
    spec = CacheSpec(layers, heads, head_dim, window=4096, kv_cache_dtype=kv_cache_dtype)
    return Layout(spec).token_bytes


@pytest.mark.parametrize(("name", "most"), [("int8", 0.52), ("k8v4", 0.42), ("int4", 0.30)])
def test_bytes_of_six_layers_of_eight_heads_of_64_against_fp16(name: str, most: float) -> None:
    sizes = [bytes_per_token(d, layers=6, heads=8, head_dim=64) for d in (name, "float16")]
    assert sizes[1] == 6 * 8 * 2 * 64 * 2
    assert sizes[0] / sizes[1] <= most


def test_fp8_takes_the_bytes_of_int8() -> None:
    sizes = {d: bytes_per_token(d, layers=4, heads=4, head_dim=32) for d in KV_CACHE_DTYPES}
    assert sizes["fp8_e4m3"] == sizes["int8"]
    assert sorted(QUANTIZED, key=sizes.__getitem__)[:2] == ["int4", "k8v4"]
