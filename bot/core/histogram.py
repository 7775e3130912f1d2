"""A histogram of durations in a fixed number of buckets, 19 % wide each."""

from __future__ import annotations

_PER_OCTAVE = 4
_BUCKETS = 64 * _PER_OCTAVE


class LatencyHistogram:
    """Counts durations in nanoseconds; written by one thread, readable from another."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS

    def add(self, duration_ns: int) -> None:
        self._counts[_bucket(duration_ns)] += 1

    @property
    def total(self) -> int:
        """Durations counted."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[int, int]]:
        """(upper edge in ns, durations counted) of every bucket that is not empty."""
        counts = tuple(self._counts)
        return [(_upper_edge(index), count) for index, count in enumerate(counts) if count]

    def quantile(self, share: float) -> int:
        """The upper edge of the bucket below which ``share`` of the durations lie, 0 if none."""
        counts = tuple(self._counts)
        rank = share * sum(counts)
        seen = 0
        for index, count in enumerate(counts):
            seen += count
            if count and seen >= rank:
                return _upper_edge(index)
        return 0


def _bucket(duration_ns: int) -> int:
    """Octave times four, plus the two bits below the leading one."""
    value = max(duration_ns, _PER_OCTAVE)
    octave = value.bit_length() - 1
    return min(octave * _PER_OCTAVE + ((value >> (octave - 2)) & 3), _BUCKETS - 1)


def _upper_edge(bucket: int) -> int:
    octave, quarter = divmod(bucket, _PER_OCTAVE)
    return ((_PER_OCTAVE + quarter + 1) << octave) // _PER_OCTAVE
