"""What is measured of the feed beside a run, and put into the queue like everything else."""

from __future__ import annotations

from msgspec import Struct


class FeedLatency(Struct, frozen=True, tag=True, gc=False):
    """From the venue's matching to our inbox, on the venue's clock, over the last seconds.

    ``messages`` of books and trades of ``category`` were looked at; first snapshots, which Bybit
    sends up to 3 s old, are not.
    """

    ts: int
    category: str
    messages: int
    p50_ns: int
    p99_ns: int
    exchange_ts: int = 0
