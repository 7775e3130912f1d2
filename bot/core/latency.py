"""How long an order travels. A draw is a pure function of (seed, order id), so replays agree."""

from __future__ import annotations

from msgspec import Struct

_MASK = (1 << 64) - 1
_U16 = (1 << 16) - 1
_GOLDEN = 0x9E3779B97F4A7C15


class Latency(Struct, frozen=True):
    """``base_ns`` plus a normal jitter of ``jitter_ns`` (one sigma), never below 0."""

    base_ns: int = 0
    jitter_ns: int = 0
    seed: int = 0

    def draw_ns(self, order_id: int) -> int:
        if not self.jitter_ns:
            return self.base_ns
        # The sum of twelve uniforms is normal enough, and needs no library function whose last
        # digit may differ between platforms (Irwin-Hall: mean 6, variance 1).
        state = (self.seed * _GOLDEN + order_id) & _MASK
        total = 0
        for _ in range(3):
            state = (state + _GOLDEN) & _MASK
            drawn = _mix(state)
            total += (drawn & _U16) + (drawn >> 16 & _U16) + (drawn >> 32 & _U16) + (drawn >> 48)
        deviation = (total - 6 * _U16) * self.jitter_ns // _U16
        return max(0, self.base_ns + deviation)


def _mix(value: int) -> int:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
