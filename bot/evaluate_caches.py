"""What quantized caches, quantized weights and windows cost a model, on real rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from msgspec.structs import replace

from bot.config import Settings
from bot.evaluate import Options, Started, prepared
from bot.kvcache.layout import Layout
from bot.model import Checkpoint
from bot.model.baselines import Forecast
from bot.model.evaluation import Subject, cases
from bot.model.intervals import Floats
from bot.model.samples import Sample
from bot.model.streamed import Running, predict

COLUMNS = (
    "window", "kv_cache_dtype", "weight_dtype", "nbytes", "horizon", "rank_ic", "daily_rank_ic",
    "log_loss", "pinball", "direction_kl", "direction_agreement",
)  # fmt: skip
_METRICS = ("rank_ic", "daily_rank_ic", "log_loss", "pinball")
_KINDS = (
    ("float32", "float32"),
    ("int8", "float32"),
    ("fp8_e4m3", "float32"),
    ("k8v4", "float32"),
    ("int4", "float32"),
    ("int8", "int8"),
)
WINDOWS = (256, 512, 1_024, 2_048, 4_096)


def costs(
    settings: Settings,
    options: Options,
    started: Started,
    *,
    windows: tuple[int, ...] = WINDOWS,
) -> list[dict[str, Any]]:
    """A row a cache and horizon: the metrics over all symbols, and how far the answers are from
    those of the float32 cache and weights at the same window.

    ``direction_kl`` is the mean Kullback-Leibler divergence of the probabilities of a rise, in
    nats, ``direction_agreement`` the share of rows on the same side of even odds. Every kind at
    the model's own window, then float32 and int8 at the others. Raises as ``evaluate`` does.
    """
    checkpoint, found = prepared(settings, options, started)
    own = checkpoint.card.config.window
    plans = [(own, *kind) for kind in _KINDS]
    plans += [(w, *kind) for w in windows if w != own for kind in _KINDS[:2]]
    exact: dict[int, list[Forecast]] = {}
    told = []
    for window, kv_cache_dtype, weight_dtype in plans:
        running = Running(
            kv_cache_dtype=kv_cache_dtype,
            weight_dtype="int8" if weight_dtype == "int8" else "float32",
            window=window,
        )
        progress = started(f"window {window}, {kv_cache_dtype} cache, {weight_dtype} weights")
        said = [predict(checkpoint, sample, running, progress) for sample in found]
        reference = exact.setdefault(window, said)
        for row in _rows(checkpoint, found, said, reference, options):
            head = {
                "window": window,
                "kv_cache_dtype": kv_cache_dtype,
                "weight_dtype": weight_dtype,
                "nbytes": _nbytes(checkpoint, running),
            }
            told.append(head | row)
    return told


def _rows(
    checkpoint: Checkpoint,
    found: list[Sample],
    said: list[Forecast],
    reference: list[Forecast],
    options: Options,
) -> Iterator[dict[str, Any]]:
    name = checkpoint.card.name
    outcome = np.concatenate([sample.outcome for sample in found])
    ts = np.concatenate([sample.ts for sample in found])
    outcome = np.where((ts >= options.since_ns)[:, None], outcome, np.nan)
    of = np.repeat(np.arange(len(found)), [len(sample.ts) for sample in found])
    joined = Forecast(
        np.concatenate([each.expected for each in said]),
        _chances(said),
        np.concatenate([each.quantiles for each in said if each.quantiles is not None]),
    )
    before = _chances(reference)
    for index, case in enumerate(
        cases(checkpoint.card, Subject("all", ts, of, outcome, {name: joined}), cost=options.cost)
    ):
        kept = case.kept
        now, then = _chances(said)[kept, index], before[kept, index]
        row: dict[str, Any] = {"horizon": case.horizon_ns / 1e9}
        for metric in _METRICS:
            score = case.score(metric, name)
            value = math.nan if score is None else score.estimate
            row[metric] = None if math.isnan(value) else value
        row["direction_kl"] = float(divergence(then, now).mean()) if len(kept) else None
        row["direction_agreement"] = float(((now > 0.5) == (then > 0.5)).mean())
        yield row


def divergence(p: Floats, q: Floats) -> Floats:
    """The Kullback-Leibler divergence [n] of a coin of ``q`` from one of ``p``, in nats."""
    p, q = (np.clip(x, 1e-9, 1 - 1e-9) for x in (p, q))
    result: Floats = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return result


def _chances(said: list[Forecast]) -> Floats:
    return np.concatenate([each.chance for each in said if each.chance is not None])


def _nbytes(checkpoint: Checkpoint, running: Running) -> int:
    """Of one full window."""
    config = replace(checkpoint.card.config, window=running.window)
    spec = config.cache_spec(running.kind, kv_cache_dtype=running.kv_cache_dtype, model="bytes")
    return round(Layout(spec).token_bytes * running.window)
