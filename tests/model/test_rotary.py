"""Rotary phases keep every digit at every position."""

import mpmath
import numpy as np
import pytest
import torch

from bot.model.rotary import frequencies, phases, rotate


@pytest.mark.parametrize("position", [0, 1, 1000, 10**9, 10**15])
def test_phases_match_high_precision_arithmetic(position: int) -> None:
    cos, sin = phases(frequencies(32, 10_000.0), position, 1, torch.float64)
    with mpmath.workdps(60):
        for pair in range(16):
            # the stored frequency is the ideal one rounded to 2^-65 turns per token
            angle = position * mpmath.mpf(10_000.0 ** (-2 * pair / 32))
            allowed = 1e-15 + position * 2.0**-62
            assert abs(mpmath.cos(angle) - cos[0, 0, pair].item()) < allowed
            assert abs(mpmath.sin(angle) - sin[0, 0, pair].item()) < allowed


@pytest.mark.parametrize("offset", [10**6, 10**9, 10**17])
def test_scores_depend_on_the_distance_alone(offset: int) -> None:
    turns = frequencies(16, 10_000.0)
    generator = torch.Generator().manual_seed(1)
    q, k = (torch.randn(9, 1, 16, generator=generator, dtype=torch.float64) for _ in range(2))

    def scores(first: int) -> torch.Tensor:
        cos, sin = phases(turns, first, 9, torch.float64)
        return rotate(q, cos, sin).squeeze(1) @ rotate(k, cos, sin).squeeze(1).T

    assert torch.allclose(scores(offset), scores(0), atol=1e-13)


def test_a_rotation_keeps_lengths() -> None:
    x = torch.randn(5, 2, 8, dtype=torch.float64)
    cos, sin = phases(frequencies(8, 10_000.0), 12345, 5, torch.float64)
    assert torch.allclose(rotate(x, cos, sin).norm(dim=-1), x.norm(dim=-1))


def test_frequencies_fall_from_one_radian_per_token() -> None:
    turns = frequencies(8, 10_000.0)
    radians = turns.astype(np.float64) * (2 * np.pi / 2**64)
    assert np.allclose(radians, [1.0, 0.1, 0.01, 0.001])


def test_an_odd_head_is_refused() -> None:
    with pytest.raises(ValueError, match="got 7"):
        frequencies(7, 10_000.0)
