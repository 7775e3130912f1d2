"""`bot bench feed` over a loopback socket: ours, picows with a dict book, and pybit, in turns."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bot.core.events import Frame
from bot.research.bench import clients, made_feed, path
from bot.research.bench.blast import PACE_S, PACED, PATH, Blaster, blasting
from bot.research.bench.clients import Read

_PACED_S = 5.0
"""How long the latency is watched."""
NAMES = ("ours", "picows_book", "picows_float_book", "pybit_raw")
"""The dict book is keyed by Bybit's texts, which is exact as ours is, or by floats."""


def feed(*, messages: int, rounds: int) -> dict[str, Any]:
    """Messages a second from the socket to the strategy's callback, beside two other readers.

    The figures without a name are ours over the socket; ``p50_us`` and ``p99_us`` are from before
    the send in the other process to the callback, at 2,000 messages a second.
    """
    result = path.feed(None, messages=messages, rounds=rounds)
    made = made_feed.make(messages)
    frames = [frame.data for frame in made.frames if isinstance(frame, Frame)]
    paced = min(len(frames), round(_PACED_S / PACE_S))
    reads: dict[str, list[Read]] = {name: [] for name in NAMES}
    with blasting(frames, paced) as server, _one_core():
        for number in range(rounds):
            # Each round begins with another one, so that none has the better place.
            for name in NAMES[number % len(NAMES) :] + NAMES[: number % len(NAMES)]:
                reads[name].append(_read(name, server, messages))
        delays_us = _delays_us(server, paced)
    return result | _row(messages, reads, delays_us, in_process=result)


def _read(name: str, server: Blaster, messages: int) -> Read:
    gc.collect()
    gc.freeze()
    url = server.url(PATH)
    if name == "ours":
        return asyncio.run(_ours(url, messages))[0]
    if name != "pybit_raw":
        return asyncio.run(clients.plain(url, messages, is_exact=name == "picows_book"))
    return clients.pybits(url, messages)


async def _ours(url: str, messages: int, *, stamped: bool = False) -> tuple[Read, list[int]]:
    symbols = (made_feed.SYMBOL,)
    opening = made_feed.opening()[:2]  # without a connection: the stream opens its own
    return await clients.ours(
        url, lambda told: path.engine(symbols, told), opening, messages, stamped=stamped
    )


def _delays_us(server: Blaster, paced: int) -> list[float]:
    gc.collect()
    gc.freeze()
    _, heard_ns = asyncio.run(_ours(server.url(PACED), paced, stamped=True))
    return [(b - a) / 1e3 for a, b in zip(server.sent_ns(), heard_ns, strict=True)]


def _row(
    messages: int,
    reads: dict[str, list[Read]],
    delays_us: Sequence[float],
    *,
    in_process: dict[str, Any],
) -> dict[str, Any]:
    ours = sorted(reads["ours"], key=lambda read: read.wall_s)[len(reads["ours"]) // 2]
    cuts = statistics.quantiles(delays_us, n=100)
    rows: dict[str, Any] = {}
    for name in NAMES:
        walls = [messages / read.wall_s for read in reads[name]]
        rows[f"{name}_messages_per_s"] = round(statistics.median(walls))
        cpu_s = statistics.median(read.cpu_s for read in reads[name])
        rows[f"{name}_cpu_us_per_message"] = round(cpu_s / messages * 1e6, 2)
    for name in NAMES[1:]:
        pairs = zip(reads[name], reads["ours"], strict=True)
        rows[f"ratio_to_{name}"] = round(
            statistics.median(p.wall_s / o.wall_s for p, o in pairs), 2
        )
    return {
        "transport": "loopback socket, server in another process",
        "wall_s": round(ours.wall_s, 4),
        "messages_per_s": round(messages / ours.wall_s),
        "messages_per_s_all": sorted(round(messages / read.wall_s) for read in reads["ours"]),
        "p50_us": round(cuts[49], 1),
        "p99_us": round(cuts[98], 1),
        "paced_messages_per_s": round(1 / PACE_S),
        **rows,
        "in_process_messages_per_s": in_process["messages_per_s"],
        "in_process_p50_us": in_process["p50_us"],
        "in_process_p99_us": in_process["p99_us"],
        "cores": len(os.sched_getaffinity(0)),
    }


@contextmanager
def _one_core() -> Iterator[None]:
    """The reader on one core; the server takes the last one by itself."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
