"""A picture of the cache bench: bytes of one full window by context and kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def plot(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """One panel a model, both axes logarithmic; the suffix is the format.

    Raises ModuleNotFoundError without matplotlib (extra ``bench``).
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional extra

    memory = [row for row in rows if row["measure"] == "memory"]
    models = sorted({row["model"] for row in memory})
    figure = Figure(figsize=(6 * max(len(models), 1), 5), layout="constrained")
    for index, model in enumerate(models):
        axes = figure.add_subplot(1, len(models), index + 1)
        _draw(axes, [row for row in memory if row["model"] == model])
        axes.set_title(f"model {model}")
    figure.savefig(file)


def _draw(axes: Any, rows: list[dict[str, Any]]) -> None:
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault(f"{row['kind']}, {row['kv_cache_dtype']}", []).append(row)
    for name, line in lines.items():
        contexts = [row["context"] for row in line]
        axes.plot(contexts, [row["nbytes"] / 2**20 for row in line], marker="o", label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlabel("context, tokens")
    axes.set_ylabel("one full window, MiB")
    axes.legend(fontsize="small")
