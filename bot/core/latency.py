"""How long an order travels. A draw is a pure function of (seed, order id), so replays agree."""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

_MASK = (1 << 64) - 1
_U16 = (1 << 16) - 1


class Latency(Struct, frozen=True):
    """``base_ns`` plus a normal jitter of ``jitter_ns`` (one sigma), never below 0.

    With ``is_measured`` the one-way time to the venue that was last measured and recorded stands
    in for ``base_ns``, once there is one.
    """

    base_ns: int = 0
    jitter_ns: int = 0
    seed: int = 0
    is_measured: bool = False

    def draw_ns(self, order_id: int, measured_ns: int = 0) -> int:
        """``measured_ns`` is the one-way time last measured, 0 for none yet."""
        base_ns = measured_ns if self.is_measured and measured_ns else self.base_ns
        if not self.jitter_ns:
            return base_ns
        return max(0, base_ns + _deviation(self.seed, order_id) * self.jitter_ns // _U16)


@lru_cache(maxsize=4096)
def _deviation(seed: int, order_id: int) -> int:
    """A normal number of sigma 1 in units of 1 / 65535, the same for ever for its arguments.

    The sum of four uniforms, scaled by sqrt(3), is normal enough (Irwin-Hall: mean 2, variance
    1/3; at most 3.5 sigma), and needs no function whose last digit may differ between platforms.
    """
    drawn = _mix((seed * 0x9E3779B97F4A7C15 + order_id) & _MASK)
    total = (drawn & _U16) + (drawn >> 16 & _U16) + (drawn >> 32 & _U16) + (drawn >> 48)
    return (total - 2 * _U16) * 1732 // 1000


def _mix(value: int) -> int:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
