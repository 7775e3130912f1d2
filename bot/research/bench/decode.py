"""How long one more token takes: our caches natively and in torch, no cache, and the peers.

Everything of a cell is measured in turn, round by round, so that a busy machine slows all alike;
the roofline, the time in which the same threads read the step's bytes, is one of the entries.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from msgspec import Struct
from torch import Tensor

from bot.kvcache import native
from bot.model.native import NativeDecoder, WeightDtype
from bot.model.transformer import CausalTransformer
from bot.research.bench import decode_peers
from bot.research.bench.decode_paths import (
    Cell,
    Past,
    Path,
    build_model,
    build_past,
    native_path,
    no_cache,
    torch_path,
)

CONTEXTS = (256, 512, 1024, 2048, 4096)
_COLD_BYTES = 128 << 20
_NATIVE_KINDS: tuple[tuple[WeightDtype, str], ...] = (
    ("int8", "int8"), ("float32", "int8"), ("float32", "float32"),
)  # fmt: skip
_REPEATED_NS = 5_000_000
"""A step faster than this is warm only after others: steps of so long are not measured, then some
are. Caches and clock have then forgotten the entry before, and the pause."""
_REPEATS = 8
_SETTLE_S = 0.01
"""Between two entries: the threads of the one before still spin for a while, on our cores."""


class Row(Struct, frozen=True):
    """One line of the report. ``native_cold`` steps follow 128 MB that their threads read."""

    path: str
    model: str
    context: int
    batch: int
    threads: int
    kv_cache_dtype: str
    weight_dtype: str
    p50_us: float
    p99_us: float
    nbytes: int
    rel_error: float
    roofline_us: float | None


class Plan(Struct, frozen=True):
    """What to measure, and for how long at most."""

    models: tuple[str, ...] = ("A", "B")
    contexts: tuple[int, ...] = CONTEXTS
    most_threads: int = 2
    rounds: int = 30
    no_cache_rounds: int = 5
    compile_budget_s: float = 120.0
    deadline_s: float = 540.0
    peers: bool = True
    batch: int = 16


QUICK = Plan(
    contexts=(256,),
    rounds=8,
    no_cache_rounds=2,
    compile_budget_s=0,
    deadline_s=20,
    peers=False,
)
"""Under half a minute: what changed since the last commit."""


class _Entry(Struct):
    """Something measured, and its times."""

    path: Path
    chill: Callable[[], None] | None = None
    """Before each step that is measured cold: empties the caches."""
    times_ns: list[int] = []
    roofline: _Entry | None = None

    @property
    def cold(self) -> bool:
        return self.chill is not None


def rows(plan: Plan, say: Callable[[str], None] = lambda _: None) -> Iterator[Row]:
    """Measure cell by cell; ``say`` hears of progress and of what was left out."""
    until = time.monotonic() + plan.deadline_s
    peers = decode_peers.Peers(plan.compile_budget_s, say)
    with torch.inference_mode():
        for cell in _cells(plan):
            if time.monotonic() > until:
                say(f"no time left for {cell}")
                continue
            say(f"model {cell.model}, {cell.context} tokens, batch {cell.batch}, "
                f"{cell.threads} threads")  # fmt: skip
            with _torch_threads(cell.threads):
                yield from _measured(plan, cell, peers)


def _cells(plan: Plan) -> Iterator[Cell]:
    """The longest context first: what a deadline cuts off is what lies between."""
    most = plan.most_threads
    ordered = sorted(plan.contexts, reverse=True)
    for context in ordered[0::2] + ordered[1::2]:
        if "B" in plan.models:
            yield Cell("B", context, 1, 1)
            if most > 1:
                yield Cell("B", context, 1, most)
            if context == 1024:
                yield Cell("B", context, plan.batch, most)
        if "A" in plan.models:
            yield Cell("A", context, 1, most)


def _measured(plan: Plan, cell: Cell, peers: decode_peers.Peers) -> Iterator[Row]:
    model, past = build_model(cell), build_past(cell)
    entries = list(_entries(cell, model, past))
    expected = model(torch.cat((past.before, past.coming[0]), dim=1))[:, -1]
    errors: list[float] = []
    for entry in entries:  # a cold entry follows its warm twin and has the same path
        errors.append(errors[-1] if entry.cold else _relative(entry.path.step(), expected))
    if plan.peers and cell.batch == 1 and decode_peers.installed():
        extra = [_Entry(path, times_ns=[]) for path in peers.paths(cell, model)]
        errors += [entry.path.rel_error or 0.0 for entry in extra]
        entries += extra
    entries.append(_Entry(no_cache(model, past, plan.no_cache_rounds), times_ns=[]))
    errors.append(0.0)
    roofs = [entry.roofline for entry in entries if entry.roofline is not None]
    for index in range(plan.rounds):
        for entry in entries + roofs:
            if index < entry.path.rounds:
                _time(entry)
    for entry, error in zip(entries, errors, strict=True):
        yield _row(cell, entry, error)


def _entries(cell: Cell, model: CausalTransformer, past: Past) -> Iterator[_Entry]:
    filler: NativeDecoder | None = None
    if native.available():
        waste = torch.ones(_COLD_BYTES, dtype=torch.uint8)
        for weight_dtype, kv_cache_dtype in _NATIVE_KINDS:
            decoder = NativeDecoder(model, weight_dtype, cell.threads)
            path = native_path(cell, decoder, model, past, weight_dtype, kv_cache_dtype)
            yield from _with_roofline(path, decoder)
            if weight_dtype == kv_cache_dtype and cell.batch == 1:
                # by its own team: torch's threads would spin on our processors for a while
                yield from _with_roofline(path, decoder, partial(decoder.read, waste))
            if weight_dtype == "float32":
                filler = decoder
    for kv_cache_dtype in ("float32", "int8"):
        yield _Entry(torch_path(cell, model, past, kv_cache_dtype, filler), times_ns=[])


def _with_roofline(
    path: Path, decoder: NativeDecoder, chill: Callable[[], None] | None = None
) -> Iterator[_Entry]:
    data = torch.zeros(path.nbytes, dtype=torch.uint8)
    data.fill_(1)  # pages of its own, not the one page of zeros

    def read() -> Tensor:
        decoder.read(data)
        return data

    roof = _Entry(Path("roofline", "", "", path.nbytes, read), chill=chill, times_ns=[])
    yield _Entry(path, chill=chill, times_ns=[], roofline=roof)


def _relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


def _time(entry: _Entry) -> None:
    step, clock = entry.path.step, time.perf_counter_ns
    time.sleep(_SETTLE_S)
    fast = not entry.cold and bool(entry.times_ns) and entry.times_ns[-1] < _REPEATED_NS
    entry.path.prepare()
    if fast:
        warm_ns = clock() + _REPEATED_NS
        while clock() < warm_ns:
            step()
    for _ in range(_REPEATS if fast else 1):
        if entry.chill is not None:
            entry.chill()
        began = clock()
        step()
        entry.times_ns.append(clock() - began)


def _row(cell: Cell, entry: _Entry, error: float) -> Row:
    path, roof = entry.path, entry.roofline
    return Row(
        path=f"{path.name}_cold" if entry.cold else path.name,
        model=cell.model,
        context=cell.context,
        batch=cell.batch,
        threads=cell.threads,
        kv_cache_dtype=path.kv_cache_dtype,
        weight_dtype=path.weight_dtype,
        p50_us=_quantile_us(entry.times_ns, 0.5),
        p99_us=_quantile_us(entry.times_ns, 0.99),
        nbytes=path.nbytes,
        rel_error=error,
        roofline_us=None if roof is None else _quantile_us(roof.times_ns, 0.5),
    )


def _quantile_us(times_ns: list[int], level: float) -> float:
    if level == 0.5:
        return float(statistics.median(times_ns)) / 1000
    ordered = sorted(times_ns)
    return ordered[min(int(len(ordered) * level), len(ordered) - 1)] / 1000


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
